"""Rasters as strangers bring them give the features of a clean one, or one line: none is silent."""

from pathlib import Path

import numpy as np
import pytest
import torch

from decur.artifacts.provenance import Origin
from decur.artifacts.records import Weights
from decur.embed import Encoder, embed_images, embed_raster, load_encoder
from decur.embed.run import PLAIN
from decur.errors import DecurError
from decur.models.two_branch import TwoBranch
from decur.weights import save_model
from decur.weights.net_input import eight_bits, recorded
from tests.support import HOME
from tests.support.hostile import CASES
from tests.support.hostile_files import S2, SCENES, gap

BANDS = {
    "optical": S2,
    "sar": ("VV", "VH"),
    "thermal": ("kelvin",),
    "photo": ("red", "green", "blue"),
    "ground": ("elevation",),
}
DATASETS = {"optical": "ssl4eo-s12", "sar": "ssl4eo-s12", "ground": "geonrw"}
NAMES = {"ground": "dem"}
LIMITS = {"thermal": [[270.0, 310.0]]}
WINDOW, STRIDE = 32, 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Weights of an untrained small net for each modality, with the statistics of its scene."""
    folder, paths = tmp_path_factory.mktemp("weights"), {}
    for modality, bands in BANDS.items():
        torch.manual_seed(0)
        model = TwoBranch("tiny", [len(bands), 1], dim=8, layers=1).eval()
        name = NAMES.get(modality, modality)
        settings = {
            "arch": "tiny",
            "crop": WINDOW,
            "dataset": DATASETS.get(modality, "mine"),
            "modalities": {name: "measured", "other": "measured"},
        }
        metadata = Weights(
            provenance=Origin(settings=settings),
            bands={name: tuple(bands), "other": ("one",)},
            limits={name: LIMITS.get(modality)},
        )
        stored = eight_bits(SCENES[modality](), recorded(metadata, name))
        low, high = np.percentile(stored, [1, 99], axis=(1, 2)).tolist()
        metadata = metadata.model_copy(update={"seen": {name: {"low": low, "high": high}}})
        paths[modality] = folder / f"{modality}.safetensors"
        save_model(paths[modality], model, metadata)
    return paths


def reference(encoder: Encoder, scene: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Features of all windows, which are cut out and filled here."""
    rows, columns = (range(0, n - WINDOW + 1, STRIDE) for n in scene.shape[1:])
    found = np.full((len(rows), len(columns), encoder.backbone.feature_dim), np.nan)
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            place = slice(top, top + WINDOW), slice(left, left + WINDOW)
            window, good = scene[:, *place].copy(), valid[place]
            if good.mean() < 0.5:
                continue
            for band in window:
                band[~good] = band[good].mean()
            found[i, j] = encoder([window])[0]
    return found


@pytest.mark.parametrize("case", CASES, ids=[f"{c.topic}: {c.words}" for c in CASES])
def test_features_are_right_or_one_line_says_what_is_wrong(tmp_path, weights, case):
    scene, path = SCENES[case.modality](), tmp_path / f"raster{case.suffix}"
    case.write(path, scene)
    name, own = NAMES.get(case.modality, case.modality), weights[case.modality]
    encoder, clean = load_encoder(own, name, scale=case.scale), load_encoder(own, name)

    def features() -> np.ndarray:
        if path.suffix in PLAIN:
            return embed_images(encoder, [path])
        return embed_raster(encoder, path, stride=STRIDE).features

    if case.error:
        with pytest.raises(DecurError, match=case.error) as raised:
            features()
        assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
        return
    seen = case.like(scene) if case.like else scene
    windows = reference(clean, seen, ~gap() if case.holes else np.ones(seen.shape[1:], bool))
    expected = clean([seen]) if path.suffix in PLAIN else windows
    found = features()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    off = np.nan_to_num(np.abs(found - expected))
    assert (off <= 1e-3 * np.nanstd(windows, axis=(0, 1)) + 1e-8).all()


def test_the_table_in_the_docs_has_every_case():
    lines = (HOME / "docs" / "rasters.md").read_text().splitlines()
    for case in CASES:
        outcome = "one line" if case.error else "as the clean raster"
        assert f"| {case.topic} | {case.words} | {case.modality} | {outcome} |" in lines
