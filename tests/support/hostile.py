"""Rasters as strangers bring them: each makes the features of a clean one, or one clear line.

A case writes a file of its scene as some program would. `docs/rasters.md` has the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.enums import ColorInterp

PLACE = Affine(10, 0, 500_000, 0, -10, 6_000_000)
HEIGHT, WIDTH = 64, 96
S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
NO_B10 = tuple(band for band in S2 if band != "B10")


def smooth(bands, low, high, seed=0):
    """(C, H, W) float64 between two values, as no noise is: neighbours are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((bands, HEIGHT // 8 + 1, WIDTH // 8 + 1))
    rows = np.arange(HEIGHT) / 8
    columns = np.arange(WIDTH) / 8
    y, x = rows.astype(int), columns.astype(int)
    v, u = (rows - y)[:, None], (columns - x)[None]
    top = coarse[:, y][:, :, x] * (1 - u) + coarse[:, y][:, :, x + 1] * u
    bottom = coarse[:, y + 1][:, :, x] * (1 - u) + coarse[:, y + 1][:, :, x + 1] * u
    return low + (high - low) * (top * (1 - v) + bottom * v)


def optical():
    x = smooth(13, 50, 4000).round().astype(np.uint16)
    x[S2.index("B10")] //= 200
    return x


SCENES = {
    "optical": optical,
    "sar": lambda: smooth(2, -22, -3, 1).astype(np.float32),
    "thermal": lambda: smooth(1, 272, 308, 2).astype(np.float32),
    "photo": lambda: smooth(3, 10, 240, 3).astype(np.uint8),
    "ground": lambda: smooth(1, 20, 400, 4).astype(np.float32),
}
"""A clean scene of each modality of the weights."""


def write(path, image, *, names=(), colours=(), scales=None, offsets=None, mask=None, **profile):
    """A GeoTIFF; what is given is declared."""
    count, height, width = image.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": image.dtype.name,
        "crs": "EPSG:32632",
        "transform": PLACE,
    } | profile
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)
        if names:
            file.descriptions = names
        if colours:
            file.colorinterp = [ColorInterp[colour] for colour in colours]
        if scales:
            file.scales = [scales] * count
        if offsets:
            file.offsets = [offsets] * count
        if mask is not None:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
                file.write_mask(mask)


