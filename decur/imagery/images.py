"""Read image files as arrays, with one clear error for a missing or damaged file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from decur.artifacts.files import check_readable
from decur.errors import DecurError
from decur.imagery.pixels import check_no_side_file
from decur.imagery.source import open_file

MOST_PIXELS = 10**8
"""Largest plausible image, above that of any dataset; a corrupt header may ask for more memory."""

# Pillow only warns about moderately oversized images; `check_pixels` raises an error instead.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ORIENTATION = 0x0112
"""EXIF tag of the rotation or mirroring to apply before display; 1 means none."""

FORMATS = ("JPEG", "PNG", "JPEG2000")
"""Formats that Pillow may decode. It supports others; one of them runs an external program."""


def read_image(path: Path, mode: str | None = None, *, labels: bool = False) -> NDArray[Any]:
    """Read a whole JPEG, PNG or JPEG 2000 file.

    Args:
        path: the file.
        mode: a Pillow mode to convert to, such as "RGB"; None keeps the stored values: 16-bit
            depth, label indices, a fourth band.
        labels: the values are class indices, so a palette only assigns display colours.

    Returns:
        (H, W) or (H, W, bands), uint8 or uint16.

    Raises:
        DecurError: the file is missing, truncated, not an image or implausibly large, or declares
            something that this reader does not apply: rotation, transparency, palette, scale, mask.
    """
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            check_pixels(path, *image.size)
            if (turned := image.getexif().get(ORIENTATION, 1)) > 1:
                raise DecurError(
                    f"{path}: is stored rotated or mirrored (EXIF orientation {turned}); save it "
                    "upright"
                )
            if image.mode == "P" and mode is None and not labels:
                raise DecurError(f"{path}: contains palette indices, not colours; convert it")
            if mode is not None and image.has_transparency_data and not _opacity(image).all():
                raise DecurError(f"{path}: has transparent pixels; fill them or skip the image")
            found = np.array(image if mode is None else image.convert(mode))
        check_no_side_file(path)
        return found
    except DecurError:
        raise
    except Exception as error:  # Pillow's decoders raise many exception types for damaged files
        raise _unreadable(path, error) from error


def read_depth(path: Path) -> NDArray[np.uint16]:
    """Read a depth PNG: (H, W) uint16, in the encoding of its dataset.

    Raises:
        DecurError: the file is missing, truncated, or not one band of 16 bits.
    """
    depth = read_image(path)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        raise DecurError(
            f"{path}: depth is {depth.dtype} {depth.shape}, expected one band of 16 bits"
        )
    return depth


def check_pixels(path: Path, width: int, height: int, bands: int = 1) -> None:
    """Raise a DecurError for an implausibly large image, before it is decoded."""
    if width * height * bands > MOST_PIXELS:
        raise DecurError(
            f"{path}: {width} x {height} pixels is implausibly large; fetch the file again"
        )


def check_labels(labels: NDArray[Any], classes: int, path: Path) -> None:
    """Check that label values are 0..classes, where 0 is unlabelled.

    Raises:
        DecurError: a value is above `classes`, or the labels are not a single band of integers.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DecurError(
            f"{path}: labels are {labels.dtype} {labels.shape}, expected one band of class indices"
        )
    if labels.size and (labels.min() < 0 or labels.max() > classes):
        wrong = labels.max() if labels.max() > classes else labels.min()
        raise DecurError(f"{path}: label {wrong} is not one of 0..{classes}; fetch the file again")


def _opacity(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.convert("RGBA").getchannel("A"))


def _unreadable(path: Path, error: Exception) -> DecurError:
    if isinstance(error, FileNotFoundError):
        return DecurError(f"{path}: not found; fetch the dataset again")
    check_readable(path)
    if isinstance(error, UnidentifiedImageError):  # its own text names a file object
        reason = "not a JPEG, PNG or JPEG 2000"
    else:
        reason = " ".join(f"{error or type(error).__name__}".split())
    return DecurError(f"{path}: truncated or damaged ({reason}); fetch the file again")
