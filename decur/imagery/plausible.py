"""Check whether values are plausible for a scaling to 8 bits: their unit and their range.

Wrong units make images black or white, and the features of such images look inconspicuous.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]

STANDS_FOR_NOTHING = (-9999, -99999, -32768, -32767, -3.4028234663852886e38, 1e20)
"""Numbers that files use for "no data", sometimes without declaring them."""

REFLECTANCE_UNIT = 10_000
"""Factor by which Sentinel-2 stores reflectance (paper appendix B)."""

REFLECTANCE_UNITS = f"reflectance times {REFLECTANCE_UNIT}"

ELEVATIONS = (-500.0, 9000.0)
"""Lowest and highest ground on Earth, in m."""

LOWEST_DB, HIGHEST_DB = -90.0, 60.0
"""Limits of backscatter that a radar can measure, in dB."""

WRAPPED = (64_000, 65_535)
"""Range of 16-bit unsigned values that are wrapped negative numbers. The brightest clouds have a
reflectance of about 2, and the largest number marks saturation."""

NEARLY_ALL = 0.99


def unit_fault(x: Values, transform: Mapping[str, Any]) -> str:
    """Explain why an image's values (C, ...) do not have the unit of a scaling; empty if they may.

    A fault is only what no image in the right unit can contain, however small or dark it is.
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
    """Explain why values of any shape are not backscatter in dB; empty if they may be."""
    low, high = float(x.min()), float(x.max())
    if low == high == 0:
        return "has only the value 0, which stands for no data; declare it as nodata"
    if low >= 0:
        return (
            f"has values from {low:g} to {high:g}, none below 0: backscatter in dB is expected; "
            "use 10 log10 of linear power or 20 log10 of amplitude"
        )
    if low < LOWEST_DB or high > HIGHEST_DB:
        wrong = low if low < LOWEST_DB else high
        return f"has the value {wrong:g}, which cannot be backscatter in dB; declare it as nodata"
    return ""


def height_fault(x: Values) -> str:
    """Explain why values of any shape are not heights in m; empty if they may be."""
    low, high = float(x.min()), float(x.max())
    if ELEVATIONS[0] <= low <= high <= ELEVATIONS[1]:
        return ""
    wrong = low if low < ELEVATIONS[0] else high
    return f"{wrong:g} m is no height on Earth but stands for no data; declare it as nodata"


def reflectance_fault(x: Values, unit: float = REFLECTANCE_UNIT) -> str:
    """Explain why values of any shape are not reflectance times a unit; empty if they may be."""
    low, high = float(x.min()), float(x.max())
    if np.issubdtype(x.dtype, np.uint16) and high > WRAPPED[0]:
        wrapped = x[(x > WRAPPED[0]) & (x < WRAPPED[1])]
        if wrapped.size:
            return (
                f"has the value {wrapped.max()}, which is {int(wrapped.max()) - 2**16} stored as "
                "unsigned 16 bits; subtract offsets from floating-point numbers"
            )
    if 0 < high <= unit / 5000 and low > -unit / 5000:
        return (
            f"has values up to {high:g}: reflectance times {unit:,} is expected; multiply them, or "
            "give --scale 0,1 to `decur embed`"
        )
    if low < -unit / 2:
        return f"has the value {low:g}, not reflectance times {unit:,}; declare it as nodata"
    return ""


def image_fault(
    bands: Sequence[Values], stored: Sequence[Values], transform: Mapping[str, Any]
) -> str:
    """Explain why a whole image does not match a scaling; empty if it can.

    Args:
        bands: valid values of each band, sampled from the whole image.
        stored: the same values in 8 bits.
        transform: the scaling. Its optional `seen` is the 8-bit range per band, `low` to `high`,
            of 98 % of the pretraining images.
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
    """Return `darker` or `brighter` if nearly all values of every band are, else nothing.

    Args:
        stored: values of each band in 8 bits.
        seen: the range per band, `low` to `high`; None: everything but black and white.
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
    """Detect the offset of Sentinel-2's processing baseline 04.00: 1000 of 10,000."""
    offset = transform["unit"] / 10
    darkest = min(float(np.percentile(band, 1)) for band in bands)
    if len(bands) < 3 or darkest < 0.95 * offset:
        return ""
    return (
        f"has no values near 0, the darkest are about {darkest:g}: Sentinel-2 products since "
        f"January 2022 (baseline 04.00) are {offset:g} too high; declare the offset in the "
        f"file (gdal_edit -offset -{offset:g}), or give --scale reflectance if it is so bright"
    )


def _undeclared(x: Values, transform: Mapping[str, Any]) -> str:
    """Detect undeclared no-data numbers outside the limits of a scaling."""
    if transform["scaling"] != "stretch" or transform["black"] == ["percentile"]:
        return ""
    low, high = float(x.min()), float(x.max())
    black, white = min(transform["black"]), max(transform["white"])
    for number in STANDS_FOR_NOTHING:
        if low <= number <= high and not black <= number <= white and (x == number).any():
            return f"has the value {number:g}, which stands for no data; declare it as nodata"
    return ""
