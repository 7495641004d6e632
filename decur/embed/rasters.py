"""Embed rasters of any size by windows: the result is a georeferenced grid of features.

Only one batch of windows is in memory. If the windows do not fit the raster, the last ones extend
beyond its edge, where there are no data, or a strip narrower than half a window is skipped.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.windows import Window

from decur.embed.encoder import HHA, Encoder
from decur.errors import DecurError
from decur.imagery.band_names import BLACK, band_map
from decur.imagery.pixels import GDAL, band_names, check_declared, count_bands, opened, read_values
from decur.imagery.plausible import image_fault, unit_fault
from decur.imagery.rasters import named
from decur.weights.net_input import eight_bits

Array = NDArray[Any]
BATCH = 64
MOST_EMPTY = 0.5
"""Fraction of a window's pixels that may lack data; they are replaced by the mean of the others."""

SAMPLED, SAMPLED_SIDE = 8, 64
"""A raster's range of values is checked on 8 x 8 squares of 64 pixels."""

Read = Callable[[Window], tuple[Array, NDArray[np.bool_]]]
"""Pixels (C, H, W) of a window, and a mask of the valid ones (H, W)."""

Order = list[int | None]
"""Bands of a file in the order to read them, from 0; None for one that is black."""


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
        """Count rows and columns of windows; the last exceed the edge by at most half a side."""
        rows, columns = (
            1 + max(0, min(-(-(n - self.side) // self.stride), (n - self.side // 2) // self.stride))
            for n in (self.height, self.width)
        )
        return rows, columns

    @property
    def grid(self) -> Affine:
        """Map column and row of cells to the ground; a cell's centre is that of its window."""
        shift = (self.side - self.stride) / 2
        return self.transform @ Affine.translation(shift, shift) @ Affine.scale(self.stride)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return row and column of a window's upper left pixel."""
        return row * self.stride, column * self.stride

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """Return x and y of a window's centre, in pixels if the raster is not georeferenced."""
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
    """Compute features of all windows of a raster, `stride` pixels apart; None: side by side.

    Raises:
        DecurError: the raster is unreadable, has other bands than the encoder, or values that its
            scaling does not take.
    """
    windows = windows_of(encoder, Path(path), stride)
    rows = feature_rows(encoder, Path(path), windows, batch=batch)
    return Grid(np.stack(list(rows)), windows)


def windows_of(encoder: Encoder, path: Path, stride: int | None = None) -> Windows:
    """Lay out the windows of a raster; raises as `embed_raster`."""
    stride = encoder.window if stride is None else stride
    if not 1 <= stride <= encoder.window:
        raise DecurError(f"stride {stride}: expected 1 to {encoder.window}, the window's side")
    with rasterio.Env(**GDAL), opened(path) as file:
        check_raster(encoder, path, file, choose_bands(encoder, path, file))
        side = encoder.window
        if min(file.height, side) * min(file.width, side) < (1 - MOST_EMPTY) * side**2:
            raise DecurError(
                f"{path}: {file.width} x {file.height} pixels are too few for a window of {side}; "
                "embed it as a whole (--whole)"
            )
        crs = None if file.crs is None else file.crs.to_string()
        return Windows(file.height, file.width, encoder.window, stride, file.transform, crs)


def choose_bands(encoder: Encoder, path: Path, file: Any) -> Order:
    """Choose the bands of an open raster that the encoder needs, by their names if there are any.

    Raises:
        DecurError: a band is missing that may not be black, or there are too many or too few.
    """
    check_declared(path, file)
    wanted = encoder.bands
    count = count_bands(file, len(wanted))
    if encoder.file_bands is not None:
        if len(encoder.file_bands) not in (count, file.count):
            raise DecurError(
                f"{path}: has {file.count} bands, but --bands lists {len(encoder.file_bands)}"
            )
        with named(path):
            return band_map(encoder.file_bands, wanted)
    names = band_names(file)
    whose = f"{encoder.modality} of {encoder.source}"
    if names is not None and len(wanted) > 1:
        try:
            return band_map(names, wanted)
        except DecurError as error:
            if any(file.descriptions):
                raise DecurError(
                    f"{path}: {error} by {whose}; list the bands of the file with --bands, in "
                    "their order"
                ) from None
    if count != len(wanted):
        hint = "; for depth images give the camera's intrinsics" if encoder.modality == HHA else ""
        if count + len(BLACK) == len(wanted) and set(BLACK) <= set(wanted):
            rest = ",".join(band for band in wanted if band not in BLACK)
            hint = f"; if only {', '.join(BLACK)} is missing, use --bands {rest}"
        raise DecurError(
            f"{path}: has {file.count} bands, but {whose} expects {len(wanted)}: "
            f"{', '.join(wanted)}{hint}"
        )
    return list(range(count))


def read_bands(
    encoder: Encoder, path: Path, file: Any, order: Order, window: Window | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Read the encoder's bands (C, H, W) of an open raster, and a mask of valid pixels (H, W)."""
    there = [band for band in order if band is not None]
    unit = encoder.transform.get("unit", 1)
    values, valid = read_values(path, file, there, window=window, unit=unit)
    if len(there) < len(order):
        found = np.zeros((len(order), *values.shape[1:]), values.dtype)
        found[[i for i, band in enumerate(order) if band is not None]] = values
        values = found
    everywhere: NDArray[np.bool_] = np.logical_and.reduce(valid)
    return values, everywhere


def check_raster(encoder: Encoder, path: Path, file: Any, order: Order) -> None:
    """Raise a DecurError if the values of an open raster can hardly be what the encoder expects."""
    if None in order:
        black = ", ".join(b for b, place in zip(encoder.bands, order, strict=True) if place is None)
        print(f"decur: {path}: has no {black}; black is used instead", file=sys.stderr)
    if encoder.own_scale or encoder.intrinsics is not None:
        return
    found = []
    for top in _starts(file.height):
        for left in _starts(file.width):
            side = min(SAMPLED_SIDE, file.width - left), min(SAMPLED_SIDE, file.height - top)
            values, valid = read_bands(encoder, path, file, order, Window(left, top, *side))
            found.append(values[:, valid])
    pixels = np.concatenate(found, axis=1)
    if encoder.transform["scaling"] == "none" and pixels.dtype != np.uint8:
        return  # this is reported by another error
    if not pixels.size:
        return
    with named(path):
        if fault := _fault(encoder, pixels, order):
            raise DecurError(fault)


def _fault(encoder: Encoder, pixels: Array, order: Order) -> str:
    """Explain why pixels (C, n) from all over a raster can hardly be what the encoder expects."""
    transform, bands = (
        encoder.transform,
        [i for i, band in enumerate(order) if band is not None],
    )
    stored = eight_bits(pixels[..., None], transform)[bands, :, 0]
    if seen := transform.get("seen"):
        transform = {
            **transform,
            "seen": {side: [limits[i] for i in bands] for side, limits in seen.items()},
        }
    return unit_fault(pixels, transform) or image_fault([*pixels[bands]], [*stored], transform)


def _starts(length: int) -> list[int]:
    last = max(0, length - SAMPLED_SIDE)
    return sorted({*np.linspace(0, last, SAMPLED).round().astype(int).tolist()})


def feature_rows(
    encoder: Encoder, path: Path, windows: Windows, *, batch: int = BATCH
) -> Iterator[NDArray[np.float32]]:
    """Yield features (columns, d) of each row of windows; raises as `embed_raster`."""
    rows, columns = windows.shape
    with rasterio.Env(**GDAL), opened(path) as file:
        order = choose_bands(encoder, path, file)

        def read(window: Window) -> tuple[Array, NDArray[np.bool_]]:
            return read_bands(encoder, path, file, order, window)

        for row in range(rows):
            found = np.full((columns, encoder.backbone.feature_dim), np.nan, np.float32)
            for start in range(0, columns, batch):
                count = min(batch, columns - start)
                images = _images(read, windows, row, start, count)
                with named(path):
                    stored = {i: encoder.stored(x) for i, x in images.items()}
                if stored:
                    found[[start + i for i in stored]] = encoder.features(list(stored.values()))
            yield found


def _images(read: Read, windows: Windows, row: int, start: int, count: int) -> dict[int, Array]:
    """Read some windows of a row, by number, and fill their gaps; skip windows of mostly gaps."""
    top, left = windows.corner(row, start)
    block, valid = _block(read, windows, top, left, (count - 1) * windows.stride + windows.side)
    images = {}
    for i in range(count):
        across = slice(i * windows.stride, i * windows.stride + windows.side)
        inside = valid[:, across]
        if 1 - inside.mean() <= MOST_EMPTY:
            images[i] = _filled(block[:, :, across], inside)
    return images


def _block(
    read: Read, windows: Windows, top: int, left: int, width: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Read pixels (C, side, width) and a mask of the valid ones: inside the raster, with data."""
    height = windows.side
    there = Window(left, top, min(width, windows.width - left), min(height, windows.height - top))
    found, ok = read(there)
    block = np.zeros((len(found), height, width), found.dtype)
    valid = np.zeros((height, width), dtype=bool)
    block[:, : there.height, : there.width] = found
    valid[: there.height, : there.width] = ok
    return block, valid


def _filled(image: Array, valid: NDArray[np.bool_]) -> Array:
    if valid.all():
        return image
    means = image[:, valid].mean(axis=1).astype(image.dtype)
    return np.where(valid, image, means[:, None, None])
