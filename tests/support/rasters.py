"""Tiny rasters for the tests of the dataset readers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import ArrayLike
from rasterio import Affine

from decur.errors import DecurError


def write_tiff(
    path: Path,
    array: ArrayLike,
    *,
    left: float = 500_000,
    pixel: float = 10,
    crs: str | None = "EPSG:32632",
    nodata: float | None = None,
) -> None:
    """Write (H, W) or (C, H, W) as a GeoTIFF with a place on the map, 240 m wide if 24 of 10 m."""
    array = np.asarray(array)
    bands = array if array.ndim == 3 else array[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=bands.shape[1],
        width=bands.shape[2],
        dtype=bands.dtype,
        crs=crs,
        transform=Affine(pixel, 0, left, 0, -pixel, 5_000_000),
        nodata=nodata,
    ) as file:
        file.write(bands)


def cut_short(path: Path) -> None:
    """Leave only the first half of a file, as an interrupted download does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def one_line_naming(raised: pytest.ExceptionInfo[DecurError], path: Path | str) -> bool:
    """Whether the message of an error is one line that names the path."""
    message = str(raised.value)
    return "\n" not in message and str(path) in message


def write_bare_tiff(path: Path, image: np.ndarray, **profile: Any) -> None:
    """Write (H, W) or (C, H, W) as a GeoTIFF without a place on the map, unless one is given."""
    bands = image if image.ndim == 3 else image[None]
    count, height, width = bands.shape
    size = {"count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size | profile) as file:
        file.write(bands)
