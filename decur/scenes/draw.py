"""Write synthetic scenes with known factors as the raw files of a real dataset.

Two sensors image a scene. A `common` factor is visible in both images, `unique1` only in the first
and `unique2` only in the second. All are independent of one another, so it can be measured how much
of each a representation keeps. `decur.scenes.render` defines the levels of the factors.
"""

import csv
import zlib
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import rasterio

from decur.cluster.workers import worker_pool
from decur.config import DatasetSettings
from decur.config.datasets import DATASETS
from decur.errors import DecurError
from decur.scenes.layouts import LAYOUTS, Scene
from decur.scenes.render import LEVELS, Factors, render

SCENE_KINDS = {
    "ssl4eo-s12": "sar-optical",
    "bigearthnet": "sar-optical",
    "geonrw": "rgb-dem",
    "sun-rgbd": "rgb-depth",
    "nyuv2": "rgb-depth",
}
COLUMNS = ("id", "split", *Factors._fields)


def write_scenes(dataset: str, root: Path, settings: DatasetSettings, workers: int = 1) -> None:
    """Write `settings.scenes` train and test scenes in the layout of a dataset, and `scenes.csv`.

    A scene depends only on the dataset, the seed and its number, not on the number of workers.
    GeoNRW's counts are rounded up to whole tiles of 16.

    Each worker process imports the script that calls this function. A script that uses several
    workers must be a file, and call it below `if __name__ == "__main__":`.

    Raises:
        DecurError: this dataset has no scenes, their numbers are not set, or a worker process died.
    """
    if dataset not in SCENE_KINDS:
        raise DecurError(
            f"datasets.{dataset}.source: no scenes; known are {', '.join(SCENE_KINDS)}"
        )
    if settings.scenes is None:
        raise DecurError(f"datasets.{dataset}.scenes: not set; set train, test and seed")
    root.mkdir(parents=True, exist_ok=True)
    layout = LAYOUTS[dataset]
    units = list(_units(settings.scenes.train, settings.scenes.test, layout.unit))
    write = partial(_write_unit, dataset, root, settings)
    if workers == 1:
        rows = [write(unit) for unit in units]
    else:
        chunk = 1 + len(units) // (8 * workers)
        with worker_pool(workers, dataset) as pool:
            rows = list(pool.map(write, units, chunksize=chunk))
    table = [row for unit in rows for row in unit]
    ids = {split: [row[0] for row in table if row[1] == split] for split in ("train", "test")}
    layout.finish(ids, root)
    with (root / "scenes.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *table])


def draw_factors(dataset: str, seed: int, index: int) -> Factors:
    """Draw the factors of scene number `index`.

    Scenes come in blocks that contain each combination of levels once, in random order.
    """
    combinations = list(product(*map(range, LEVELS[SCENE_KINDS[dataset]])))
    block, place = divmod(index, len(combinations))
    order = _generator(dataset, seed, 0, block).permutation(len(combinations))
    return Factors(*combinations[order[place]])


def make_scene(
    dataset: str,
    settings: DatasetSettings,
    index: int,
    split: str,
    factors: Factors | None = None,
) -> Scene:
    """Draw and render scene number `index`, optionally with other factors than its own."""
    assert settings.scenes is not None
    factors = factors or draw_factors(dataset, settings.scenes.seed, index)
    rng = _generator(dataset, settings.scenes.seed, 1, index)
    seasons = settings.seasons if DATASETS[dataset].seasons else 1
    arrays = render(SCENE_KINDS[dataset], factors, rng, settings.side, seasons)
    return Scene(index, split, factors, arrays)


def scene_numbers(dataset: str, settings: DatasetSettings) -> dict[str, tuple[str, int]]:
    """Return the split and number of each scene by the id of its sample."""
    assert settings.scenes is not None
    layout = LAYOUTS[dataset]
    return {
        sample: (split, number)
        for split, numbers in _units(settings.scenes.train, settings.scenes.test, layout.unit)
        for sample, number in zip(layout.ids(split, numbers, settings), numbers, strict=True)
    }


def _generator(dataset: str, seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(dataset.encode()), purpose, number])


def _units(train: int, test: int, size: int) -> Iterator[tuple[str, range]]:
    """Return the split and scene numbers of each unit; the last unit of a split is filled up."""
    start = 0
    for split, count in (("train", train), ("test", test)):
        for _ in range(-(-count // size)):
            yield split, range(start, start + size)
            start += size


def _write_unit(
    dataset: str, root: Path, settings: DatasetSettings, unit: tuple[str, range]
) -> list[tuple[str, str, int, int, int]]:
    split, numbers = unit
    scenes = [make_scene(dataset, settings, index, split) for index in numbers]
    with rasterio.Env():
        LAYOUTS[dataset].write(scenes, root, settings)
    ids = LAYOUTS[dataset].ids(split, numbers, settings)
    return [(name, split, *s.factors) for name, s in zip(ids, scenes, strict=True)]
