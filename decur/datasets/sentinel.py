"""Read Sentinel-1 and Sentinel-2 images stored as one GeoTIFF per band."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.errors import DecurError
from decur.imagery.bands import (
    SAR_CLIP,
    Kernel,
    reflectance_to_uint8,
    resize,
    sar_db_to_uint8,
    spread,
)
from decur.imagery.plausible import REFLECTANCE_UNIT, REFLECTANCE_UNITS, reflectance_fault
from decur.imagery.rasters import check_not_blank, check_square, named, read_bands
from decur.shards import Modality

METRES = {
    "B1": 60,
    "B2": 10,
    "B3": 10,
    "B4": 10,
    "B5": 20,
    "B6": 20,
    "B7": 20,
    "B8": 10,
    "B8A": 20,
    "B9": 60,
    "B10": 60,
    "B11": 20,
    "B12": 20,
}
"""Pixel size of each Sentinel-2 band in metres, in the order of the network's channels."""

SAR_BANDS = ("VV", "VH")
REFLECTANCE = Scaling.divided(REFLECTANCE_UNIT, REFLECTANCE_UNITS)
OPTICAL = Modality("optical", tuple(METRES), REFLECTANCE)


def sar_modality(mean: tuple[float, ...], std: tuple[float, ...]) -> Modality:
    """Describe backscatter (paper appendix B); `mean` and `std` of the dataset in dB, VV and VH."""
    return Modality("sar", SAR_BANDS, spread(mean, std, "dB", SAR_CLIP))


def read_sar(
    paths: Mapping[str, Path],
    pixels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    kernel: Kernel = "bilinear",
) -> NDArray[np.uint8]:
    """Read VV and VH of one acquisition, scaled and then resized: uint8 (2, pixels, pixels).

    Args:
        paths: the files of VV and VH, dB.
        pixels: side of the result.
        mean: means of the dataset in dB, VV first.
        std: standard deviations of the dataset in dB, VV first.
        kernel: interpolation kernel.

    Raises:
        DecurError: a file is missing, damaged, not float, not square, of another size, or has
            pixels without data.
    """
    order = [paths[band] for band in SAR_BANDS]
    vv, vh = read_bands(order, "backscatter")
    for path, band in zip(order, (vv, vh), strict=True):
        check_square(path, band, len(vv))
        check_not_blank(path, band)
    with named(order[0].parent):
        scaled = sar_db_to_uint8(np.stack([vv, vh]), mean, std)
    return resize(scaled, pixels, kernel)


def read_optical(
    paths: Mapping[str, Path], pixels: int, kernel: Kernel = "bilinear"
) -> NDArray[np.uint8]:
    """Read the 13 bands of one acquisition, resized and then scaled: uint8 (13, pixels, pixels).

    Bands missing in `paths` are zero, such as B10 of an atmospherically corrected product.

    Args:
        paths: the files by band, reflectance times 10,000; must include B2, which gives the size.
        pixels: side of the result.
        kernel: interpolation kernel.

    Raises:
        DecurError: a file is missing, damaged, not 16-bit, or has a wrong size relative to B2; or
            all bands are 0 or not reflectance times 10,000.
    """
    images = dict(zip(paths, read_bands(paths.values(), "reflectance"), strict=True))
    side = len(images["B2"])
    check_not_blank(paths["B2"].parent, *images.values())
    if fault := reflectance_fault(np.concatenate([x.ravel() for x in images.values()])):
        raise DecurError(f"{paths['B2'].parent}: {fault}")
    stack = np.zeros((len(METRES), pixels, pixels), np.uint8)
    for channel, (band, metres) in enumerate(METRES.items()):
        if band not in paths:
            continue
        check_square(paths[band], images[band], side * METRES["B2"] // metres)
        with named(paths[band]):
            stack[channel] = reflectance_to_uint8(resize(images[band], pixels, kernel))
    return stack
