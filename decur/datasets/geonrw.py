"""GeoNRW: aerial photographs and elevation of North Rhine-Westphalia, with land-cover labels.

A tile of 1000 x 1000 m at 1 m is cut into 4 x 4 patches (paper §4: 111k training patches).
Official layout: `<city>/<E>_<N>_{rgb.jp2,dem.tif,seg.tif}`.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.config import DatasetSettings
from decur.datasets import Archive, Dataset, Part, Record, Records
from decur.datasets.raw_files import georeference, link, list_names, stored_modalities
from decur.errors import DecurError
from decur.imagery.bands import ELEVATION, elevation_to_uint8, resize
from decur.imagery.images import check_labels, read_image
from decur.imagery.rasters import check_not_blank, check_same_place, check_square, named, read_band
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
        Modality("rgb", ("red", "green", "blue"), Scaling.stored()),
        Modality("dem", ("elevation",), ELEVATION),
        Modality("nir", ("near infrared",), Scaling.stored()),
    ),
    licence="CC-BY-4.0",
    homepage="https://ieee-dataport.org/open-access/geonrw",
    classes=tuple(LABELS),
    colours=tuple(LABELS.values()),
    ignore=0,
    archives=(Archive((ARCHIVE,), "tar", page="https://hf.co/datasets/torchgeo/geonrw"),),
)


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the patches below `root`, sorted by id; the official split is by city.

    Municipalities overlap at their borders, so that a tile may lie in several folders. One that a
    test city has is left out of the training cities, and counted; of cities of one split all keep
    it. The patches of a tile without labels, or without a wanted elevation model, have a fault.

    Raises:
        DecurError: no tile, or one whose name is no position.
    """
    wanted = stored_modalities(DATASET, settings)
    tiles = [(_corner(rgb), rgb) for rgb in sorted(root.glob("*/*_rgb.jp2"))]
    held_out = {corner for corner, rgb in tiles if rgb.parent.name in TEST_CITIES}
    records: list[Record] = []
    leaks = 0
    for corner, rgb in tiles:
        city = rgb.parent.name
        split = "test" if city in TEST_CITIES else "train"
        if split == "train" and corner in held_out:
            leaks += GRID**2
            continue
        paths = {"rgb": rgb, "seg": _partner(rgb, "seg")}
        if "dem" in wanted:
            paths["dem"] = _partner(rgb, "dem")
        fault = _missing(f"{city}/{corner}", paths)
        records += [
            Record(f"{city}_{corner}_{k}", split, paths, patch=k, place=city, fault=fault)
            for k in range(1, GRID**2 + 1)
        ]
    if not records:
        raise DecurError(f"{root}: no <city>/<E>_<N>_rgb.jp2; extract the GeoNRW archive there")
    records.sort(key=lambda record: record.id)
    return Records(records, {"of training cities, where a test city has the tile too": leaks})


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one patch: the wanted modalities uint8 (1, bands, pixels, pixels), and its mask 0..10.

    The files of the last tile stay decoded, as decoding a JPEG 2000 costs far more than cutting
    it: read a tile's records one after the other. Elevation is stretched patch by patch, so that
    absolute height is lost, as in the released code.

    Raises:
        DecurError: a damaged file, files of different size or place, pixels without data, or a
            label that is not 0..10.
    """
    paths = record.paths
    wanted = stored_modalities(DATASET, settings)
    image, labels = _image(paths["rgb"]), _band(paths["seg"], "labels")
    _check_places(tuple(paths.values()))
    check_square(paths["seg"], labels, image.shape[1])
    check_labels(labels, len(LABELS) - 1, paths["seg"])
    stored = {"rgb": _cut(image[:3], record.patch)}
    check_not_blank(paths["rgb"], stored["rgb"])
    if "dem" in wanted:
        elevation = _band(paths["dem"], "elevation")
        check_square(paths["dem"], elevation, image.shape[1])
        with named(paths["dem"]):
            stored["dem"] = elevation_to_uint8(_cut(elevation, record.patch))[None]
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
        arrays={name: resize(stored[name], settings.side)[None] for name in wanted},
        mask=resize(mask, settings.side, "nearest"),
        place=record.place,
        source=str(paths["rgb"]),
        georeference=georeference(paths["seg"], settings.side, record.patch, GRID),
    )


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample tiles, which lie in the official layout but have no elevation model."""
    for city in list_names(samples / "GeoNRW"):
        for file in (samples / "GeoNRW" / city).glob("*_*.*"):
            link(file, root / city / file.name)


def _corner(rgb: Path) -> str:
    """The position of a tile, by its name."""
    match = TILE.fullmatch(rgb.name)
    if match is None:
        raise DecurError(f"{rgb}: name is not <easting>_<northing>_rgb.jp2; rename or remove it")
    return f"{match['east']}_{match['north']}"


def _partner(rgb: Path, kind: str) -> Path:
    return rgb.with_name(rgb.name.replace("_rgb.jp2", f"_{kind}.tif"))


def _missing(tile: str, paths: dict[str, Path]) -> str:
    """The fault of a tile that lacks a file, or nothing."""
    remedies = {"seg": "fetch the archive again"}
    remedies["dem"] = "set datasets.geonrw.modalities to [rgb, nir]"
    for name, remedy in remedies.items():
        if name in paths and not paths[name].is_file():
            return f"{tile}: {paths[name]} not found; {remedy}"
    return ""


@lru_cache(maxsize=1)
def _image(path: Path) -> NDArray[np.uint8]:
    """The bands (3 or 4, H, W) of a tile's image."""
    image = read_image(path)
    height, width, bands = image.shape if image.ndim == 3 else (*image.shape, 1)
    if image.dtype != np.uint8 or bands not in (3, 4) or height != width or height % GRID:
        raise DecurError(
            f"{path}: image is {image.dtype} {image.shape}, expected a square of 3 or 4 bands of "
            f"uint8 that can be cut into {GRID} x {GRID} patches"
        )
    image.setflags(write=False)  # shared by the patches
    return image.transpose(2, 0, 1)


@lru_cache(maxsize=1)
def _check_places(paths: tuple[Path, ...]) -> None:
    check_same_place(paths)


@lru_cache(maxsize=2)
def _band(path: Path, kind: str) -> NDArray[Any]:
    """The labels or the elevation (H, W) of a tile."""
    band = read_band(path, kind)
    band.setflags(write=False)
    return band


def _cut(tile: NDArray[Any], patch: int) -> NDArray[Any]:
    """The patch (..., H/4, W/4) of number 1..16, row by row from the top left."""
    side = tile.shape[-1] // GRID
    row, column = divmod(patch - 1, GRID)
    return tile[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
