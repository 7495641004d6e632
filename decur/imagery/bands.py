"""Scale sensor measurements to the 8-bit images that networks are trained on.

Scaled values are clipped and truncated to integers, never rounded or wrapped, because the released
weights expect it.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from decur.artifacts.scaling import Scaling
from decur.errors import DecurError
from decur.imagery.plausible import REFLECTANCE_UNIT, db_fault, height_fault

SAR_CLIP = (1.0, 99.0)  # percentiles of a band's pixels (paper appendix B: 2 % of outliers)
ELEVATION_CLIP = (1.0, 99.0)
SAR_SPREAD = 2.0  # standard deviations on each side of the mean
ELEVATION = Scaling.clipped(ELEVATION_CLIP, "m")

Kernel = Literal["bilinear", "bicubic", "nearest"]
KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Number = TypeVar("Number", bound=np.number)
Numbers = NDArray[np.integer] | NDArray[np.floating]


def reflectance_to_uint8(x: Numbers) -> NDArray[np.uint8]:
    """Scale reflectance 0..1 to 0..255 (paper appendix B); values above 1 become 255.

    Args:
        x: any shape, reflectance times 10,000.

    Raises:
        DecurError: if a value is not finite.
    """
    _check_finite(x, "reflectance")
    return _truncate(x.astype(np.float32) * 255 / REFLECTANCE_UNIT)


def sar_db_to_uint8(
    x: Numbers, mean: tuple[float, ...], std: tuple[float, ...]
) -> NDArray[np.uint8]:
    """Clip backscatter in dB to its 1-99 % range per band, then scale mean ± 2 std to 0..255.

    This follows paper appendix B. The range is that of each band in this image. The released code
    pools it over bands or seasons.

    Args:
        x: (C, H, W), dB.
        mean: C means over the whole dataset, dB.
        std: C standard deviations over the whole dataset, dB.

    Raises:
        DecurError: if the numbers of bands differ, a value is not finite (no echo, or outside the
            swath), or the values cannot be backscatter in dB.
    """
    if not x.ndim == 3 or not len(x) == len(mean) == len(std):
        raise DecurError(
            f"backscatter: expected {len(mean)} bands (C, H, W) for {len(mean)} means and "
            f"{len(std)} standard deviations, got shape {x.shape}"
        )
    _check_finite(x, "backscatter")
    if fault := db_fault(x):
        raise DecurError(f"backscatter: {fault}")
    out = np.empty(x.shape, np.uint8)
    for band, mu, sigma, scaled in zip(x, mean, std, out, strict=True):
        band = np.clip(band.astype(np.float32), *_percentiles(band, SAR_CLIP))
        scaled[:] = _stretch(band, mu - SAR_SPREAD * sigma, mu + SAR_SPREAD * sigma)
    return out


def elevation_to_uint8(x: Numbers) -> NDArray[np.uint8]:
    """Stretch elevation so that its 1 and 99 % percentiles become 0 and 255.

    This keeps only the relief within the image. If the percentiles coincide, the result is zero.

    Args:
        x: any shape, metres.

    Raises:
        DecurError: if a value is not finite, or is no height on Earth, such as an undeclared
            no-data value.
    """
    _check_finite(x, "elevation")
    if fault := height_fault(x):
        raise DecurError(f"elevation: {fault}")
    floor, ceiling = _percentiles(x, ELEVATION_CLIP)
    if floor == ceiling:
        return np.zeros(x.shape, np.uint8)
    return _stretch(x.astype(np.float32), floor, ceiling)


def spread(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    units: str,
    percentiles: tuple[float, float] | None = None,
) -> Scaling:
    """Return a scaling of mean ± 2 std to 0..255, which first clips to percentiles if given."""
    limits = [(m - SAR_SPREAD * s, m + SAR_SPREAD * s) for m, s in zip(mean, std, strict=True)]
    return Scaling.stretched(limits, units).model_copy(
        update={"percentiles": percentiles, "from_dataset": True}
    )


def range_to_uint8(x: Numbers, limits: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """Stretch each band so that its limits become 0 and 255; values beyond are clipped.

    Args:
        x: (C, H, W), any unit.
        limits: C pairs of lower and upper limit, in the same unit.

    Raises:
        DecurError: if the numbers of bands differ, or a value is not finite.
    """
    if x.ndim != 3 or len(x) != len(limits):
        raise DecurError(f"expected {len(limits)} bands (C, H, W), got shape {x.shape}")
    _check_finite(x, "image")
    # Single precision loses differences of large values, such as kelvin or easting.
    bands = zip(x.astype(np.float64), limits, strict=True)
    return np.stack([_truncate((band - low) / (high - low) * 255) for band, (low, high) in bands])


def resize(
    x: NDArray[Number], size: int | tuple[int, int], kernel: Kernel = "bilinear"
) -> NDArray[Number]:
    """Resize an image: bilinear, bicubic, or nearest (for labels).

    Half-pixel convention: pixel i of n covers i / n to (i + 1) / n of the image, so the corners
    keep their position on the ground. Enlarging interpolates and repeats the border. Shrinking
    widens the kernel to the new pixel, which prevents aliasing. "nearest" takes the value at the
    centre of each new pixel. An image that has the size already is returned unchanged.

    Args:
        x: (H, W) or (C, H, W), any number type.
        size: side of the square result, or its height and width, in pixels. The result keeps the
            dtype; integers are rounded and clipped to its range.
        kernel: interpolation kernel.

    Raises:
        DecurError: if `x` is not an image.
    """
    if x.ndim not in (2, 3) or x.size == 0:
        raise DecurError(f"resize: expected an image (H, W) or (C, H, W), got shape {x.shape}")
    height, width = x.shape[-2:]
    wanted = (size, size) if isinstance(size, int) else size
    if (height, width) == wanted:
        return x
    if kernel == "nearest":
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int)
            for new, old in zip(wanted, (height, width), strict=True)
        )
        return x[..., rows[:, None], columns]
    if x.ndim == 3:
        return np.stack([resize(band, wanted, kernel) for band in x])
    image = Image.fromarray(x if x.dtype == np.uint8 else x.astype(np.float32))
    resized = np.asarray(image.resize(wanted[::-1], KERNELS[kernel]))
    if np.issubdtype(x.dtype, np.integer) and x.dtype != np.uint8:
        limits = np.iinfo(x.dtype)  # type: ignore[type-var]
        resized = np.clip(np.rint(resized), limits.min, limits.max)
    return resized.astype(x.dtype, copy=False)


def _check_finite(x: Numbers, what: str) -> None:
    bad = x.size - np.count_nonzero(np.isfinite(x))
    if bad:
        raise DecurError(f"{what}: {bad} of {x.size} pixels are not finite or have no data")


def _percentiles(x: Numbers, percent: tuple[float, float]) -> NDArray[np.float32]:
    return np.percentile(x, percent).astype(np.float32)


def _stretch(x: NDArray[np.float32], black: float, white: float) -> NDArray[np.uint8]:
    return _truncate((x - black) / (white - black) * 255)


def _truncate(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(x, 0, 255).astype(np.uint8)
    return levels
