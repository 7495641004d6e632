"""Rasters of any size through windows: a grid of features that lies on the same ground.

Only as many windows as make a batch are in memory. Where windows do not fill the raster, the last
reach beyond its edge, where there are no data, or leave out less than half a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.windows import Window

from decur.datasets.raster import GDAL, named, opened
from decur.embed.encoder import HHA, Encoder
from decur.errors import DecurError

Array = NDArray[Any]
BATCH = 64
MOST_EMPTY = 0.5
"""Of a window's pixels may have no data; they are seen as the mean of the others."""


@dataclass(frozen=True)
class Windows:
    """The windows of a raster: `side` pixels wide, `stride` pixels apart, from its upper left."""

    height: int
    width: int
    side: int
    stride: int
    transform: Affine
    crs: str | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of windows; the last reach beyond the edge by half a side at most."""
        rows, columns = (
            1 + max(0, min(-(-(n - self.side) // self.stride), (n - self.side // 2) // self.stride))
            for n in (self.height, self.width)
        )
        return rows, columns

    @property
    def grid(self) -> Affine:
        """From column and row of cells to the ground; a cell's centre is that of its window."""
        shift = (self.side - self.stride) / 2
        return self.transform @ Affine.translation(shift, shift) @ Affine.scale(self.stride)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Row and column of the upper left pixel of a window."""
        return row * self.stride, column * self.stride

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """x and y of a window's centre; in pixels where the raster lies nowhere."""
        x, y = self.grid @ (column + 0.5, row + 0.5)
        return x, y


@dataclass(frozen=True)
class Grid:
    """Features (rows, columns, d) float32 of a raster's windows, NaN where there are no data."""

    features: NDArray[np.float32]
    windows: Windows


def embed_raster(
    encoder: Encoder, path: Path | str, *, stride: int | None = None, batch: int = BATCH
) -> Grid:
    """Features of all windows of a raster, `stride` pixels apart; None: side by side.

    Raises:
        DecurError: the raster is unreadable, has other bands than the encoder, or values that its
            scaling does not take.
    """
    windows = windows_of(encoder, Path(path), stride)
    rows = feature_rows(encoder, Path(path), windows, batch=batch)
    return Grid(np.stack(list(rows)), windows)


def windows_of(encoder: Encoder, path: Path, stride: int | None = None) -> Windows:
    """The windows of a raster; raises as `embed_raster`."""
    stride = encoder.window if stride is None else stride
    if not 1 <= stride <= encoder.window:
        raise DecurError(f"stride {stride}: expected 1 to {encoder.window}, the window's side")
    with rasterio.Env(**GDAL), opened(path) as file:
        check_bands(encoder, path, file)
        side = encoder.window
        if min(file.height, side) * min(file.width, side) < (1 - MOST_EMPTY) * side**2:
            raise DecurError(
                f"{path}: {file.width} x {file.height} pixels are little of a window of {side}; "
                "see it whole (--whole)"
            )
        crs = None if file.crs is None else file.crs.to_string()
        return Windows(file.height, file.width, encoder.window, stride, file.transform, crs)


def check_bands(encoder: Encoder, path: Path, file: Any) -> None:
    """Raise a DecurError unless an open raster has the encoder's bands."""
    if file.count != len(encoder.bands):
        hint = "; of depth give the camera's intrinsics" if encoder.modality == HHA else ""
        raise DecurError(
            f"{path}: has {file.count} bands, {encoder.modality} of {encoder.source} expects "
            f"{len(encoder.bands)}: {', '.join(encoder.bands)}{hint}"
        )


def feature_rows(
    encoder: Encoder, path: Path, windows: Windows, *, batch: int = BATCH
) -> Iterator[NDArray[np.float32]]:
    """Features (columns, d) of one row of windows after the other; raises as `embed_raster`."""
    rows, columns = windows.shape
    with rasterio.Env(**GDAL), opened(path) as file:
        for row in range(rows):
            found = np.full((columns, encoder.backbone.feature_dim), np.nan, np.float32)
            for start in range(0, columns, batch):
                count = min(batch, columns - start)
                images = _images(file, windows, row, start, count)
                with named(path):
                    stored = {i: encoder.stored(x) for i, x in images.items()}
                if stored:
                    found[[start + i for i in stored]] = encoder.features(list(stored.values()))
            yield found


def _images(file: Any, windows: Windows, row: int, start: int, count: int) -> dict[int, Array]:
    """Some windows of a row by number, their gaps filled; without those that are mostly gap."""
    top, left = windows.corner(row, start)
    block, valid = _block(
        file, top, left, windows.side, (count - 1) * windows.stride + windows.side
    )
    images = {}
    for i in range(count):
        across = slice(i * windows.stride, i * windows.stride + windows.side)
        inside = valid[:, across]
        if 1 - inside.mean() <= MOST_EMPTY:
            images[i] = _filled(block[:, :, across], inside)
    return images


def _block(
    file: Any, top: int, left: int, height: int, width: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Pixels (C, height, width), and which are valid: inside the raster, with data."""
    there = Window(left, top, min(width, file.width - left), min(height, file.height - top))
    found = file.read(window=there, masked=True)
    ok = ~np.ma.getmaskarray(found).any(axis=0)
    if np.issubdtype(found.dtype, np.floating):
        ok &= np.isfinite(found.data).all(axis=0)
    block = np.zeros((file.count, height, width), found.dtype)
    valid = np.zeros((height, width), dtype=bool)
    block[:, : there.height, : there.width] = found.data
    valid[: there.height, : there.width] = ok
    return block, valid


def _filled(image: Array, valid: NDArray[np.bool_]) -> Array:
    if valid.all():
        return image
    means = image[:, valid].mean(axis=1).astype(image.dtype)
    return np.where(valid, image, means[:, None, None])
