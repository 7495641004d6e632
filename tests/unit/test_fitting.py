"""Transfer, explainers and probes compare bands and scaling of shards with those of the weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decur.artifacts.paths import Cell
from decur.artifacts.provenance import read_json
from decur.artifacts.records import Weights
from decur.artifacts.scaling import Scaling
from decur.config import TransferSettings
from decur.errors import DecurError
from decur.explain.subject import load_subject
from decur.imagery.band_names import band_map
from decur.imagery.bands import spread
from decur.pretrain.loop import train_run
from decur.shards import Modality, PairedShards, ShardWriter
from decur.transfer.run import transfer
from decur.weights import in_bands_of, read_weights
from tests.support.explaining import explain_settings
from tests.support.pretraining import settings
from tests.support.samples import random_sample
from tests.support.transfer import recipe

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
COLOURS = ("blue", "green", "red")
LIMITS = ((0.0, 100.0), (0.0, 200.0), (0.0, 300.0))
SAR = Modality("sar", ("VV", "VH"), "dB")


def shards(root: Path, bands=COLOURS, limits=None, order=(0, 1, 2)) -> Path:
    """72 samples, of which the optical bands are in an order."""
    scaling = "as it was" if limits is None else Scaling.stretched(limits)
    optical = Modality("optical", tuple(bands[i] for i in order), scaling)
    rng = np.random.default_rng(0)
    card = {"dataset": root.name, "title": "Pairs", "licence": "none", "homepage": "none"}
    card |= {"classes": ["a", "b", "c"], "ignore": None}
    with ShardWriter(root, [SAR, optical], card) as writer:
        for i in range(72):
            sample = random_sample(i, "train" if i < 48 else "test")
            image = rng.integers(0, 256, (2, len(bands), 20, 20), dtype=np.uint8)
            arrays = {"sar": sample.arrays["sar"], "optical": image[:, list(order)]}
            writer.add(replace(sample, arrays=arrays))
    return root


@pytest.fixture
def weights(tmp_path):
    root = shards(tmp_path / "pairs", limits=LIMITS)
    return train_run(settings(method="random"), root, tmp_path / "run")


def evaluated(weights: Path, root: Path, out: Path) -> dict:
    """Metrics of a linear classifier of both modalities."""
    chosen = TransferSettings(
        run="sar-optical/random/default/seed-1",
        pretrain=settings(method="random"),
        recipes={root.name: recipe()},
    )
    cell = Cell(root.name, "sar+optical", "linear")
    transfer(chosen, [cell], weights, root.parent, out)
    return read_json(out / str(cell) / "metrics.json")["metrics"]


def test_bands_in_another_order_are_put_into_that_of_the_weights(weights, tmp_path):
    turned = tuple(LIMITS[i] for i in (2, 1, 0))
    other = shards(tmp_path / "turned", limits=turned, order=(2, 1, 0))
    same = evaluated(weights, tmp_path / "pairs", tmp_path / "one")
    assert evaluated(weights, other, tmp_path / "two") == same
    chosen = in_bands_of(weights, read_weights(weights)[1], PairedShards(other), ["optical"])
    rows, seasons = np.arange(4), np.array([0, 1, 0, 1])
    np.testing.assert_array_equal(
        chosen.batch("optical", rows, seasons),
        PairedShards(tmp_path / "pairs").batch("optical", rows, seasons),
    )
    assert chosen.bands("optical") == COLOURS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"bands": ("B2", "B3", "B4"), "limits": LIMITS},
            "has the bands B2, B3, B4, expected blue",
        ),
        ({"limits": ((0.0, 1.0),) * 3}, "pretrained on"),
        ({"limits": None}, "was scaled to 8 bits by: as it was"),
        ({"limits": LIMITS, "order": (0, 1)}, "missing: red"),
    ],
)
def test_other_bands_or_another_scaling_are_one_line(weights, tmp_path, change, words):
    other = shards(tmp_path / "other", **change)
    with pytest.raises(DecurError, match=words) as raised:
        evaluated(weights, other, tmp_path / "out")
    assert str(other) in str(raised.value) and "\n" not in str(raised.value)
    assert not list((tmp_path / "out").rglob("*"))
    base = settings(method="random")
    with pytest.raises(DecurError, match=words):
        load_subject(explain_settings("alignment", base), weights, other)


def test_twelve_bands_of_sentinel_2_are_thirteen_with_b10_black(tmp_path):
    """As BigEarthNet is seen by backbones of SSL4EO-S12."""
    twelve = tuple(band for band in S2 if band != "B10")
    given = PairedShards(shards(tmp_path / "x", twelve, order=range(12)))
    found = in_bands_of(tmp_path, Weights(bands={"optical": S2}), given, ["optical"])
    batch = found.batch("optical", np.arange(3))
    assert not batch[:, 10].any()
    np.testing.assert_array_equal(np.delete(batch, 10, 1), given.batch("optical", np.arange(3)))
    with pytest.raises(DecurError, match="missing: B9"):
        band_map([band for band in S2 if band != "B9"], S2)


def test_each_dataset_may_be_scaled_by_its_own_mean_and_deviation():
    """As the SAR images of SSL4EO-S12 and BigEarthNet are; other limits are another scaling."""
    ours, theirs = (spread((mean,), (5.0,), "dB", (1.0, 99.0)) for mean in (-12.5, -10.9))
    assert ours.is_same(theirs) and ours.limits is None
    fixed = [found.model_copy(update={"from_dataset": False}) for found in (ours, theirs)]
    assert not fixed[0].is_same(fixed[1]) and not ours.is_same(fixed[1])
    assert fixed[0].is_same(ours)
    assert not ours.is_same(spread((-12.5,), (5.0,), "dB"))
