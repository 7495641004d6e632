"""Read GeoNRW: aerial photographs and elevation of North Rhine-Westphalia, with land cover.

Each tile of 1000 x 1000 m at 1 m is cut into 4 x 4 patches (paper §4: 111k training patches).
Official layout: `<city>/<E>_<N>_{rgb.jp2,dem.tif,seg.tif}`.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.config import DatasetSettings
from decur.datasets import (
    Archive,
    Component,
    Dataset,
    Record,
    Records,
    RemoteFile,
    Streamed,
)
from decur.datasets.raw_files import (
    RawFiles,
    georeference,
    link,
    list_names,
    raw_files,
    stored_modalities,
)
from decur.errors import DecurError
from decur.imagery.bands import ELEVATION, elevation_to_uint8, resize
from decur.imagery.images import check_labels, read_image
from decur.imagery.rasters import (
    Place,
    check_not_blank,
    check_same_place,
    check_sides,
    named,
    places,
    read_band,
)
from decur.shards import MASK, Georeference, Modality, Sample

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

# A copy of 32.4 GB that needs no login; the original, at the homepage, needs one.
ARCHIVE = RemoteFile(
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

    Municipalities overlap at their borders, so a tile may be in several folders. A tile of a test
    city is left out of the training cities, and counted. Cities of the same split keep it. The
    patches of a tile without labels, or without a requested elevation model, have a fault.

    Raises:
        DecurError: there is no tile, or the name of a tile is not a position.
    """
    wanted = stored_modalities(DATASET, settings)
    files = raw_files(root)
    found = sorted(_tiles(root, files))
    held_out = {corner for city, corner in found if city in TEST_CITIES}
    chosen = [(city, c) for city, c in found if city in TEST_CITIES or c not in held_out]
    if not chosen:
        raise DecurError(f"{root}: no <city>/<E>_<N>_rgb.jp2; extract the GeoNRW archive there")
    kinds = ("seg", "dem") if "dem" in wanted else ("seg",)

    def paths_of(city: str, corner: str) -> dict[str, Path]:
        rgb = root / city / f"{corner}_rgb.jp2"
        return {"rgb": rgb} | {kind: _partner(rgb, kind) for kind in kinds}

    def patches(city: str, corner: str) -> Iterator[Record]:
        split, paths = "test" if city in TEST_CITIES else "train", paths_of(city, corner)
        fault = _missing(f"{city}/{corner}", paths, files)
        for k in sorted(range(1, GRID**2 + 1), key=str):
            yield Record(f"{city}_{corner}_{k}", split, paths, patch=k, place=city, fault=fault)

    leaks = GRID**2 * (len(found) - len(chosen))
    left_out = {"of training cities, where a test city has the tile too": leaks}
    return Records((patch for tile in chosen for patch in patches(*tile)), left_out)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one patch: the wanted modalities uint8 (1, bands, pixels, pixels), and its mask 0..10.

    The decoded files of the last tile are cached, because decoding a JPEG 2000 costs far more than
    cropping it: read the records of a tile one after the other. Elevation is stretched per patch,
    which loses the absolute height, as in the released code.

    Raises:
        DecurError: a file is damaged, files differ in size or place, pixels have no data, or a
            label is not 0..10.
    """
    return STREAMED.sample(record, settings)


def _shapes(settings: DatasetSettings) -> dict[str, tuple[int, ...]]:
    side = settings.side
    bands = {modality.name: len(modality.bands) for modality in DATASET.modalities}
    wanted = stored_modalities(DATASET, settings)
    return {**{name: (1, bands[name], side, side) for name in wanted}, MASK: (side, side)}


def _components(record: Record, settings: DatasetSettings) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in record.paths}


def _read_component(record: Record, name: str, settings: DatasetSettings) -> Component:
    path, notes = record.paths[name], {}
    if name == "seg":
        tile = _band(path, "labels")
        check_labels(tile, len(LABELS) - 1, path)
        mask = _cut(tile, record.patch).astype(np.uint8)
        arrays = {MASK: resize(mask, settings.side, "nearest")}
        notes["georeference"] = georeference(path, settings.side, record.patch, GRID)
    elif name == "dem":
        tile = _band(path, "elevation")
        with named(path):
            elevation = elevation_to_uint8(_cut(tile, record.patch))
        arrays = {"dem": resize(elevation[None], settings.side)[None]}
    else:
        tile = _image(path)
        check_not_blank(path, _cut(tile[:3], record.patch))
        arrays = {
            modality: resize(_cut(bands, record.patch), settings.side)[None]
            for modality, bands in _coloured(path, tile, settings).items()
        }
    return Component(arrays, {**notes, "shape": tile.shape[-2:], "places": _places(path)})


def _coloured(
    path: Path, tile: NDArray[np.uint8], settings: DatasetSettings
) -> dict[str, NDArray[np.uint8]]:
    """Return the stored bands of an image by modality."""
    wanted = stored_modalities(DATASET, settings)
    if "nir" in wanted and len(tile) < 4:
        raise DecurError(f"{path}: no fourth band; set datasets.geonrw.modalities to [rgb, dem]")
    return {m: part for m, part in (("rgb", tile[:3]), ("nir", tile[3:4])) if m in wanted}


def _join(record: Record, components: Mapping[str, Component], settings: DatasetSettings) -> Sample:
    check_same_place(Place(*place) for c in components.values() for place in c.notes["places"])
    side = components["rgb"].notes["shape"][0]
    for name, component in components.items():
        check_sides(record.paths[name], tuple(component.notes["shape"]), side)
    arrays = {name: a for c in components.values() for name, a in c.arrays.items()}
    where = components["seg"].notes["georeference"]
    return Sample(
        id=record.id,
        split=record.split,
        arrays={name: arrays[name] for name in stored_modalities(DATASET, settings)},
        mask=arrays[MASK],
        place=record.place,
        source=str(record.paths["rgb"]),
        georeference=None if where is None else Georeference(where[0], tuple(where[1])),
    )


STREAMED = Streamed(_shapes, _components, _read_component, _join)


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample tiles, which have the official layout but no elevation model."""
    for city in list_names(samples / "GeoNRW"):
        for file in (samples / "GeoNRW" / city).glob("*_*.*"):
            link(file, root / city / file.name)


