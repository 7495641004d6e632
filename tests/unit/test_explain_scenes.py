"""Explainers against the known factors of synthetic scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from decur.config import DatasetSettings, ScenesSettings
from decur.config.explainers import Saliency as SaliencyRecipe
from decur.config.explainers import Spectral
from decur.download.run import download
from decur.explain import saliency, spectral
from decur.explain.scene_factors import effects
from decur.explain.subject import Subject, load_subject
from decur.preprocess.run import preprocess
from decur.pretrain.loop import train_run
from tests.support.explaining import explain_settings
from tests.support.pretraining import settings as pretrain_settings

SCENES = ScenesSettings(train=16, test=16, seed=5)
RECIPE = SaliencyRecipe(samples=6, pixels=32)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """DeCUR on aerial scenes, its weights as they are after one step."""
    root = tmp_path_factory.mktemp("scenes")
    settings = DatasetSettings(source="scenes", scenes=SCENES, pixels=32)
    download("geonrw", settings, root / "raw")
    preprocess("geonrw", settings, root / "raw", root / "geonrw")
    base = pretrain_settings(
        scenario="rgb-dem", dataset="geonrw", modalities={"rgb": "rgb", "dem": "dem"}, epochs=1
    )
    weights = train_run(base, root / "geonrw", Path(root / "run"))
    return load_subject(explain_settings("saliency", base), weights, root / "geonrw")[0]


def test_saliency_is_compared_with_each_factor_that_a_modality_shows(subject):
    frame = saliency.explain(subject, RECIPE).frame
    expected = {
        f"{modality} {part} on {factor}"
        for modality, own in (("rgb", "unique1"), ("dem", "unique2"))
        for part in ("common", "unique")
        for factor in ("common", own)
    }
    assert set(frame) == {"sample", "common", "unique", *expected}
    lifts = frame[sorted(expected)].stack().dropna()
    assert len(lifts) > 12 and lifts.between(0.2, 3).all()


def test_a_map_that_shows_where_a_factor_acts_has_a_high_lift_on_it_alone(subject, monkeypatch):
    """Planted: the unique maps are what the unique factor changes, the common ones its opposite."""
    rows = subject.samples(RECIPE.samples)

    def planted(_, branch: int, x: torch.Tensor) -> torch.Tensor:
        modality, factor = (("rgb", "unique1"), ("dem", "common"))[branch]
        acting = [effects(subject.shards, int(r))[modality][factor].mean(axis=0) for r in rows]
        maps = torch.from_numpy(np.stack(acting))
        return torch.stack([maps.amax() - maps, maps], dim=1)

    monkeypatch.setattr(saliency, "cam_maps", planted)
    frame = saliency.explain(subject, RECIPE).frame
    for name in ("rgb unique on unique1", "dem unique on common"):
        assert (frame[name] > 1.2).all()
        assert (frame[name.replace(" unique ", " common ", 1)] < 1).all()


def test_bands_are_told_with_what_each_factor_changes_in_them(subject):
    found = spectral.explain(subject, Spectral(samples="all", steps=8))
    frame = found.frame.set_index(["modality", "part", "band"])
    rows = subject.rows
    blue = [effects(subject.shards, int(row))["rgb"]["unique1"][2].mean() for row in rows]
    for part in ("common", "unique"):
        assert frame.loc["rgb", part, "blue"]["change_unique1"] == pytest.approx(np.mean(blue))
    assert frame.loc["rgb"]["change_unique2"].isna().all()
    assert frame.loc["dem"]["change_unique2"].gt(0).all()
    assert frame["change_common"].gt(0).all() and frame["lift_common"].between(0.3, 3).all()
    assert 0 < found.facts["completeness_error"] < 0.2
