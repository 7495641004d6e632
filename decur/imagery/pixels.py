"""Read rasters, and apply or refuse what a file declares about its values.

Applied: scale and offset, no-data values, masks inside and beside the file, an alpha band, band
names. Refused: complex numbers, palettes in colour images, several pages, rotated images.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from decur.artifacts.files import check_readable
from decur.errors import DecurError
from decur.imagery.source import is_file, open_file

Array = NDArray[Any]

# A crop or a PNG needs no georeference.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

GDAL = {
    # Without this, opening a file lists its folder, which is slow for large folders.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # GDAL's shortcut for whole PNGs reads a truncated file without an error.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}

DRIVERS = {".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""GDAL driver per file ending; the default is GeoTIFF. Other formats may refer to other files."""

SIDE_FILES = (".msk", ".ovr")
"""Endings that GDAL appends to a raster's name for its mask and overviews, in any format."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a raster with rasterio; failures inside the block become a DecurError with its path.

    Side files are read only if they are TIFF. Other formats, and the entry OVERVIEW_FILE, may name
    any file or address to read.
    """
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if is_file(side) and _head(side) not in TIFF:
            raise DecurError(f"{side}: is not a TIFF, which GDAL writes beside rasters; remove it")
    driver = DRIVERS.get(path.suffix.lower(), "GTiff")
    try:
        with rasterio.open(path, driver=driver) as file:
            if "OVERVIEW_FILE" in file.tags(ns="OVERVIEWS"):
                raise DecurError(f"{path}: its overview is in another file; convert it without")
            yield file
    except (RasterioError, CPLE_BaseError, MemoryError, UnicodeDecodeError) as error:
        check_readable(path)
        # rasterio's own message only refers to GDAL's, which is its cause.
        reason = str(error.__cause__ or error) if is_file(path) else "no such file"
        reason = " ".join(reason.split())
        raise DecurError(f"{path}: cannot be read ({reason}); fetch the file again") from error


def count_bands(file: Any, wanted: int) -> int:
    """Count the bands of an open raster that are values: all but an alpha band beyond `wanted`."""
    alpha = file.colorinterp[-1] == ColorInterp.alpha
    return int(file.count) - bool(alpha and file.count == wanted + 1)


def check_count(path: Path, file: Any, wanted: int, *, labels: bool = False) -> None:
    """Raise a DecurError unless `read_values` finds `wanted` bands in an open raster."""
    check_declared(path, file, labels=labels)
    if count_bands(file, wanted) != wanted:
        raise DecurError(f"{path}: has {file.count} bands, expected {wanted}")


def band_names(file: Any) -> tuple[str, ...] | None:
    """Return the band names of an open raster if it names all bands, else None.

    A TIFF marks three bands as red, green and blue by default, so these marks are not taken as
    names.
    """
    if all(file.descriptions):
        return tuple(file.descriptions)
    marked = file.colorinterp[: len(COLOURS)]
    if set(marked) != set(COLOURS) or file.count > len(COLOURS) + 1:
        return None
    if file.driver == "GTiff" and tuple(marked) == COLOURS:
        return None
    return tuple(colour.name for colour in file.colorinterp)


def read_values(
    path: Path,
    file: Any,
    bands: Sequence[int],
    *,
    window: Window | None = None,
    shape: tuple[int, int] | None = None,
    unit: float = 1,
    labels: bool = False,
) -> tuple[Array, NDArray[np.bool_]]:
    """Read values (C, H, W) of an open raster as declared, and which are valid (C, H, W).

    Without a scale or an offset the values keep the dtype of the file.

    Args:
        path: file name, for errors.
        file: the raster.
        bands: which bands, from 0.
        window: part to read; None reads all.
        shape: height and width of the result, sampled at evenly spaced pixels.
        unit: factor on physical values: reflectance times 10,000 has the unit 10,000. If the file
            has a scale, its scaled values are physical and are multiplied by this.
        labels: the values are class indices, so a palette only assigns display colours.

    Raises:
        DecurError: the file declares something that cannot be applied.
    """
    check_declared(path, file, labels=labels)
    numbers = [band + 1 for band in bands]
    size = None if shape is None else (len(numbers), *shape)
    stored: Array = file.read(numbers, window=window, out_shape=size)
    valid = np.ones(stored.shape, dtype=bool)
    for number, values, good in zip(numbers, stored, valid, strict=True):
        flags = file.mask_flag_enums[number - 1]
        if MaskFlags.all_valid not in flags and not _alpha_is_data(file, flags, len(numbers)):
            good &= file.read_masks(number, window=window, out_shape=shape) > 0
        # If there is a mask, GDAL ignores the no-data value.
        if (nodata := file.nodatavals[number - 1]) is not None:
            good &= values != nodata
    if np.issubdtype(stored.dtype, np.floating) and not labels:
        valid &= np.isfinite(stored)
    return _applied(file, numbers, stored, unit), valid