def _tiles(root: Path, files: RawFiles) -> Iterator[tuple[str, str]]:
    """Find the city and position of every tile.

    Raises:
        DecurError: the name of an image is not a position.
    """
    depth = len(root.parts) + 2
    for path in files.walk(root):
        if len(path.parts) == depth and path.name.endswith("_rgb.jp2"):
            yield sys.intern(path.parent.name), _corner(path)


def _corner(rgb: Path) -> str:
    match = TILE.fullmatch(rgb.name)
    if match is None:
        raise DecurError(f"{rgb}: name is not <easting>_<northing>_rgb.jp2; rename or remove it")
    return f"{match['east']}_{match['north']}"


def _partner(rgb: Path, kind: str) -> Path:
    return rgb.with_name(rgb.name.replace("_rgb.jp2", f"_{kind}.tif"))


def _missing(tile: str, paths: dict[str, Path], files: RawFiles) -> str:
    """Return the fault of a tile that lacks a file, else an empty string."""
    remedies = {"seg": "fetch the archive again"}
    remedies["dem"] = "set datasets.geonrw.modalities to [rgb, nir]"
    for name, remedy in remedies.items():
        if name in paths and not files.is_file(paths[name]):
            return f"{tile}: {paths[name]} not found; {remedy}"
    return ""


@lru_cache(maxsize=1)
def _image(path: Path) -> NDArray[np.uint8]:
    """Read the bands (3 or 4, H, W) of a tile's image."""
    image = read_image(path)
    height, width, bands = image.shape if image.ndim == 3 else (*image.shape, 1)
    if image.dtype != np.uint8 or bands not in (3, 4) or height != width or height % GRID:
        raise DecurError(
            f"{path}: image is {image.dtype} {image.shape}, expected a square of 3 or 4 bands of "
            f"uint8 that can be cut into {GRID} x {GRID} patches"
        )
    image.setflags(write=False)  # shared by the patches
    return image.transpose(2, 0, 1)


@lru_cache(maxsize=3)
def _places(path: Path) -> tuple[Place, ...]:
    return tuple(places([path]))


@lru_cache(maxsize=2)
def _band(path: Path, kind: str) -> NDArray[Any]:
    """Read the labels or the elevation (H, W) of a tile."""
    band = read_band(path, kind)
    band.setflags(write=False)
    return band


def _cut(tile: NDArray[Any], patch: int) -> NDArray[Any]:
    """Return patch 1..16 (..., H/4, W/4), row by row from the top left."""
    side = tile.shape[-1] // GRID
    row, column = divmod(patch - 1, GRID)
    return tile[..., row * side : (row + 1) * side, column * side : (column + 1) * side]
