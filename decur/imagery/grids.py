"""Check whether the images of a pair share a pixel grid, and resample one image onto the other.

Two grids are the same if corresponding pixels are at most half a pixel apart. The sizes may differ
by one row or column: the extra pixels at the right and the bottom are skipped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError
from rasterio.warp import reproject, transform
from rasterio.windows import Window

from decur.errors import DecurError

MOST_SHIFT = 0.5
"""Largest distance between corresponding pixels of two grids that count as the same, in pixels."""

LEAST_COMMON = 0.5
"""Share of the first image that another image of the same place must cover."""

MOST_CUT = 1
"""Largest difference in rows or columns between two images of one grid."""

ROUNDING = 1e-3
"""Tolerance for decimal rounding of coordinates, in pixels."""

MARGIN = 2
"""Pixels beyond an area that interpolation may read."""


Kernel = Literal["nearest", "bilinear"]

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Grid:
    """Describe the pixel grid of a raster; `transform` is None if it is not georeferenced."""

    path: Path
    height: int
    width: int
    transform: Affine | None
    crs: CRS | None

    @classmethod
    def of(cls, path: Path, file: Any) -> "Grid":
        """Read the grid of an open raster."""
        placed = file.crs is not None or file.transform != Affine.identity()
        return cls(path, file.height, file.width, file.transform if placed else None, file.crs)

    @property
    def size(self) -> str:
        """Return the size as text for messages."""
        return f"{self.width} x {self.height} pixels"


@dataclass(frozen=True)
class Area:
    """Describe the pixels that all images of a pair share: `box`, in the grid `first`."""

    first: Grid
    box: Box

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return self.box[3] - self.box[1]

    def window(self, window: Window) -> Window:
        """Convert a window of the area to a window of the first grid."""
        left, top, _, _ = self.box
        return Window(left + window.col_off, top + window.row_off, window.width, window.height)

    def transform(self, window: Window) -> Affine | None:
        """Return the transform from a window's pixels to the ground; None without georeference."""
        if self.first.transform is None:
            return None
        inside = self.window(window)
        return self.first.transform @ Affine.translation(inside.col_off, inside.row_off)


def common_area(grids: Sequence[Grid], *, interpolated: bool = False) -> Area:
    """Find the pixels of the first grid that all other grids share.

    The first grid is the first one with a georeference, if any. With `interpolated` (see
    `on_grid`), the others may have a different grid.

    Raises:
        DecurError: an image shows another place, or has another grid and may not be interpolated.
    """
    first, *others = sorted(grids, key=lambda grid: grid.transform is None)
    box = 0, 0, first.width, first.height
    for other in others:
        covered = 0, 0, other.width, other.height
        if fault := _beside(first, other):
            covered = _covered(first, other)
            _check_place(first, other, covered)
            if not interpolated:
                raise DecurError(
                    f"{other.path}: {fault}; set `align: bilinear` or `nearest` to resample it "
                    "onto the other grid, or resample one of them yourself"
                )
        box = _intersection(box, covered)
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise DecurError(f"{first.path}: has no pixel in common with all of its partners")
    return Area(first, box)


def is_same(area: Area, grid: Grid) -> bool:
    """Return whether a grid has the same pixels as the area's first grid."""
    return not _beside(area.first, grid)


def source_window(area: Area, window: Window, grid: Grid) -> Window:
    """Find the part of `grid` that interpolation onto a window of an area needs."""
    x, y = _seen_from(grid, area.first, _borders(area.window(window)))
    left, top = np.floor([x.min(), y.min()]).astype(int) - MARGIN
    right, bottom = np.ceil([x.max(), y.max()]).astype(int) + MARGIN
    left, right = np.clip([left, right], 0, grid.width)
    top, bottom = np.clip([top, bottom], 0, grid.height)
    return Window(int(left), int(top), int(right - left), int(bottom - top))


def on_grid(
    values: NDArray[Any], grid: Grid, part: Window, area: Area, window: Window, kernel: Kernel
) -> NDArray[np.float64]:
    """Resample values (C, h, w) of a part of `grid` onto a window of an area; NaN without data.

    If the pixels of `grid` are smaller, bilinear interpolation averages them.
    """
    assert grid.transform is not None
    found = np.full((len(values), window.height, window.width), np.nan)
    crs = area.first.crs or CRS.from_epsg(3857)  # if neither has one, any planar system works
    reproject(
        values.astype(np.float64),
        found,
        src_transform=grid.transform @ Affine.translation(part.col_off, part.row_off),
        src_crs=grid.crs or crs,
        src_nodata=np.nan,
        dst_transform=area.transform(window),
        dst_crs=crs,
        dst_nodata=np.nan,
        resampling=Resampling[kernel],
    )
    return found


