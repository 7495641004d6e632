"""Read TerraMind's example tiles: SAR, optical, elevation and land cover of the same ground.

Layout: `{S1RTC,S2L1C,DEM,LULC}/<tile>.tif`, 224 x 224 pixels of 10 m, each cut into 4 x 4 patches.
The SAR is calibrated. The few real tiles serve to try every pair of modalities, not for results.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets import Dataset, Record
from decur.datasets.raw_files import georeference, link, list_names, stored_modalities
from decur.datasets.sentinel import OPTICAL, sar_modality
from decur.imagery.bands import (
    ELEVATION,
    elevation_to_uint8,
    reflectance_to_uint8,
    resize,
    sar_db_to_uint8,
)
from decur.imagery.images import check_labels
from decur.imagery.rasters import (
    check_not_blank,
    check_same_place,
    check_square,
    named,
    places,
    read_raster,
)
from decur.shards import Modality, Sample

RGB = ("B4", "B3", "B2")

SAR_MEAN = (-10.93, -17.329)  # VV, VH in dB, terrain-corrected (TerraMind's pretraining)
SAR_STD = (4.391, 4.459)

DATASET = Dataset(
    name="terramind",
    title="TerraMind example tiles",
    modalities=(
        sar_modality(SAR_MEAN, SAR_STD),
        OPTICAL,
        Modality("rgb", RGB, OPTICAL.scaling),
        Modality("dem", ("elevation",), ELEVATION),
    ),
    licence="Apache-2.0; contains Copernicus data and Esri land cover",
    homepage="https://github.com/IBM/terramind",
    classes=(
        "no data",
        "water",
        "trees",
        "flooded vegetation",
        "crops",
        "built area",
        "bare ground",
        "snow and ice",
        "clouds",
        "rangeland",
    ),
    colours=(
        (0, 0, 0),
        (26, 91, 171),
        (53, 130, 33),
        (135, 209, 158),
        (255, 219, 92),
        (237, 2, 42),
        (206, 196, 186),
        (242, 250, 255),
        (200, 200, 200),
        (198, 173, 141),
    ),
    ignore=0,
)

BANDS = {"S1RTC": 2, "S2L1C": 13, "DEM": 1, "LULC": 1}
KINDS = {
    "S1RTC": "backscatter",
    "S2L1C": "reflectance",
    "DEM": "elevation",
    "LULC": "labels",
}
FOLDERS = {"sar": "S1RTC", "optical": "S2L1C", "rgb": "S2L1C", "dem": "DEM"}
GRID = 4
DARK = OPTICAL.bands.index("B10")
OFFSET = 1000  # added to every band since processing baseline 4.00


def scan(root: Path, settings: DatasetSettings) -> Sequence[Record]:
    """List the 16 patches of every tile; those of the last tile are the test split.

    Whole tiles are held out, because neighbouring patches resemble each other. All patches of a
    tile that lacks a file have a fault.
    """
    seen = {folder: set(list_names(root / folder)) for folder in BANDS}
    whole = set.intersection(*seen.values())
    records = []
    for tile in set.union(*seen.values()):
        missing = [folder for folder in BANDS if tile not in seen[folder]]
        fault = (
            f"{root / missing[0] / tile}: not found, but other files of the tile exist"
            if missing
            else ""
        )
        records += [
            Record(
                id=f"{Path(tile).stem}_{patch}",
                split="test" if tile == max(whole, default="") else "train",
                paths={folder: root / folder / tile for folder in BANDS},
                patch=patch,
                place=Path(tile).stem,
                fault=fault,
            )
            for patch in range(1, GRID**2 + 1)
        ]
    return sorted(records, key=lambda record: record.id)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one patch, scaled on its own and then resized.

    Raises:
        DecurError: a file is missing, damaged, not divisible, of the wrong type, not of the size
            or place of the others, or without data.
    """
    names = stored_modalities(DATASET, settings)
    raw = {
        folder: read_raster(record.paths[folder], KINDS[folder], BANDS[folder], record.patch, GRID)
        for folder in ("LULC", *{FOLDERS[name]: None for name in names})
    }
    labels = raw["LULC"][0]
    check_labels(labels, len(DATASET.classes) - 1, record.paths["LULC"])
    arrays = {}
    for name in names:
        path, image = record.paths[FOLDERS[name]], raw[FOLDERS[name]]
        check_square(path, image, labels.shape[-1])
        if name != "dem":
            check_not_blank(path, image)
        with named(path):
            arrays[name] = resize(SCALE[name](image), settings.side)[None]
    check_same_place(places(record.paths[folder] for folder in raw))
    return Sample(
        id=record.id,
        split=record.split,
        arrays=arrays,
        mask=resize(labels.astype(np.uint8), settings.side, "nearest"),
        place=record.place,
        source=str(record.paths["S2L1C"]),
        georeference=georeference(record.paths["LULC"], settings.side, record.patch, GRID),
    )


def _scale_sar(x: NDArray[Any]) -> NDArray[np.uint8]:
    return sar_db_to_uint8(x, SAR_MEAN, SAR_STD)


def _scale_optical(x: NDArray[Any]) -> NDArray[np.uint8]:
    # B10 responds to high cloud only and is near 0 elsewhere, so a B10 that starts at the offset
    # has it. Floats are used because unsigned values below the offset would become very bright.
    return reflectance_to_uint8(x.astype(np.float32) - OFFSET if x[DARK].min() >= OFFSET else x)


def _scale_rgb(x: NDArray[Any]) -> NDArray[np.uint8]:
    return _scale_optical(x)[[OPTICAL.bands.index(band) for band in RGB]]


SCALE: dict[str, Callable[[NDArray[Any]], NDArray[np.uint8]]] = {
    "sar": _scale_sar,
    "optical": _scale_optical,
    "rgb": _scale_rgb,
    "dem": elevation_to_uint8,
}


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the example tiles in their own layout."""
    for folder in BANDS:
        link(samples / "TerraMind-MajorTOM-tiles" / folder, root / folder)
