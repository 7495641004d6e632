"""GeoNRW: aerial photographs and elevation of North Rhine-Westphalia, with land-cover labels.

A tile of 1000 x 1000 m at 1 m is cut into 4 x 4 patches (paper §4: 111k training patches).
Official layout: `<city>/<E>_<N>_{rgb.jp2,dem.tif,seg.tif}`.
"""

import logging
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets import Archive, Dataset, Part, Record
from decur.datasets.images import check_labels, read_image
from decur.datasets.raster import check_square, link, list_names, read_band, stored_modalities
from decur.errors import DecurError
from decur.preprocess.bands import clip_scale_uint8, resize
from decur.shards import Modality, Sample

GRID = 4
TEST_CITIES = frozenset({"duesseldorf", "herne", "neuss"})
LABELS = {
    "background": (0, 0, 0),
    "forest": (34, 110, 54),
    "water": (45, 120, 220),
    "agricultural": (232, 210, 110),
    "residential, commercial, industrial": (200, 90, 90),
    "grassland, swamp, shrubbery": (140, 200, 90),
    "railway, train station": (110, 70, 140),
    "highway, squares": (240, 140, 40),
    "airport, shipyard": (240, 120, 200),
    "roads": (150, 150, 150),
    "buildings": (220, 30, 40),
}
TILE = re.compile(r"(?P<east>\d+)_(?P<north>\d+)_rgb\.jp2")

# A copy that needs no login, of 32.4 GB; the original, at the homepage, does.
ARCHIVE = Part(
    "nrw_dataset.tar.gz",
    (
        "https://hf.co/datasets/torchgeo/geonrw/resolve/"
        "3cb6bdf2a615b9e526c7dcff85fd1f20728081b7/nrw_dataset.tar.gz",
    ),
    checksum="md5:d56ab50098d5452c33d08ff4e99ce281",
)

DATASET = Dataset(
    name="geonrw",
    title="GeoNRW (RGB, elevation, land cover)",
    modalities=(
        Modality("rgb", ("red", "green", "blue"), "8 bit as stored"),
        Modality("dem", ("elevation",), "1-99 % of each patch to 0..255"),
        Modality("nir", ("near infrared",), "8 bit as stored"),
    ),
    licence="CC-BY-4.0",
    homepage="https://ieee-dataport.org/open-access/geonrw",
    classes=tuple(LABELS),
    colours=tuple(LABELS.values()),
    ignore=0,
    archives=(Archive((ARCHIVE,), "tar", page="https://hf.co/datasets/torchgeo/geonrw"),),
)

logger = logging.getLogger(__name__)


def scan(root: Path, settings: DatasetSettings) -> list[Record]:
    """List the patches below `root`, sorted by id; the official split is by city.

    Municipalities overlap at their borders, so one place may come twice; both are kept, and how
    many there are is logged.

    Raises:
        DecurError: no tile, or a tile without the labels or a wanted elevation model.
    """
    wanted = stored_modalities(DATASET, settings)
    records: list[Record] = []
    cities: dict[str, set[str]] = defaultdict(set)
    for rgb in sorted(root.glob("*/*_rgb.jp2")):
        match = TILE.fullmatch(rgb.name)
        if match is None:
            raise DecurError(
                f"{rgb}: name is not <easting>_<northing>_rgb.jp2; rename or remove it"
            )
        city, corner = rgb.parent.name, f"{match['east']}_{match['north']}"
        paths = {"rgb": rgb, "seg": _partner(rgb, "seg", "fetch the archive again")}
        if "dem" in wanted:
            remedy = "set datasets.geonrw.modalities to [rgb, nir]"
            paths["dem"] = _partner(rgb, "dem", remedy)
        split = "test" if city in TEST_CITIES else "train"
        cities[corner].add(city)
        records += [
            Record(f"{city}_{corner}_{k}", split, paths, patch=k, place=city)
            for k in range(1, GRID**2 + 1)
        ]
    if not records:
        raise DecurError(f"{root}: no <city>/<E>_<N>_rgb.jp2; extract the GeoNRW archive there")
    _log_overlap(cities)
    return sorted(records, key=lambda record: record.id)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one patch: the wanted modalities uint8 (1, bands, pixels, pixels), and its mask 0..10.

    The files of the last tile stay decoded, as decoding a JPEG 2000 costs far more than cutting
    it: read a tile's records one after the other. Elevation is stretched patch by patch, so that
    absolute height is lost, as in the released code.

    Raises:
        DecurError: a damaged file, files of different size, or a label that is not 0..10.
    """
    paths = record.paths
    wanted = stored_modalities(DATASET, settings)
    image, labels = _image(paths["rgb"]), _band(paths["seg"])
    check_square(paths["seg"], labels, image.shape[1])
    check_labels(labels, len(LABELS) - 1, paths["seg"])
    stored = {"rgb": _cut(image[:3], record.patch)}
    if "dem" in wanted:
        elevation = _band(paths["dem"])
        check_square(paths["dem"], elevation, image.shape[1])
        stored["dem"] = clip_scale_uint8(_cut(elevation, record.patch))[None]
    if "nir" in wanted:
        if len(image) < 4:
            raise DecurError(
                f"{paths['rgb']}: no fourth band; set datasets.geonrw.modalities to [rgb, dem]"
            )
        stored["nir"] = _cut(image[3:4], record.patch)
    mask = _cut(labels, record.patch).astype(np.uint8)
    return Sample(
        id=record.id,
        split=record.split,
        arrays={name: resize(stored[name], settings.pixels)[None] for name in wanted},
        mask=resize(mask, settings.pixels, nearest=True),
        place=record.place,
        source=str(paths["rgb"]),
    )


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample tiles, which lie in the official layout but have no elevation model."""
    for city in list_names(samples / "GeoNRW"):
        for file in (samples / "GeoNRW" / city).glob("*_*.*"):
            link(file, root / city / file.name)


def _partner(rgb: Path, kind: str, remedy: str) -> Path:
    path = rgb.with_name(rgb.name.replace("_rgb.jp2", f"_{kind}.tif"))
    if not path.is_file():
        tile = rgb.name.removesuffix("_rgb.jp2")
        raise DecurError(f"{rgb.parent.name}/{tile}: {path} not found; {remedy}")
    return path


def _log_overlap(cities: dict[str, set[str]]) -> None:
    shared = [names for names in cities.values() if len(names) > 1]
    if shared:
        leaks = sum(bool(names & TEST_CITIES) and bool(names - TEST_CITIES) for names in shared)
        logger.warning(
            "%d of %d tile positions belong to several cities (all are kept); "
            "%d are both in train and test",
            len(shared),
            len(cities),
            leaks,
        )


@lru_cache(maxsize=1)
def _image(path: Path) -> NDArray[np.uint8]:
    """The bands (3 or 4, H, W) of a tile's image."""
    image = read_image(path)
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[0] % GRID:
        raise DecurError(
            f"{path}: image is {image.shape}, expected a square in colour that can be cut into "
            f"{GRID} x {GRID} patches"
        )
    image.setflags(write=False)  # shared by the patches
    return image.transpose(2, 0, 1)


@lru_cache(maxsize=2)
def _band(path: Path) -> NDArray[Any]:
    """The labels or the elevation (H, W) of a tile."""
    band = read_band(path)
    band.setflags(write=False)
    return band


def _cut(tile: NDArray[Any], patch: int) -> NDArray[Any]:
    """The patch (..., H/4, W/4) of number 1..16, row by row from the top left."""
    side = tile.shape[-1] // GRID
    row, column = divmod(patch - 1, GRID)
    return tile[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