def _beside(first: Grid, other: Grid) -> str:
    """Describe in words how another grid differs from the first; empty if they are the same."""
    across, down = other.width - first.width, other.height - first.height
    if first.transform is None or other.transform is None:
        return f"is {other.size}, {first.path} is {first.size}" if across or down else ""
    if first.crs is not None and other.crs is not None and first.crs != other.crs:
        return f"is in {_name(other.crs)}, {first.path} is in {_name(first.crs)}"
    width, height = min(first.width, other.width), min(first.height, other.height)
    seen = ~first.transform @ other.transform
    corners = [(x, y) for x in (0, width) for y in (0, height)]
    shift = max(max(abs(u - x), abs(v - y)) for x, y in corners for u, v in [seen @ (x, y)])
    if not shift <= MOST_SHIFT + ROUNDING:
        return (
            f"its pixels are up to {shift:.2f} pixels from those of {first.path}, more than "
            f"{MOST_SHIFT:g}"
        )
    if max(abs(across), abs(down)) > MOST_CUT:
        return f"is {other.size}, {first.path} is {first.size}, more than {MOST_CUT} apart"
    return ""


def _check_place(first: Grid, other: Grid, covered: Box) -> None:
    left, top, right, bottom = covered
    share = max(0, right - left) * max(0, bottom - top) / (first.width * first.height)
    if share < LEAST_COMMON:
        raise DecurError(
            f"{other.path}: lies elsewhere than {first.path}: it covers {share:.0%} of it, less "
            f"than {LEAST_COMMON:.0%}; give the same name only to images of one place"
        )


def _covered(first: Grid, other: Grid) -> Box:
    """Find the pixels of the first grid that the other covers: left, top, right, bottom.

    Raises:
        DecurError: one of them is not georeferenced.
    """
    if first.transform is None or other.transform is None:
        unplaced = first if first.transform is None else other
        raise DecurError(
            f"{other.path}: is {other.size}, its partner {first.path} is {first.size}, and "
            f"{unplaced.path.name} is not georeferenced; resample one of them"
        )
    x, y = _seen_from(first, other, _borders(Window(0, 0, other.width, other.height)))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0, 0, 0, 0
    # `other` may be rotated: whichever of its borders is leftmost here bounds the box on the left.
    left, right = x[x.mean(axis=1).argmin()].max(), x[x.mean(axis=1).argmax()].min()
    top, bottom = y[y.mean(axis=1).argmin()].max(), y[y.mean(axis=1).argmax()].min()
    return _intersection(
        (0, 0, first.width, first.height),
        (
            math.ceil(left - ROUNDING),
            math.ceil(top - ROUNDING),
            math.floor(right + ROUNDING),
            math.floor(bottom + ROUNDING),
        ),
    )


def _intersection(one: Box, other: Box) -> Box:
    (a, b, c, d), (left, top, right, bottom) = one, other
    return max(a, left), max(b, top), min(c, right), min(d, bottom)


def _borders(window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sample points on the four borders of a window, in pixels: x and y, (4, 21) each."""
    along, zeros = np.linspace(0, 1, 21), np.zeros(21)
    x = np.stack([along, along, zeros, zeros + 1])
    y = np.stack([zeros, zeros + 1, along, along])
    return window.col_off + x * window.width, window.row_off + y * window.height


def _seen_from(
    grid: Grid, other: Grid, points: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert points from pixels of `other` to pixels of `grid`."""
    assert grid.transform is not None and other.transform is not None
    x, y = other.transform @ points
    if grid.crs is not None and other.crs is not None and grid.crs != other.crs:
        try:
            converted = transform(other.crs, grid.crs, x.ravel(), y.ravel())
        except (CRSError, CPLE_BaseError) as error:
            raise DecurError(
                f"{other.path}: cannot be converted to the coordinates of {grid.path} ({error}); "
                "convert both to one coordinate system"
            ) from error
        x, y = (np.reshape(c, x.shape) for c in converted)
    u, v = ~grid.transform @ (x, y)
    return u, v


def _name(crs: CRS) -> str:
    return crs.to_string() if len(crs.to_string()) < 40 else "coordinates of its own"
