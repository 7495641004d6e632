"""The one reader of rasters: what a file declares about its values is applied, or refused.

Applied: scale and offset, no-data values, masks inside the file and beside it, an alpha band, names
of bands. Refused: complex numbers, palettes where colours are wanted, several pages, turned images.
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

# A crop or a PNG has no place on the map and needs none.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

GDAL = {
    # Otherwise opening a file lists its folder, which takes long where there are many.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # GDAL's fast road for whole PNGs reads a truncated one without an error.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
}

DRIVERS = {".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""How GDAL may read a file, else as GeoTIFF. Other formats may name files or addresses to read."""

SIDE_FILES = (".msk", ".ovr")
"""What GDAL appends to the name of a raster's mask and of its overviews, in any format it knows."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A raster opened by rasterio; what fails inside the block is a DecurError with its name.

    Side files are read if they are TIFF: other formats, and the entry OVERVIEW_FILE, may name any
    file or address to read.
    """
    for suffix in SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if is_file(side) and _head(side) not in TIFF:
            raise DecurError(f"{side}: is no TIFF, as GDAL writes it beside a raster; remove it")
    driver = DRIVERS.get(path.suffix.lower(), "GTiff")
    try:
        with rasterio.open(path, driver=driver) as file:
            if "OVERVIEW_FILE" in file.tags(ns="OVERVIEWS"):
                raise DecurError(f"{path}: names another file as its overview; convert it without")
            yield file
    except (RasterioError, CPLE_BaseError, MemoryError, UnicodeDecodeError) as error:
        check_readable(path)
        # rasterio's own message only points to GDAL's, which is its cause.
        reason = str(error.__cause__ or error) if is_file(path) else "no such file"
        reason = " ".join(reason.split())
        raise DecurError(f"{path}: cannot be read ({reason}); fetch the file again") from error


def count_bands(file: Any, wanted: int) -> int:
    """How many bands of an open raster hold values: all, but for an alpha band beyond `wanted`."""
    alpha = file.colorinterp[-1] == ColorInterp.alpha
    return int(file.count) - bool(alpha and file.count == wanted + 1)


def check_count(path: Path, file: Any, wanted: int, *, labels: bool = False) -> None:
    """Raise a DecurError unless an open raster has so many bands that `read_values` can read."""
    check_declared(path, file, labels=labels)
    if count_bands(file, wanted) != wanted:
        raise DecurError(f"{path}: has {file.count} bands, expected {wanted}")


def band_names(file: Any) -> tuple[str, ...] | None:
    """What an open raster calls its bands, if it names all of them.

    A TIFF whose three bands are marked as red, green and blue may be so by default alone, so this
    is no name.
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
    """Values (C, H, W) of an open raster as it declares them, and which are valid (C, H, W).

    Without a scale or an offset they keep the type of the file.

    Args:
        path: its name, for errors.
        file: the raster.
        bands: which bands, from 0.
        window: which part, or all.
        shape: height and width of the result, of evenly spaced pixels.
        unit: what the values are wanted in: reflectance times 10,000 has the unit 10,000. The scale
            of a file makes physical values, which are multiplied by it.
        labels: they are class indices: a palette says how to paint them.

    Raises:
        DecurError: the file declares what cannot be applied.
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
        # Beside a mask GDAL does not look at the value.
        if (nodata := file.nodatavals[number - 1]) is not None:
            good &= values != nodata
    if np.issubdtype(stored.dtype, np.floating) and not labels:
        valid &= np.isfinite(stored)
    return _applied(file, numbers, stored, unit), valid


def check_declared(path: Path, file: Any, *, labels: bool = False) -> None:
    """Raise a DecurError if an open raster declares something that `read_values` cannot apply."""
    if any(np.issubdtype(np.dtype(t), np.complexfloating) for t in _types(file)):
        raise DecurError(f"{path}: holds complex numbers; give their amplitude, or power in dB")
    if pages := len(file.subdatasets):
        raise DecurError(f"{path}: has {pages} pages; save each as a file, or as the bands of one")
    if not labels and ColorInterp.palette in file.colorinterp:
        raise DecurError(
            f"{path}: holds numbers of a palette, not colours; convert it "
            "(gdal_translate -expand rgb)"
        )
    if file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and not labels:
        raise DecurError(f"{path}: declares 0 to be white; turn its values over (255 - x)")
    turned = file.tags().get("EXIF_Orientation", "1").strip()
    if turned not in ("0", "1"):
        raise DecurError(
            f"{path}: is stored turned or mirrored (EXIF orientation {turned}); save it upright"
        )
    for scale, offset in zip(file.scales, file.offsets, strict=True):
        if not (np.isfinite([scale, offset]).all() and scale):
            raise DecurError(f"{path}: declares scale {scale:g} and offset {offset:g}; mend them")
    if labels and not _plain(file):
        raise DecurError(f"{path}: declares a scale or an offset, which class indices have not")


def check_no_side_file(path: Path) -> None:
    """Raise a DecurError if files beside an image declare how its values are to be read.

    Statistics, which a GIS leaves there, are no matter.
    """
    names = (path.name + suffix for suffix in (".aux.xml", ".msk"))
    if not any(is_file(path.with_name(name)) for name in names):
        return
    with rasterio.Env(**GDAL), opened(path) as file:
        flags = {flag for of_band in file.mask_flag_enums for flag in of_band}
        if not _plain(file) or flags - {MaskFlags.all_valid, MaskFlags.alpha}:
            raise DecurError(
                f"{path}: files beside it give it a scale, an offset or a mask, which images of "
                "this data set have not; remove them"
            )


def invalid_as_nan(values: Array, valid: NDArray[np.bool_]) -> Array:
    """The values, NaN where they are not valid; of the same type if all are."""
    return values if valid.all() else np.where(valid, values, np.nan)


def _head(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(4)


def _types(file: Any) -> tuple[str, ...]:
    # NumPy has no complex integers.
    return tuple("complex64" if "complex" in name else name for name in file.dtypes)


def _plain(file: Any) -> bool:
    return set(file.scales) == {1.0} and set(file.offsets) == {0.0}


def _alpha_is_data(file: Any, flags: Sequence[MaskFlags], wanted: int) -> bool:
    """GDAL takes the fourth of four bands of bytes for alpha, if nobody says that it is not."""
    return MaskFlags.alpha in flags and file.count == wanted


def _applied(file: Any, numbers: Sequence[int], stored: Array, unit: float) -> Array:
    if _plain(file):
        return stored
    scales, offsets = (
        np.array([all_of[n - 1] for n in numbers])[:, None, None]
        for all_of in (file.scales, file.offsets)
    )
    # An offset alone leaves the unit that the values have.
    factor = 1 if set(file.scales) == {1.0} else unit
    values: Array = stored.astype(np.float64) * (scales * factor) + offsets * factor
    return values
