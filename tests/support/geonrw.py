"""Tiny raw tiles in GeoNRW's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.rasters import write_bare_tiff

SIDE = 64
"""A tile of 4 x 4 patches of 16 pixels."""


def write_tile(root: Path, city: str = "aachen", corner: str = "280_5650", bands: int = 4) -> Path:
    rng = np.random.default_rng(0)
    folder = root / city
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{corner}_rgb.jp2"
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, bands), dtype=np.uint8)).save(image)
    write_bare_tiff(folder / f"{corner}_seg.tif", rng.integers(0, 11, (SIDE, SIDE), dtype=np.uint8))
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.float32)
    write_bare_tiff(folder / f"{corner}_dem.tif", 100 + slope)
    return image
