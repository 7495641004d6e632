"""Write rasters as other programs do, most of them with something unusual."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio import Affine
from rasterio.enums import ColorInterp

PLACE = Affine(10, 0, 500_000, 0, -10, 6_000_000)
HEIGHT, WIDTH = 64, 96
S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
NO_B10 = tuple(band for band in S2 if band != "B10")


def smooth(bands: int, low: float, high: float, seed: int = 0) -> np.ndarray:
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


def optical() -> np.ndarray:
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


def write(
    path: Path,
    image: np.ndarray,
    *,
    names: Sequence[str] = (),
    colours: Sequence[str] = (),
    scales: float | None = None,
    offsets: float | None = None,
    mask: np.ndarray | None = None,
    **profile: Any,
) -> None:
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


def gap() -> np.ndarray:
    """Where a scene has no data: bool (H, W)."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[5:20, 10:30] = True
    return hole


def with_gap(image: np.ndarray, value: float) -> np.ndarray:
    return np.where(gap(), np.array(value, image.dtype), image)


def no_b10(x: np.ndarray) -> np.ndarray:
    return x[[S2.index(band) for band in NO_B10]]


def black_b10(x: np.ndarray) -> np.ndarray:
    seen = x.copy()
    seen[S2.index("B10")] = 0
    return seen


def beside(path: Path, suffix: str, text: str) -> None:
    path.with_name(path.name + suffix).write_text(text)


def pam(band: str = "", domain: str = "") -> str:
    return f'<PAMDataset>{domain}<PAMRasterBand band="1">{band}</PAMRasterBand></PAMDataset>'


def all_bands_pam(count: int, text: str) -> str:
    bands = "".join(f'<PAMRasterBand band="{i + 1}">{text}</PAMRasterBand>' for i in range(count))
    return f"<PAMDataset>{bands}</PAMDataset>"


def with_pam_offset(path: Path, x: np.ndarray) -> None:
    write(path, x + 1000)
    beside(path, ".aux.xml", all_bands_pam(13, "<Offset>-1000</Offset><Scale>1</Scale>"))


def with_scale_zero(path: Path, x: np.ndarray) -> None:
    write(path, x)
    beside(path, ".aux.xml", pam("<Scale>0</Scale>"))


def with_nodata_below_zero(path: Path, x: np.ndarray) -> None:
    write(path, x)
    beside(path, ".aux.xml", all_bands_pam(13, "<NoDataValue>-9999</NoDataValue>"))


def with_statistics(path: Path, x: np.ndarray) -> None:
    write(path, x)
    item = '<MDI key="STATISTICS_MAXIMUM">4000</MDI>'
    beside(path, ".aux.xml", all_bands_pam(13, f"<Metadata>{item}</Metadata>"))


def with_msk(path: Path, x: np.ndarray) -> None:
    write(path, with_gap(x, 999))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(~gap())


def with_vrt_as_mask(path: Path, x: np.ndarray) -> None:
    write(path, x)
    beside(path, ".msk", "<VRTDataset rasterXSize='96' rasterYSize='64'></VRTDataset>")


def with_other_overview(path: Path, x: np.ndarray) -> None:
    write(path, x)
    item = f'<MDI key="OVERVIEW_FILE">{path}</MDI>'
    beside(path, ".aux.xml", pam(domain=f'<Metadata domain="OVERVIEWS">{item}</Metadata>'))


def nodata_and_mask(path: Path, x: np.ndarray) -> None:
    half = gap()
    half[:12] = False
    write(path, with_gap(x, 999), nodata=999, mask=~half)


def alpha_beyond(path: Path, x: np.ndarray) -> None:
    image = np.concatenate([with_gap(x, 0), np.where(gap(), 0, 255).astype(np.uint8)[None]])
    write(path, image, photometric="RGB", ALPHA="YES")


def pages(path: Path, x: np.ndarray) -> None:
    pages = [Image.fromarray(band.astype(np.float32)) for band in (x[0], x[0])]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def palette(path: Path, x: np.ndarray) -> None:
    Image.fromarray(x.transpose(1, 2, 0)).quantize(64).save(path)


def png(path: Path, x: np.ndarray, alpha: int = 255) -> None:
    opacity = np.full((HEIGHT, WIDTH, 1), alpha, np.uint8)
    opacity[0, 0] = min(alpha, 255)
    Image.fromarray(np.concatenate([x.transpose(1, 2, 0), opacity], axis=2)).save(path)


def turned(path: Path, x: np.ndarray) -> None:
    image = Image.fromarray(x.transpose(1, 2, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=100)


def with_overviews(path: Path, x: np.ndarray) -> None:
    write(path, x, tiled=True, blockxsize=32, blockysize=32, compress="deflate", predictor=2)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])


def jp2(path: Path, x: np.ndarray) -> None:
    write(path, x, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
