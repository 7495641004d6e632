"""Read rasters of the built-in datasets as arrays; every error names the file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from decur.errors import DecurError
from decur.imagery.images import check_pixels
from decur.imagery.pixels import GDAL, check_count, invalid_as_nan, opened, read_values
from decur.imagery.plausible import REFLECTANCE_UNIT

Array = NDArray[Any]

DTYPES = {
    "reflectance": ("uint16", "int16"),  # times 10,000; 8-bit files were scaled by someone else
    "backscatter": ("float32", "float64"),
    "elevation": ("float32", "float64", "int16", "uint16", "int32"),
    "labels": ("uint8", "int8", "uint16", "int16", "uint32", "int32"),
}
"""Allowed dtypes of a raster of each kind."""

UNITS = {"reflectance": REFLECTANCE_UNIT}
"""Factor on the physical values of a file with a scale, per kind; 1 if not listed."""


def read_bands(paths: Iterable[Path], kind: str) -> list[Array]:
    """Read the only band (H, W) of each file, opened once; raises as `read_raster`."""
    with rasterio.Env(**GDAL):
        return [_read(path, kind, bands=1)[0] for path in paths]


def read_band(path: Path, kind: str) -> Array:
    """Read the only band (H, W) of a file; raises as `read_raster`."""
    return read_bands([path], kind)[0]


def read_raster(path: Path, kind: str, bands: int, cell: int = 1, grid: int = 1) -> Array:
    """Read all bands (C, H, W) of a file, or of one cell of it.

    Pixels that the file declares as no data become NaN, except in labels.

    Args:
        path: a GeoTIFF or JPEG 2000 file.
        kind: a key of `DTYPES`.
        bands: number of bands the file must have.
        cell: number of the cell, 1 to `grid**2`, row by row.
        grid: number of cells along each side; remainders are an error.

    Raises:
        DecurError: the file is missing or damaged, has a wrong type or number of bands, or cannot
            be divided into the grid.
    """
    with rasterio.Env(**GDAL):
        return _read(path, kind, bands, cell, grid)


def _read(path: Path, kind: str, bands: int, cell: int = 1, grid: int = 1) -> Array:
    with opened(path) as file:
        _check_header(path, file, kind, bands, grid)
        row, column = divmod(cell - 1, grid)
        height, width = file.height // grid, file.width // grid
        window = Window(column * width, row * height, width, height)
        values, valid = read_values(
            path,
            file,
            range(bands),
            window=window,
            unit=UNITS.get(kind, 1),
            labels=kind == "labels",
        )
        return values if kind == "labels" else invalid_as_nan(values, valid)


def _check_header(path: Path, file: Any, kind: str, bands: int, grid: int) -> None:
    check_count(path, file, bands, labels=kind == "labels")
    if file.dtypes[0] not in DTYPES[kind]:
        raise DecurError(
            f"{path}: {kind} is {file.dtypes[0]}, expected {' or '.join(DTYPES[kind])}"
        )
    check_pixels(path, file.width, file.height, bands)
    for height, width in file.block_shapes:  # GDAL decodes whole blocks
        check_pixels(path, width, height)
    if file.height % grid or file.width % grid:
        size = f"{file.width} x {file.height} pixels"
        raise DecurError(f"{path}: {size} cannot be cut into {grid} x {grid} patches")


class Place(NamedTuple):
    """Describe where a raster lies: its file, coordinate system as WKT, bounds, larger pixel side.

    `bounds` are left, bottom, right and top. `bounds` and `pixel` have the units of the system.
    """

    path: str
    crs: str
    bounds: tuple[float, ...]
    pixel: float


def places(paths: Iterable[Path]) -> list[Place]:
    """Find where rasters lie; those without a georeference are omitted."""
    found = []
    with rasterio.Env(**GDAL):
        for path in paths:
            with opened(path) as file:
                if file.crs is not None:
                    crs, pixel = file.crs.to_wkt(), max(file.res)
                    found.append(Place(str(path), crs, tuple(file.bounds), pixel))
    return found


def check_same_place(found: Iterable[Place], shift: float = 0.001) -> None:
    """Check that rasters lie on the same ground.

    Args:
        found: places of rasters of any resolution.
        shift: largest distance of a border from the first one's, as a share of its width. Half a
            pixel, of the raster with the larger pixels, is always allowed.

    Raises:
        DecurError: a raster has another coordinate system or place than the first raster.
    """
    first: Place | None = None
    for place in found:
        if first is None:
            first = place
            continue
        if place.crs != first.crs:
            crs, other = CRS.from_wkt(place.crs), CRS.from_wkt(first.crs)
            if crs != other:
                raise DecurError(f"{place.path}: is in {crs}, but {first.path} is in {other}")
        width = abs(first.bounds[2] - first.bounds[0])
        most = max(shift * width, max(place.pixel, first.pixel) / 2)
        away = max(abs(a - b) for a, b in zip(place.bounds, first.bounds, strict=True))
        if not away <= most * (1 + 1e-6):
            raise DecurError(
                f"{place.path}: lies elsewhere than {first.path}, {away / width:.1%} of its width "
                f"away, more than {most / width:.1%}; fetch both again or skip them"
            )


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's path before a DecurError of a function that only receives its pixels."""
    try:
        yield
    except DecurError as error:
        raise DecurError(f"{path}: {error}") from error


def check_square(path: Path, image: Array, side: int) -> None:
    """Raise a DecurError unless the last two axes of an image are `side` x `side` pixels."""
    check_sides(path, image.shape, side)


def check_sides(path: Path, shape: tuple[int, ...], side: int) -> None:
    """Raise a DecurError unless an image of this shape (..., H, W) is `side` x `side` pixels."""
    height, width = shape[-2:]
    if (height, width) != (side, side):
        raise DecurError(
            f"{path}: {width} x {height} pixels, expected {side} x {side}; fetch the file again"
        )


def check_not_blank(path: Path, *bands: Array) -> None:
    """Raise a DecurError if every value of all bands is 0, which means no data."""
    if not any(band.any() for band in bands):
        raise DecurError(f"{path}: every pixel is 0, no data; fetch the file again or skip it")