def check_declared(path: Path, file: Any, *, labels: bool = False) -> None:
    """Raise a DecurError if an open raster declares something that `read_values` cannot apply."""
    if any(np.issubdtype(np.dtype(t), np.complexfloating) for t in _types(file)):
        raise DecurError(f"{path}: contains complex numbers; use their amplitude or power in dB")
    if pages := len(file.subdatasets):
        raise DecurError(f"{path}: has {pages} pages; save each as its own file or as a band")
    if not labels and ColorInterp.palette in file.colorinterp:
        raise DecurError(
            f"{path}: contains palette indices, not colours; convert it "
            "(gdal_translate -expand rgb)"
        )
    if file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and not labels:
        raise DecurError(f"{path}: declares 0 to be white; invert its values (255 - x)")
    turned = file.tags().get("EXIF_Orientation", "1").strip()
    if turned not in ("0", "1"):
        raise DecurError(
            f"{path}: is stored rotated or mirrored (EXIF orientation {turned}); save it upright"
        )
    for scale, offset in zip(file.scales, file.offsets, strict=True):
        if not (np.isfinite([scale, offset]).all() and scale):
            raise DecurError(f"{path}: declares scale {scale:g} and offset {offset:g}; fix them")
    if labels and not _plain(file):
        raise DecurError(f"{path}: declares a scale or offset, but class indices have none")


def check_no_side_file(path: Path) -> None:
    """Raise a DecurError if files beside an image declare a scale, an offset or a mask.

    Statistics files, which GIS programs write, are ignored.
    """
    names = (path.name + suffix for suffix in (".aux.xml", ".msk"))
    if not any(is_file(path.with_name(name)) for name in names):
        return
    with rasterio.Env(**GDAL), opened(path) as file:
        flags = {flag for of_band in file.mask_flag_enums for flag in of_band}
        if not _plain(file) or flags - {MaskFlags.all_valid, MaskFlags.alpha}:
            raise DecurError(
                f"{path}: files beside it declare a scale, an offset or a mask, which images of "
                "this dataset do not have; remove them"
            )


def invalid_as_nan(values: Array, valid: NDArray[np.bool_]) -> Array:
    """Replace invalid values by NaN; the dtype is kept if all are valid."""
    return values if valid.all() else np.where(valid, values, np.nan)


def _head(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(4)


def _types(file: Any) -> tuple[str, ...]:
    # NumPy has no complex integer types.
    return tuple("complex64" if "complex" in name else name for name in file.dtypes)


def _plain(file: Any) -> bool:
    return set(file.scales) == {1.0} and set(file.offsets) == {0.0}


def _alpha_is_data(file: Any, flags: Sequence[MaskFlags], wanted: int) -> bool:
    """Return whether the alpha band is data: GDAL takes the fourth of four byte bands for alpha."""
    return MaskFlags.alpha in flags and file.count == wanted


def _applied(file: Any, numbers: Sequence[int], stored: Array, unit: float) -> Array:
    if _plain(file):
        return stored
    scales, offsets = (
        np.array([all_of[n - 1] for n in numbers])[:, None, None]
        for all_of in (file.scales, file.offsets)
    )
    # An offset alone does not change the unit of the values.
    factor = 1 if set(file.scales) == {1.0} else unit
    values: Array = stored.astype(np.float64) * (scales * factor) + offsets * factor
    return values
