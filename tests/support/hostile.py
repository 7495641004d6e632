"""Rasters as strangers bring them: each makes the features of a clean one, or one clear line.

A case writes a file of its scene as some program would. `docs/rasters.md` has the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.hostile_files import (
    NO_B10,
    S2,
    alpha_beyond,
    black_b10,
    gap,
    jp2,
    no_b10,
    nodata_and_mask,
    pages,
    palette,
    png,
    turned,
    with_gap,
    with_msk,
    with_nodata_below_zero,
    with_other_overview,
    with_overviews,
    with_pam_offset,
    with_scale_zero,
    with_statistics,
    with_vrt_as_mask,
    write,
)


@dataclass(frozen=True)
class Case:
    """What a file is like, how to write it, and what comes of it.

    It must be seen as `like` of the clean scene, None for the scene itself, with `holes` where
    `gap` says; or `error` is what the line says. `scale` is the user's own.
    """

    topic: str
    words: str
    modality: str
    write: Callable[[Path, np.ndarray], None]
    error: str = ""
    like: Callable[[np.ndarray], np.ndarray] | None = None
    holes: bool = False
    suffix: str = ".tif"
    scale: str | None = None


CASES = [
    Case("baseline", "Sentinel-2 before 2022, no tags", "optical", write),
    Case(
        "baseline",
        "baseline 04.00, offset -1000 declared",
        "optical",
        lambda p, x: write(p, x + 1000, offsets=-1000),
    ),
    Case(
        "baseline",
        "baseline 04.00, scale 0.0001 and offset -0.1 declared",
        "optical",
        lambda p, x: write(p, x + 1000, scales=1e-4, offsets=-0.1),
    ),
    Case(
        "baseline",
        "baseline 04.00, nothing declared",
        "optical",
        lambda p, x: write(p, x + 1000),
        error="baseline 04.00",
    ),
    Case(
        "baseline",
        "scale 0.0001 declared, no offset",
        "optical",
        lambda p, x: write(p, x, scales=1e-4),
    ),
    Case(
        "baseline",
        "as Landsat's Collection 2, scale 0.00005 and offset -0.2 declared",
        "optical",
        lambda p, x: write(
            p, ((x / 1e4 + 0.2) / 5e-5).round().astype(np.uint16), scales=5e-5, offsets=-0.2
        ),
    ),
    Case(
        "baseline",
        "an offset subtracted in 16 bits without sign, which wraps around",
        "optical",
        lambda p, x: write(p, x - np.uint16(60)),
        error="unsigned 16 bits",
    ),
    Case(
        "baseline",
        "signed, with some values below 0",
        "optical",
        lambda p, x: write(p, x.astype(np.int16) - 60),
        like=lambda x: np.maximum(x.astype(np.int16) - 60, 0),
    ),
    Case(
        "units",
        "reflectance from 0 to 1",
        "optical",
        lambda p, x: write(p, (x / 1e4).astype(np.float32)),
        error="reflectance times 10,000 is expected",
    ),
    Case(
        "units",
        "reflectance from 0 to 1, `--scale 0,1`",
        "optical",
        lambda p, x: write(p, (x / 1e4).astype(np.float32)),
        scale="0,1",
    ),
    Case(
        "units",
        "reflectance in percent",
        "optical",
        lambda p, x: write(p, (x / 1e2).astype(np.float32)),
        error="nearly all darker",
    ),
    Case(
        "units",
        "no data as -9999, not declared",
        "optical",
        lambda p, x: write(p, with_gap(x.astype(np.int16), -9999)),
        error="declare it as nodata",
    ),
    Case(
        "units",
        "linear power for dB",
        "sar",
        lambda p, x: write(p, (10 ** (x / 10)).astype(np.float32)),
        error="10 log10",
    ),
    Case(
        "units",
        "amplitude for dB",
        "sar",
        lambda p, x: write(p, (1000 * 10 ** (x / 20)).astype(np.uint16)),
        error="20 log10",
    ),
    Case(
        "units",
        "hundredths of dB",
        "sar",
        lambda p, x: write(p, (x * 100).round().astype(np.int16)),
        error="cannot be backscatter in dB",
    ),
    Case(
        "units",
        "hundredths of dB, scale 0.01 declared",
        "sar",
        lambda p, x: write(p, (x * 100).round().astype(np.int16), scales=0.01),
        like=lambda x: (x * 100).round().astype(np.int16) / 100,
    ),
    Case(
        "units",
        "degrees Celsius for kelvin",
        "thermal",
        lambda p, x: write(p, (x - 273.15).astype(np.float32)),
        error="nearly all darker",
    ),
    Case(
        "units",
        "degrees Celsius, offset 273.15 declared",
        "thermal",
        lambda p, x: write(p, (x - 273.15).astype(np.float32), offsets=273.15),
    ),
    Case(
        "units",
        "tenths of kelvin in 16 bits, scale 0.1 declared",
        "thermal",
        lambda p, x: write(p, (x * 10).round().astype(np.uint16), scales=0.1),
        like=lambda x: (x * 10).round() / 10,
    ),
    Case(
        "units",
        "a scale of 0 declared",
        "thermal",
        with_scale_zero,
        error="declares scale 0",
    ),
    Case(
        "units",
        "8 bit in a file of 16",
        "photo",
        lambda p, x: write(p, x.astype(np.uint16)),
        error="pretrained on unscaled 8-bit images",
    ),
    Case(
        "units",
        "heights with -32768 for no data, not declared",
        "ground",
        lambda p, x: write(p, with_gap(x.astype(np.int16), -32768)),
        error="no height on Earth",
    ),
    Case(
        "masks",
        "no data declared",
        "thermal",
        lambda p, x: write(p, with_gap(x, 999), nodata=999),
        holes=True,
    ),
    Case("masks", "NaN", "thermal", lambda p, x: write(p, with_gap(x, np.nan)), holes=True),
    Case(
        "masks",
        "a mask inside the file",
        "thermal",
        lambda p, x: write(p, with_gap(x, 999), mask=~gap()),
        holes=True,
    ),
    Case("masks", "a mask beside the file (.msk)", "thermal", with_msk, holes=True),
    Case("masks", "no data and a mask, both", "thermal", nodata_and_mask, holes=True),
    Case("masks", "an alpha band", "photo", alpha_beyond, holes=True),
    Case(
        "masks",
        "a declared value that the type cannot hold",
        "optical",
        with_nodata_below_zero,
    ),
    Case("side files", "an offset in .aux.xml", "optical", with_pam_offset),
    Case("side files", "statistics in .aux.xml, as a GIS leaves them", "optical", with_statistics),
    Case(
        "side files", "a mask that is no TIFF", "optical", with_vrt_as_mask, error="is not a TIFF"
    ),
    Case(
        "side files",
        "another file named as overview",
        "optical",
        with_other_overview,
        error="its overview is in another file",
    ),
    Case(
        "bands",
        "all named, in another order",
        "optical",
        lambda p, x: write(p, x[::-1], names=[f"B{b[1:].zfill(2)}" for b in S2[::-1]]),
    ),
    Case(
        "bands",
        "blue, green, red by name",
        "photo",
        lambda p, x: write(p, x[::-1], names=["blue", "green", "red"]),
    ),
    Case(
        "bands",
        "marked as blue, green, red",
        "photo",
        lambda p, x: write(p, x[::-1], colours=["blue", "green", "red"]),
    ),
    Case(
        "bands",
        "other names",
        "photo",
        lambda p, x: write(p, x, names=["B11", "B8", "B2"]),
        error="list the bands of the file with --bands",
    ),
    Case(
        "bands",
        "12 of 13, named",
        "optical",
        lambda p, x: write(p, no_b10(x), names=NO_B10),
        like=black_b10,
    ),
    Case(
        "bands",
        "12 of 13, without names",
        "optical",
        lambda p, x: write(p, no_b10(x)),
        error="if only B10 is missing, use --bands",
    ),
    Case(
        "bands",
        "one more than needed, named",
        "optical",
        lambda p, x: write(p, np.concatenate([x[:1], x]), names=["SCL", *S2]),
    ),
    Case(
        "bands",
        "one more than needed, without names",
        "optical",
        lambda p, x: write(p, np.concatenate([x[:1], x])),
        error="has 14 bands",
    ),
    Case(
        "bands",
        "two of one name",
        "photo",
        lambda p, x: write(p, np.concatenate([x, x[:1]]), names=["red", "green", "blue", "red"]),
        error="2 bands named 'red'",
    ),
    Case(
        "kinds",
        "complex numbers",
        "thermal",
        lambda p, x: write(p, x.astype(np.complex64)),
        error="complex numbers",
    ),
    Case("kinds", "several pages", "thermal", pages, error="has 2 pages"),
    Case(
        "kinds",
        "0 declared to be white",
        "ground",
        lambda p, x: write(p, (x / 2).astype(np.uint8), photometric="MINISWHITE"),
        error="0 to be white",
    ),
    Case("kinds", "a palette", "photo", palette, error="palette", suffix=".png"),
    Case("kinds", "an image turned by EXIF", "photo", turned, error="rotated", suffix=".jpg"),
    Case("kinds", "an opaque alpha band (PNG)", "photo", png, suffix=".png"),
    Case(
        "kinds",
        "transparent pixels (PNG)",
        "photo",
        lambda p, x: png(p, x, 0),
        error="pixels without data",
        suffix=".png",
    ),
    Case("storage", "tiles, compression, overviews", "optical", with_overviews),
    Case("storage", "12 of 16 bits", "optical", lambda p, x: write(p, x, NBITS=12)),
    Case(
        "storage",
        "BigTIFF, other byte order",
        "optical",
        lambda p, x: write(p, x, BIGTIFF="YES", ENDIANNESS="BIG"),
    ),
    Case("storage", "float64", "optical", lambda p, x: write(p, x.astype(np.float64))),
    Case("storage", "JPEG 2000", "optical", jp2, suffix=".jp2"),
]
