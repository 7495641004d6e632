"""Three ways from the official archives to shards, on copies of real frames, two workers.

The obvious way unpacks archives and converts the files; the other one reads the archives as they
are. Also how long the conversion alone takes, of files that are unpacked already.

    DECUR_SAMPLES=<folder> python -m tests.benchmarks.bench_archives
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from decur.config import DatasetSettings
from decur.scenes.stand_ins import CHECKSUMS
from tests.benchmarks.bench_scale import measured
from tests.support.bigearthnet import PASTURE
from tests.support.official import write_official
from tests.support.rasters import write_bare_tiff

SAMPLES = Path(os.environ.get("DECUR_SAMPLES", "."))
PIXELS = {"ssl4eo-s12": 264, "bigearthnet": 128, "geonrw": 250}
FILES = {"ssl4eo-s12": 3600, "bigearthnet": 9600, "geonrw": 90}


def _location(root: Path) -> None:
    """The two scenes of a real location, each twice."""
    for folder in ("s1", "s2c"):
        (location,) = (SAMPLES / "SSL4EO-S12" / folder).iterdir()
        for scene in location.iterdir():
            for year in ("2020", "2021"):
                name = scene.name.replace("2020", year).replace("2021", year)
                shutil.copytree(scene, root / folder / "LOCATION" / name)


def _pair(root: Path) -> None:
    """A real pair of patches under the name of a made-up one."""
    home = SAMPLES / "BigEarthNet" / "v1.0"
    place = "_".join(PASTURE.split("_")[-2:])
    names = {"BigEarthNet-S1-v1.0": f"S1A_IW_GRDH_1SDV_29UPU_{place}", "BigEarthNet-v1.0": PASTURE}
    for folder, name in names.items():
        patch = sorted((home / folder).iterdir())[0]
        (root / folder / name).mkdir(parents=True)
        for file in patch.iterdir():
            body = file.read_bytes()
            if file.suffix == ".json" and "S1" in folder:
                body = f'{{"corresponding_s2_patch": "{PASTURE}"}}'.encode()
            target = root / folder / name / file.name.replace(patch.name, name)
            target.write_bytes(body)


def _tile(root: Path) -> None:
    """A real photograph with its labels, and made elevation."""
    image = sorted((SAMPLES / "GeoNRW").glob("*/*_rgb.jp2"))[0]
    (root / "CITY").mkdir(parents=True)
    shutil.copy(image, root / "CITY" / "CORNER_rgb.jp2")
    shutil.copy(str(image).replace("_rgb.jp2", "_seg.tif"), root / "CITY" / "CORNER_seg.tif")
    slope = np.add.outer(np.arange(1000), np.arange(1000)).astype(np.float32)
    write_bare_tiff(root / "CITY" / "CORNER_dem.tif", slope)


TEMPLATES = {"ssl4eo-s12": _location, "bigearthnet": _pair, "geonrw": _tile}


def compare(name: str, files: int, place: Path, repeats: int) -> dict[str, object]:
    """Seconds that each stage of both ways takes, the least of all repeats, and their ratios."""
    packed = place / "packed"
    write_official(name, packed, files, TEMPLATES[name])
    decur = [sys.executable, "-m", "decur"]
    seconds: dict[tuple[str, bool], float] = {}
    for unpack in (True, False) * repeats:
        settings = DatasetSettings(
            archives=str(packed),
            checksums=str(packed / CHECKSUMS),
            pixels=PIXELS[name],
            unpack=unpack,
        ).model_dump_json()
        shutil.rmtree(place / str(unpack), ignore_errors=True)
        raw, out = place / str(unpack) / "raw", place / str(unpack) / "shards"
        options = [name, "--settings", settings, "--threads", "2"]
        stages = {
            "download": ["--out", str(raw)],
            "preprocess": ["--raw", str(raw), "--out", str(out)],
        }
        for stage, places in stages.items():
            used = measured([*decur, stage, *options, *places])
            seconds[stage, unpack] = min(used.seconds, seconds.get((stage, unpack), used.seconds))
    obvious = seconds["download", True] + seconds["preprocess", True]
    ours = seconds["download", False] + seconds["preprocess", False]
    convert = seconds["preprocess", True]
    return {
        "dataset": name,
        "unpack": round(seconds["download", True], 1),
        "convert": round(convert, 1),
        "list": round(seconds["download", False], 1),
        "read": round(seconds["preprocess", False], 1),
        "ours / unpack and convert": round(ours / obvious, 2),
        "read / convert": round(seconds["preprocess", False] / convert, 2),
        "ours / convert": round(ours / convert, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=[*PIXELS], choices=[*PIXELS])
    parser.add_argument("--share", type=float, default=1.0, help="of the files")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as folder:
            print(
                compare(name, int(FILES[name] * args.share), Path(folder), args.repeats), flush=True
            )


if __name__ == "__main__":
    main()
