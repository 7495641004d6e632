"""Where the known factors of scenes show."""

from pathlib import Path

import numpy as np
import pytest

from decur.config import DatasetSettings, ScenesSettings
from decur.datasets import load
from decur.scenes.draw import SCENE_KINDS, make_scene, scene_numbers, write_scenes
from decur.scenes.effects import SHOWS, another, scene_effects, stored
from decur.scenes.render import LEVELS, RELIEFS, Factors

SETTINGS = DatasetSettings(
    source="scenes", scenes=ScenesSettings(train=2, test=1, seed=3), pixels=36, seasons=2
)
LOSS = {("sun-rgbd", "rgb"): 12, ("sun-rgbd", "hha"): 2}
"""Grey levels that files cost: of JPEG, and of depth in whole millimetres."""


@pytest.mark.parametrize("dataset", ["ssl4eo-s12", "geonrw", "sun-rgbd"])
def test_a_scene_rendered_again_is_the_sample_that_was_stored(dataset, tmp_path: Path):
    write_scenes(dataset, tmp_path, SETTINGS)
    module, numbers = load(dataset), scene_numbers(dataset, SETTINGS)
    samples = [module.read(record, SETTINGS) for record in module.scan(tmp_path, SETTINGS)]
    assert {sample.id for sample in samples} == numbers.keys()
    for sample in samples[::9]:
        split, index = numbers[sample.id]
        again = stored(dataset, make_scene(dataset, SETTINGS, index, split), SETTINGS)
        for (name, array), image in zip(sample.arrays.items(), again, strict=True):
            off = np.abs(array[0].astype(int) - image)
            assert np.quantile(off, 0.99) <= LOSS.get((dataset, name), 0), name


@pytest.mark.parametrize("dataset", ["bigearthnet", "nyuv2"])
def test_scenes_are_numbered_as_they_were_written(dataset, tmp_path: Path):
    write_scenes(dataset, tmp_path, SETTINGS)
    records = load(dataset).scan(tmp_path, SETTINGS)
    assert {record.id for record in records} == scene_numbers(dataset, SETTINGS).keys()


@pytest.mark.parametrize("scenario", LEVELS)
def test_another_level_changes_one_factor_and_nothing_else(scenario):
    dataset = next(name for name, own in SCENE_KINDS.items() if own == scenario)
    keys = {"sar-optical": ("sar", "optical"), "rgb-dem": ("rgb", "dem")}
    first, second = keys.get(scenario, ("rgb", "depth"))
    factors = Factors(0, 1, 2)
    here = make_scene(dataset, SETTINGS, 0, "train", factors).arrays
    for name, same in (("unique1", second), ("unique2", first)):
        other = another(scenario, factors, name)
        assert sum(a != b for a, b in zip(factors, other, strict=True)) == 1
        there = make_scene(dataset, SETTINGS, 0, "train", other).arrays
        np.testing.assert_array_equal(here[same], there[same])
        changed = first if same == second else second
        assert not np.array_equal(here[changed], there[changed])


def test_reliefs_that_draw_other_numbers_have_no_other_level():
    for level, name in enumerate(RELIEFS):
        factors = Factors(0, 0, level)
        other = another("rgb-dem", factors, "unique2")
        assert (other is None) == (name in ("smooth", "rubble"))
        if other is not None:  # the ground stays at its height and slope
            dem = [
                make_scene("geonrw", SETTINGS, 0, "train", f).arrays["dem"]
                for f in (factors, other)
            ]
            assert 1 < np.abs(dem[0] - dem[1]).max() < 15


@pytest.mark.parametrize("dataset", ["ssl4eo-s12", "geonrw", "sun-rgbd"])
def test_effects_are_of_the_factors_that_a_modality_shows(dataset):
    found = [scene_effects(dataset, SETTINGS, "train", index) for index in range(4)]
    for modality, factors in SHOWS.items():
        for effects in found:
            assert set(effects[modality]) <= set(factors)
            assert all(e.shape[1:] == (36, 36) and e.max() > 5 for e in effects[modality].values())
        assert set().union(*(effects[modality] for effects in found)) == set(factors)


def test_a_material_shows_on_the_ground_and_not_on_roofs():
    """The roofs are brightened by the ground's mean colour alone."""
    effects, _ = scene_effects("geonrw", SETTINGS, "train", 0)
    mask = make_scene("geonrw", SETTINGS, 0, "train").arrays["mask"]
    built = np.isin(mask, [4, 10, 8])
    change = effects["unique1"].mean(axis=0)
    assert change[~built].mean() > 3 * change[built].mean()
