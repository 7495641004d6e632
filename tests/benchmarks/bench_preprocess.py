"""Patches a second that one core turns into shards, hours for the full sets, and peak memory.

Raw files are links to real sample frames under other ids, so they come from the page cache and the
figures are those of the cores, not of a file system. SSL4EO-S12: the two scenes of the one
location, each twice, as four seasons (a patch is one season of a location). GeoNRW: real
photographs and labels, and made elevation, since the sample frames have none (a patch is 1/16 of a
tile). Of the other three data sets only the reading is timed, of their sample frames over and over.

    DECUR_SAMPLES=<folder> python tests/benchmarks/bench_preprocess.py
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio

from decur import datasets
from decur.config import DatasetSettings
from decur.preprocess.run import preprocess

CORES = 16
SETTINGS = {
    "ssl4eo-s12": DatasetSettings(pixels=264),
    "geonrw": DatasetSettings(pixels=250, modalities=("rgb", "dem")),
}
READ_ONLY = {
    "bigearthnet": DatasetSettings(pixels=128),
    "sun-rgbd": DatasetSettings(pixels=480),
    "nyuv2": DatasetSettings(pixels=480),
}
FULL = {
    "ssl4eo-s12": 251_079,
    "geonrw": 7_783,
    "bigearthnet": 519_339,
    "sun-rgbd": 10_335,
    "nyuv2": 1_449,
}
PATCHES = {"ssl4eo-s12": 4, "geonrw": 16}
"""Of a location, of a tile."""


def link_locations(samples: Path, root: Path, count: int) -> None:
    """`count` locations of four scenes."""
    for folder in ("s1", "s2c"):
        (location,) = (samples / "SSL4EO-S12" / folder).iterdir()
        for number in range(count):
            home = root / folder / f"{number:07d}"
            home.mkdir(parents=True)
            for scene in location.iterdir():
                (home / scene.name).symlink_to(scene)
                (home / scene.name.replace("2020", "2021")).symlink_to(scene)


def link_tiles(samples: Path, root: Path, count: int) -> None:
    """`count` tiles with photograph, labels and elevation."""
    tiles = sorted((samples / "GeoNRW").glob("*/*_rgb.jp2"))[:8]
    made = root.with_name(f"{root.name}-dem")
    made.mkdir()
    for number, tile in enumerate(tiles):
        write_elevation(tile, made / f"{number}.tif", number)
    for number in range(count):
        tile = tiles[number % len(tiles)]
        home = root / "aachen"
        home.mkdir(parents=True, exist_ok=True)
        stem = f"{home}/{number}_5650"
        Path(f"{stem}_rgb.jp2").symlink_to(tile)
        Path(f"{stem}_seg.tif").symlink_to(tile.with_name(tile.name.replace("rgb.jp2", "seg.tif")))
        Path(f"{stem}_dem.tif").symlink_to(made / f"{number % len(tiles)}.tif")


def write_elevation(tile: Path, path: Path, seed: int) -> None:
    """A random walk of heights on the ground of a tile, float32 as the real ones."""
    with rasterio.open(tile) as file:
        profile = {"crs": file.crs, "transform": file.transform}
        shape = (file.height, file.width)
    rng = np.random.default_rng(seed)
    dem = 100 + rng.normal(0, 0.1, shape).cumsum(0).cumsum(1) / 30
    with rasterio.open(
        path, "w", "GTiff", shape[1], shape[0], 1, dtype="float32", compress="lzw", **profile
    ) as file:
        file.write(dem.astype(np.float32), 1)


LINKS: dict[str, Callable[[Path, Path, int], None]] = {
    "ssl4eo-s12": link_locations,
    "geonrw": link_tiles,
}


def measure(dataset: str, samples: Path, count: int, workers: int) -> dict[str, float]:
    """Seconds and peak memory (MB) of this process and of its largest worker."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / "raw", Path(folder) / "out"
        LINKS[dataset](samples, raw, count)
        (raw / "manifest.json").write_text(json.dumps({"provenance": {"inputs": {}}}))
        start = time.perf_counter()
        preprocess(dataset, SETTINGS[dataset], raw, out, workers=workers)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in out.iterdir())
    usage = resource.RUSAGE_SELF if workers == 1 else resource.RUSAGE_CHILDREN
    return {
        "seconds": seconds,
        "written": size / 1e6,
        "memory": resource.getrusage(usage).ru_maxrss / 1024,
    }


def reading_rate(dataset: str, samples: Path, seconds: float = 12) -> float:
    """Samples that this process reads and scales in a second."""
    module, settings = datasets.load(dataset), READ_ONLY[dataset]
    with tempfile.TemporaryDirectory() as folder:
        module.arrange_samples(samples, Path(folder))
        records = [r for r in module.scan(Path(folder), settings) if not r.fault]
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            module.read(records[count % len(records)], settings)
            count += 1
        return count / (time.perf_counter() - start)


def in_new_process(*arguments: object) -> dict[str, float]:
    """`measure` in a process of its own, whose peak memory is therefore this run's."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--locations", type=int, default=40)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--one", nargs=3, metavar=("DATASET", "COUNT", "WORKERS"))
    args = parser.parse_args()
    samples = Path(os.environ["DECUR_SAMPLES"]).absolute()
    if args.one:
        dataset, count, workers = args.one
        print(json.dumps(measure(dataset, samples, int(count), int(workers))))
        return
    print("| dataset | patches | workers | MB written | patches/s | peak MB of a worker |")
    print("|---|---:|---:|---:|---:|---:|")
    hours = {}
    for dataset, few in (("ssl4eo-s12", args.locations), ("geonrw", args.tiles)):
        for count, workers in ((few, 1), (4 * few, 1), (few, 2), (4 * few, 2)):
            result = in_new_process(dataset, count, workers)
            patches = count * PATCHES[dataset]
            rate = patches / result["seconds"]
            print(
                f"| {dataset} | {patches} | {workers} | {result['written']:.0f} | {rate:.0f} "
                f"| {result['memory']:.0f} |"
            )
            if workers == 1:
                hours[dataset] = FULL[dataset] * PATCHES[dataset] / rate / CORES / 3600
    for dataset in READ_ONLY:
        rate = reading_rate(dataset, samples)
        print(f"{dataset}: {rate:.0f} samples read a second")
        hours[dataset] = FULL[dataset] / rate / CORES / 3600
    for dataset, value in hours.items():
        print(f"{dataset}: {value:.3f} hours for the full set on {CORES} cores")


if __name__ == "__main__":
    main()
