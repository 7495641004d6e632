"""What is explained: the right model, its parts, samples it has not seen; and what is written."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from decur.artifacts.provenance import file_checksum, fingerprint
from decur.cli import main
from decur.config import PretrainSettings
from decur.errors import DecurError
from decur.explain.alignment import alignment_loss
from decur.explain.run import explain
from decur.explain.subject import embedding_parts, load_subject
from decur.pretrain.loop import train_run
from tests.support.explaining import explain_settings
from tests.support.pretraining import settings as pretrain_settings


@pytest.fixture
def untrained(shards_root: Path, tmp_path: Path) -> tuple[PretrainSettings, Path]:
    """Settings and weights of a run that has learnt nothing."""
    base = pretrain_settings(method="random")
    return base, train_run(base, shards_root, tmp_path / "run")


@pytest.fixture
def trained(shards_root: Path, tmp_path: Path) -> tuple[PretrainSettings, Path]:
    base = pretrain_settings(epochs=1)
    return base, train_run(base, shards_root, tmp_path / "decur")


def test_only_decur_has_common_and_unique_dimensions_and_only_those_that_it_has():
    parts = embedding_parts(pretrain_settings(), 32)
    assert parts == {"common": slice(0, 24), "unique": slice(24, 32)}
    assert embedding_parts(pretrain_settings(dim_common=32), 32) == {"common": slice(0, 32)}
    assert embedding_parts(pretrain_settings(dim_common=0), 32) == {"unique": slice(0, 32)}
    assert embedding_parts(pretrain_settings(method="barlow-twins"), 32) == {"all": slice(0, 32)}


def test_aligned_dimensions_have_no_loss_and_independent_ones_one():
    rng = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 4000, 3, generator=rng)
    z2[:, 0] = 2 * z1[:, 0] + 1
    torch.testing.assert_close(alignment_loss(z1, z2), torch.tensor([0.0, 1, 1]), atol=0.1, rtol=0)


COLUMNS = {
    "alignment": ["batch", "dimension", "part", "loss"],
    "tsne": ["batch", "modality", "dimension", "part", "x", "y"],
    "gradcam": ["sample", "modality", "part", "y", "x", "value"],
    "saliency": ["sample", "common", "unique"],
    "spectral": ["modality", "part", "band", "attribution"],
}
LINES = {
    "alignment": 2 * 32,  # two batches fit into the 24 held-out samples
    "tsne": 2 * 2 * 32,
    "gradcam": 2 * 2 * 2 * 2 * 2,
    "saliency": 5,
    "spectral": 2 * (2 + 3),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_explainer_writes_a_table_and_a_record_the_same_each_time(
    kind, trained, shards_root, tmp_path
):
    base, weights = trained
    out = tmp_path / "explain" / f"{kind}.csv"
    explain(kind, explain_settings(kind, base), weights, shards_root, out)
    frame = pd.read_csv(out, dtype={"sample": str})
    assert (list(frame), len(frame)) == (COLUMNS[kind], LINES[kind])
    assert frame.notna().all(axis=None)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["files"] == {out.name: file_checksum(out)}
    assert record["provenance"]["inputs"]["weights.safetensors"] == fingerprint(weights)
    assert record["provenance"]["pretrained"]["settings"]["method"] == "decur"
    before = out.read_bytes()
    explain(kind, explain_settings(kind, base), weights, shards_root, out)
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", ["alignment.csv", "alignment.json"])
def test_a_file_of_somebody_else_is_never_replaced(untrained, shards_root, tmp_path, name):
    base, weights = untrained
    (tmp_path / name).write_text("{}")
    chosen = explain_settings("alignment", base)
    with pytest.raises(DecurError, match=re.escape(name)):
        explain("alignment", chosen, weights, shards_root, tmp_path / "alignment.csv")
    assert (tmp_path / name).read_text() == "{}"


def test_samples_are_those_that_the_run_was_not_trained_on(untrained, shards_root):
    base, weights = untrained
    subject, _ = load_subject(explain_settings("saliency", base), weights, shards_root)
    assert set(subject.shards.index["split"].iloc[subject.rows]) == {"test"}
    assert len(subject.samples("all")) == 24
    np.testing.assert_array_equal(subject.samples(3), subject.rows[[0, 11, 23]])
    batches = np.concatenate(subject.batches(10, 5))
    assert len(batches) == len(set(batches)) == 20 and set(batches) <= set(subject.rows)
    both = base.model_copy(update={"splits": ("train", "test")})
    subject, _ = load_subject(explain_settings("saliency", both), weights, shards_root)
    assert len(subject.rows) == 72


def test_fewer_samples_than_a_batch_are_one_batch_and_one_sample_is_none(
    untrained, shards_root, monkeypatch
):
    base, weights = untrained
    subject, _ = load_subject(explain_settings("tsne", base), weights, shards_root)
    assert [len(rows) for rows in subject.batches(128, 4)] == [24]
    monkeypatch.setattr(subject.shards, "rows", lambda split: np.array([5]))
    with pytest.raises(DecurError, match="fewer than two samples"):
        subject.batches(128, 4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "decur"}, "was pretrained with method random, but the settings have decur"),
        ({"seed": 2}, "was pretrained with seed 1, but the settings have 2"),
        ({"dim_common": 8}, "was pretrained with dim_common 24, but the settings have 8"),
        ({"projector_layers": 2}, "does not fit tiny with 32 dimensions"),
    ],
)
def test_weights_of_another_run_are_refused_in_one_line(untrained, shards_root, changes, told):
    base, weights = untrained
    other = base.model_copy(update=changes)
    with pytest.raises(DecurError, match=told) as caught:
        load_subject(explain_settings("gradcam", other), weights, shards_root)
    assert str(weights) in str(caught.value) and "\n" not in str(caught.value)


def test_the_verb_names_an_unknown_explainer_and_a_wrong_setting(untrained, shards_root, capsys):
    base, weights = untrained
    places = ["--weights", str(weights), "--shards", str(shards_root), "--out", "x.csv"]
    assert main(["explain", "shap", "--settings", "{}", *places]) == 1
    assert "explain 'shap': unknown; known are alignment, tsne" in capsys.readouterr().err
    wrong = explain_settings("alignment", base).model_dump_json()
    assert (
        main(["explain", "tsne", "--settings", wrong.replace("batches", "bunches"), *places]) == 1
    )
    assert "unknown key 'recipe.bunches'" in capsys.readouterr().err