def gap():
    """Where a scene has no data: bool (H, W)."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[5:20, 10:30] = True
    return hole


def with_gap(image, value):
    return np.where(gap(), np.array(value, image.dtype), image)


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


def no_b10(x):
    return x[[S2.index(band) for band in NO_B10]]


def black_b10(x):
    seen = x.copy()
    seen[S2.index("B10")] = 0
    return seen


def beside(path, suffix, text):
    path.with_name(path.name + suffix).write_text(text)


def pam(band="", domain=""):
    return f'<PAMDataset>{domain}<PAMRasterBand band="1">{band}</PAMRasterBand></PAMDataset>'


def all_bands_pam(count, text):
    bands = "".join(f'<PAMRasterBand band="{i + 1}">{text}</PAMRasterBand>' for i in range(count))
    return f"<PAMDataset>{bands}</PAMDataset>"


def _with_pam_offset(path, x):
    write(path, x + 1000)
    beside(path, ".aux.xml", all_bands_pam(13, "<Offset>-1000</Offset><Scale>1</Scale>"))


def _with_statistics(path, x):
    write(path, x)
    item = '<MDI key="STATISTICS_MAXIMUM">4000</MDI>'
    beside(path, ".aux.xml", all_bands_pam(13, f"<Metadata>{item}</Metadata>"))


def _with_msk(path, x):
    write(path, with_gap(x, 999))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(~gap())


def _with_vrt_as_mask(path, x):
    write(path, x)
    beside(path, ".msk", "<VRTDataset rasterXSize='96' rasterYSize='64'></VRTDataset>")


def _with_other_overview(path, x):
    write(path, x)
    item = f'<MDI key="OVERVIEW_FILE">{path}</MDI>'
    beside(path, ".aux.xml", pam(domain=f'<Metadata domain="OVERVIEWS">{item}</Metadata>'))


def _nodata_and_mask(path, x):
    half = gap()
    half[:12] = False
    write(path, with_gap(x, 999), nodata=999, mask=~half)


def _alpha_beyond(path, x):
    image = np.concatenate([with_gap(x, 0), np.where(gap(), 0, 255).astype(np.uint8)[None]])
    write(path, image, photometric="RGB", ALPHA="YES")


def _pages(path, x):
    pages = [Image.fromarray(band.astype(np.float32)) for band in (x[0], x[0])]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def _palette(path, x):
    Image.fromarray(x.transpose(1, 2, 0)).quantize(64).save(path)


def _png(path, x, alpha=255):
    opacity = np.full((HEIGHT, WIDTH, 1), alpha, np.uint8)
    opacity[0, 0] = min(alpha, 255)
    Image.fromarray(np.concatenate([x.transpose(1, 2, 0), opacity], axis=2)).save(path)


def _turned(path, x):
    image = Image.fromarray(x.transpose(1, 2, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=100)


def _with_overviews(path, x):
    write(path, x, tiled=True, blockxsize=32, blockysize=32, compress="deflate", predictor=2)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])


def _jp2(path, x):
    driver = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    write(path, x, **driver)


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
        error="16 bits without sign",
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
        error="no backscatter in dB",
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
        lambda p, x: (write(p, x), beside(p, ".aux.xml", pam("<Scale>0</Scale>"))),
        error="declares scale 0",
    ),
    Case(
        "units",
        "8 bit in a file of 16",
        "photo",
        lambda p, x: write(p, x.astype(np.uint16)),
        error="pretrained on 8 bit as stored",
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
    Case("masks", "a mask beside the file (.msk)", "thermal", _with_msk, holes=True),
    Case("masks", "no data and a mask, both", "thermal", _nodata_and_mask, holes=True),
    Case("masks", "an alpha band", "photo", _alpha_beyond, holes=True),
    Case(
        "masks",
        "a declared value that the type cannot hold",
        "optical",
        lambda p, x: (
            write(p, x),
            beside(p, ".aux.xml", all_bands_pam(13, "<NoDataValue>-9999</NoDataValue>")),
        ),
    ),
    Case("side files", "an offset in .aux.xml", "optical", _with_pam_offset),
    Case("side files", "statistics in .aux.xml, as a GIS leaves them", "optical", _with_statistics),
    Case("side files", "a mask that is no TIFF", "optical", _with_vrt_as_mask, error="is no TIFF"),
    Case(
        "side files",
        "another file named as overview",
        "optical",
        _with_other_overview,
        error="names another file as its overview",
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
        error="say with --bands",
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
        error="if only B10 is missing, give --bands",
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
        error="2 bands 'red'",
    ),
    Case(
        "kinds",
        "complex numbers",
        "thermal",
        lambda p, x: write(p, x.astype(np.complex64)),
        error="complex numbers",
    ),
    Case("kinds", "several pages", "thermal", _pages, error="has 2 pages"),
    Case(
        "kinds",
        "0 declared to be white",
        "ground",
        lambda p, x: write(p, (x / 2).astype(np.uint8), photometric="MINISWHITE"),
        error="0 to be white",
    ),
    Case("kinds", "a palette", "photo", _palette, error="palette", suffix=".png"),
    Case("kinds", "an image turned by EXIF", "photo", _turned, error="turned", suffix=".jpg"),
    Case("kinds", "an opaque alpha band (PNG)", "photo", _png, suffix=".png"),
    Case(
        "kinds",
        "transparent pixels (PNG)",
        "photo",
        lambda p, x: _png(p, x, 0),
        error="pixels without data",
        suffix=".png",
    ),
    Case("storage", "tiles, compression, overviews", "optical", _with_overviews),
    Case("storage", "12 of 16 bits", "optical", lambda p, x: write(p, x, NBITS=12)),
    Case(
        "storage",
        "BigTIFF, other byte order",
        "optical",
        lambda p, x: write(p, x, BIGTIFF="YES", ENDIANNESS="BIG"),
    ),
    Case("storage", "float64", "optical", lambda p, x: write(p, x.astype(np.float64))),
    Case("storage", "JPEG 2000", "optical", _jp2, suffix=".jp2"),
]
