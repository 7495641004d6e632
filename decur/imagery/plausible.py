"""Whether values can be what a scaling to 8 bits expects: of its unit, within its range.

Wrong units make images black or white, and features of such images look like any others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

STANDS_FOR_NOTHING = (-9999, -99999, -32768, -32767, -3.4028234663852886e38, 1e20)
"""Numbers that files use where there are no data, and that some do not declare."""

REFLECTANCE_UNIT = 10_000
"""Sentinel-2 stores reflectance times this (paper appendix B)."""

REFLECTANCE_UNITS = f"reflectance times {REFLECTANCE_UNIT}"

ELEVATIONS = (-500.0, 9000.0)
"""Lowest and highest ground in m."""

LOWEST_DB, HIGHEST_DB = -90.0, 60.0
"""No radar measures less or more backscatter."""

WRAPPED = (64_000, 65_535)
"""Between these, 16 bits without sign hold what was below 0 before they wrapped around: the
brightest clouds have a reflectance of about 2, and the last number stands for saturation."""

NEARLY_ALL = 0.99


def unit_fault(x: Values, transform: Mapping[str, Any]) -> str:
    """Why the values (C, ...) of an image are not in the unit of a scaling; nothing if they may be.

    Only what no image in the right unit can be is a fault, however small or dark it is.
    """
    if not x.size:
        return ""
    if transform["scaling"] == "divide":
        return reflectance_fault(x, transform["unit"])
    if transform.get("units") == "dB":
        return db_fault(x)
    if transform.get("units") == "m":
        return height_fault(x)
    return _undeclared(x, transform)


def db_fault(x: Values) -> str:
    """Why values of any shape are no backscatter in dB; nothing if they may be."""
    low, high = float(x.min()), float(x.max())
    if low == high == 0:
        return "has no value but 0, as where there are no data; declare it as nodata"
    if low >= 0:
        return (
            f"has values from {low:g} to {high:g}, none below 0: backscatter in dB is expected; "
            "take 10 log10 of linear power, 20 log10 of amplitude"
        )
    if low < LOWEST_DB or high > HIGHEST_DB:
        wrong = low if low < LOWEST_DB else high
        return f"has the value {wrong:g}, which no backscatter in dB is; declare it as nodata"
    return ""


def height_fault(x: Values) -> str:
    """Why values of any shape are no heights in m; nothing if they may be."""
    low, high = float(x.min()), float(x.max())
    if ELEVATIONS[0] <= low <= high <= ELEVATIONS[1]:
        return ""
    wrong = low if low < ELEVATIONS[0] else high
    return f"{wrong:g} m is no height on Earth but stands for no data; declare it as nodata"


def reflectance_fault(x: Values, unit: float = REFLECTANCE_UNIT) -> str:
    """Why values of any shape are no reflectance times a unit; nothing if they may be."""
    low, high = float(x.min()), float(x.max())
    if np.issubdtype(x.dtype, np.uint16) and high > WRAPPED[0]:
        wrapped = x[(x > WRAPPED[0]) & (x < WRAPPED[1])]
        if wrapped.size:
            return (
                f"has the value {wrapped.max()}, which {int(wrapped.max()) - 2**16} becomes in 16 "
                "bits without sign; subtract offsets from floating-point numbers"
            )
    if 0 < high <= unit / 5000 and low > -unit / 5000:
        return (
            f"has values up to {high:g}: reflectance times {unit:,} is expected; multiply it, or "
            "for `decur embed` give --scale 0,1"
        )
    if low < -unit / 2:
        return f"has the value {low:g}, no reflectance times {unit:,}; declare it as nodata"
    return ""


def image_fault(
    bands: Sequence[Values], stored: Sequence[Values], transform: Mapping[str, Any]
) -> str:
    """Why a whole image can hardly be what a scaling expects; nothing if it can be.

    Args:
        bands: valid values of each band, from all over the image.
        stored: the same values in 8 bits.
        transform: the scaling; its `seen`, if any, is the range `low` to `high` of the 8 bits of
            each band that 98 % of the images of pretraining had.
    """
    bands = [band for band in bands if band.size]
    if not bands:
        return ""
    if transform["scaling"] == "divide" and (fault := _offset_fault(bands, transform)):
        return fault
    if side := beyond(stored, transform.get("seen")):
        return (
            f"has values from {min(b.min() for b in bands):g} to {max(b.max() for b in bands):g}, "
            f"nearly all {side} than those that the backbone was pretrained on "
            f"({transform['units']}); convert them, or give their --scale"
        )
    return ""


def beyond(stored: Sequence[Values], seen: Mapping[str, Sequence[float]] | None = None) -> str:
    """`darker` or `brighter` if nearly all values of every band are; else nothing.

    Args:
        stored: values of each band in 8 bits.
        seen: the range, `low` to `high`, of each band; None: all but black and white.
    """
    seen = seen or {"low": [1] * len(stored), "high": [254] * len(stored)}
    limits = zip(stored, seen["low"], seen["high"], strict=True)
    checked = [(b, low, high) for b, low, high in limits if b.size and low < high]
    if checked and all(np.mean(b < low) >= NEARLY_ALL for b, low, _ in checked):
        return "darker"
    if checked and all(np.mean(b > high) >= NEARLY_ALL for b, _, high in checked):
        return "brighter"
    return ""


def _offset_fault(bands: Sequence[Values], transform: Mapping[str, Any]) -> str:
    """Of images with the offset of Sentinel-2's processing baseline 04.00, 1000 of 10,000."""
    offset = transform["unit"] / 10
    darkest = min(float(np.percentile(band, 1)) for band in bands)
    if len(bands) < 3 or darkest < 0.95 * offset:
        return ""
    return (
        f"has no values near 0, the darkest are about {darkest:g}: products of Sentinel-2 since "
        f"January 2022 (baseline 04.00) hold {offset:g} too much; declare the offset in the file "
        f"(gdal_edit -offset -{offset:g}), or give --scale reflectance if it is as bright as that"
    )


def _undeclared(x: Values, transform: Mapping[str, Any]) -> str:
    """Of numbers that stand for no data and lie outside the limits of a scaling."""
    if transform["scaling"] != "stretch" or transform["black"] == ["percentile"]:
        return ""
    low, high = float(x.min()), float(x.max())
    black, white = min(transform["black"]), max(transform["white"])
    for number in STANDS_FOR_NOTHING:
        if low <= number <= high and not black <= number <= white and (x == number).any():
            return f"has the value {number:g}, as stands for no data; declare it as nodata"
    return ""
