"""SSL4EO-S12: 251,079 places of the world in four seasons, Sentinel-1 and Sentinel-2 level 1C.

Layout: `s1/<location>/<scene>/{VV,VH}.tif` and `s2c/<location>/<scene>/{B1,...,B12}.tif`, a scene
being one season. S1 and S2 of a location belong together; their scenes, sorted by date each, are
of the same season but not of the same day.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets import Dataset, Record
from decur.datasets.raster import check_same_place, link, list_names, stored_modalities
from decur.datasets.sentinel import METRES, OPTICAL, SAR, read_optical, read_sar
from decur.errors import DecurError
from decur.shards import Sample

DATASET = Dataset(
    name="ssl4eo-s12",
    title="SSL4EO-S12",
    modalities=(SAR, OPTICAL),
    licence="CC-BY-4.0",
    homepage="https://mediatum.ub.tum.de/1660427",
)

FOLDERS = {"sar": "s1", "optical": "s2c"}
GRID_OF = {"sar": "VV.tif", "optical": "B2.tif"}
SHIFT = 0.05  # of a location's width; the sensors' grids are found up to 0.017 apart
SAR_MEAN = (-12.54847273, -20.19237134)  # VV, VH in dB (released code)
SAR_STD = (5.25697717, 5.91150917)


def scan(root: Path, settings: DatasetSettings) -> Sequence[Record]:
    """Locations; one that only one sensor saw has a fault."""
    seen = {name: set(list_names(root / folder)) for name, folder in FOLDERS.items()}
    records = []
    for location in sorted(set.union(*seen.values())):
        paths = {name: root / folder / location for name, folder in FOLDERS.items()}
        missing = [path for name, path in paths.items() if location not in seen[name]]
        fault = f"{missing[0]}: not found, but the other sensor saw the place" if missing else ""
        records.append(Record(location, "train", paths, place=location, fault=fault))
    return records


def read(record: Record, settings: DatasetSettings) -> Sample:
    """The first `settings.seasons` scenes of each sensor.

    Where a location has fewer, they are repeated in turn, so that every sample has the same shape
    and no season is made up.

    Raises:
        DecurError: a location without scenes; a file missing, damaged, without data or of the wrong
            size or type; a scene of another place than the others.
    """
    arrays, grids = {}, []
    for name in stored_modalities(DATASET, settings):
        scenes = _scenes(record.paths[name])[: settings.seasons]
        read_scene = {"sar": _read_sar, "optical": _read_optical}[name]
        images = [read_scene(scene, settings.pixels) for scene in scenes]
        arrays[name] = np.stack([images[k % len(images)] for k in range(settings.seasons)])
        grids += [scene / GRID_OF[name] for scene in scenes]
    check_same_place(grids, SHIFT)
    return Sample(
        id=record.id,
        split=record.split,
        arrays=arrays,
        place=record.place,
        source=str(record.paths["optical"]),
    )


def _scenes(location: Path) -> list[Path]:
    scenes = [location / name for name in list_names(location)]
    if not scenes:
        raise DecurError(f"{location}: no scene in it; fetch the location again or remove it")
    return sorted(scenes, key=_acquired)


def _acquired(scene: Path) -> str:
    """Date and time at which a scene begins: satellites and tiles must not decide its season."""
    found = re.search(r"\d{8}T\d{6}", scene.name)
    if found is None:
        raise DecurError(f"{scene}: no acquisition time (YYYYMMDDThhmmss) in the folder's name")
    return found[0]


def _read_sar(scene: Path, pixels: int) -> NDArray[np.uint8]:
    paths = {band: scene / f"{band}.tif" for band in SAR.bands}
    return read_sar(paths, pixels, SAR_MEAN, SAR_STD)


def _read_optical(scene: Path, pixels: int) -> NDArray[np.uint8]:
    return read_optical({band: scene / f"{band}.tif" for band in METRES}, pixels)


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample locations in the official layout."""
    for folder in FOLDERS.values():
        link(samples / "SSL4EO-S12" / folder, root / folder)
