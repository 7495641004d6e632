"""Synthetic scenes: known factors in real layouts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decur.config import DatasetSettings, ScenesSettings
from decur.datasets import Record, bigearthnet, load
from decur.errors import DecurError
from decur.imagery.depth import decode_sun_depth
from decur.scenes.draw import SCENE_KINDS, draw_factors, write_scenes
from decur.scenes.layouts import encode_depth
from decur.scenes.render import LEVELS, Factors, render
from decur.shards import Sample

SEEN = {"sar-optical": ("sar", "optical"), "rgb-dem": ("rgb", "dem"), "rgb-depth": ("rgb", "depth")}
MODALITIES = {
    "sar-optical": SEEN["sar-optical"],
    "rgb-dem": ("rgb", "dem"),
    "rgb-depth": ("rgb", "hha"),
}


def settings(train: int = 5, test: int = 3, seed: int = 0) -> DatasetSettings:
    scenes = ScenesSettings(train=train, test=test, seed=seed)
    return DatasetSettings(source="scenes", scenes=scenes, pixels=48, seasons=2)


def read_all(dataset: str, root: Path) -> list[tuple[Record, Sample]]:
    module = load(dataset)
    return [(r, module.read(r, settings())) for r in module.scan(root, settings())]


@pytest.fixture(scope="module", params=list(SCENE_KINDS))
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp(request.param)
    write_scenes(request.param, root, settings())
    return request.param, root


@pytest.fixture(scope="module")
def samples(written: tuple[str, Path]) -> list[tuple[Record, Sample]]:
    return read_all(*written)


@pytest.fixture
def table(written: tuple[str, Path]) -> pd.DataFrame:
    return pd.read_csv(written[1] / "scenes.csv", dtype={"id": str}).set_index("id")


def test_every_scene_is_read_back_by_the_module_of_its_dataset(written, samples, table):
    dataset, _ = written
    counts = {"train": 16, "test": 16} if dataset == "geonrw" else {"train": 5, "test": 3}
    assert table["split"].value_counts().to_dict() == counts
    assert {record.id for record, _ in samples} == set(table.index)
    seasons = 2 if dataset == "ssl4eo-s12" else 1
    for _, sample in samples:
        assert tuple(sample.arrays) == MODALITIES[SCENE_KINDS[dataset]]
        for array in sample.arrays.values():
            assert array.shape[0] == seasons and array.shape[2:] == (48, 48)


def test_the_layout_has_the_official_splits(written, samples, table):
    dataset, _ = written
    names = {"ssl4eo-s12": {"test": "train"}, "bigearthnet": {"test": "val"}}.get(dataset, {})
    expected = table["split"].replace(names)
    assert all(record.split == expected[record.id] for record, _ in samples)


def test_no_stored_array_is_flat_or_saturated(samples):
    for _, sample in samples:
        for array in sample.arrays.values():
            assert np.mean(array == 255) < 0.3
            assert array.std(axis=(0, 2, 3)).max() > 5


def test_labels_follow_from_the_factors(written, samples, table):
    dataset, _ = written
    rows = [
        (sample, Factors(*table.loc[record.id, list(Factors._fields)]))
        for record, sample in samples
    ]
    for sample, factors in rows:
        if dataset == "bigearthnet":
            expected = [factors.common, 7 + factors.unique1, 13 + factors.unique2]
            assert sample.labels is not None
            assert np.flatnonzero(sample.labels).tolist() == expected
        elif dataset == "ssl4eo-s12":
            assert sample.labels is None and sample.mask is None
        else:
            assert sample.mask is not None
            assert sample.mask.shape == (48, 48)
            assert len(np.unique(sample.mask)) in (2, 3)
    if rows[0][0].mask is not None:
        by_factors = {f: tuple(np.unique(s.mask)) for s, f in rows if len(np.unique(s.mask)) == 3}
        assert len(set(by_factors.values())) > 1


def test_a_factor_of_one_modality_does_not_change_the_other():
    for scenario, (first, second) in SEEN.items():
        one = render(scenario, Factors(1, 2, 3), np.random.default_rng(0), 48, 2)
        other1 = render(scenario, Factors(1, 4, 3), np.random.default_rng(0), 48, 2)
        other2 = render(scenario, Factors(1, 2, 5), np.random.default_rng(0), 48, 2)
        assert np.array_equal(one[second], other1[second])
        assert not np.array_equal(one[first], other1[first])
        assert np.array_equal(one[first], other2[first])
        assert not np.array_equal(one[second], other2[second])


def test_the_common_factor_changes_both_modalities():
    for scenario, modalities in SEEN.items():
        one = render(scenario, Factors(1, 2, 3), np.random.default_rng(0), 48)
        other = render(scenario, Factors(3, 2, 3), np.random.default_rng(0), 48)
        assert all(not np.array_equal(one[m], other[m]) for m in modalities)


def test_levels_are_balanced_and_every_combination_comes_once_a_block():
    for dataset, scenario in SCENE_KINDS.items():
        count = int(np.prod(LEVELS[scenario]))
        block = {draw_factors(dataset, 3, index) for index in range(count, 2 * count)}
        assert len(block) == count


def test_other_seeds_and_datasets_draw_other_scenes():
    draws = [
        [draw_factors(dataset, seed, index) for index in range(20)]
        for dataset, seed in (("sun-rgbd", 0), ("sun-rgbd", 1), ("nyuv2", 0))
    ]
    assert draws[0] != draws[1] and draws[0] != draws[2]


def test_scenes_do_not_depend_on_the_number_of_workers_or_the_other_scenes(
    written, samples, tmp_path
):
    dataset, _ = written
    write_scenes(dataset, tmp_path, settings(), workers=2)
    again = read_all(dataset, tmp_path)
    assert [s.checksum() for _, s in again] == [s.checksum() for _, s in samples]


def test_every_class_of_bigearthnet_and_geonrw_occurs():
    levels = LEVELS["sar-optical"]
    assert sum(levels) == len(bigearthnet.CORINE)
    classes = {
        int(value)
        for k in range(6)
        for value in np.unique(
            render("rgb-dem", Factors(k, k, k), np.random.default_rng(k), 48)["mask"]
        )
    }
    assert classes == set(range(1, 11))


def test_scenes_scale_with_the_pixels():
    coarse = render("rgb-dem", Factors(2, 3, 4), np.random.default_rng(0), 48)["mask"]
    fine = render("rgb-dem", Factors(2, 3, 4), np.random.default_rng(0), 144)["mask"]
    assert np.mean(fine[1::3, 1::3] == coarse) > 0.99


def test_depth_survives_the_encoding_of_sun_rgbd():
    depth = np.linspace(0, 7.9, 1000).reshape(10, 100)
    assert np.abs(decode_sun_depth(encode_depth(depth)) - depth).max() < 0.001


def test_a_dataset_without_scenes_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DecurError, match=r"datasets\.ombria\.source: no scenes"):
        write_scenes("ombria", tmp_path, settings())
    with pytest.raises(DecurError, match=r"datasets\.geonrw\.scenes: not set"):
        write_scenes("geonrw", tmp_path, DatasetSettings())
