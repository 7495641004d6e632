"""Band scaling of own images by percentiles of the data set: what becomes 0 and 255, measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from decur.config import DatasetSettings, FolderSettings
from decur.datasets.folders import Folders
from decur.datasets.raster import GDAL, opened
from decur.errors import DecurError

PERCENTILES = (1, 99)
MEASURED_IMAGES = 256
MEASURED_SIDE = 64
"""Percentiles of the data set are those of so many images at most, evenly spaced among those to
train on, and of each at most 64 x 64 pixels: a million values a band."""


def with_limits(name: str, settings: DatasetSettings, root: Path) -> DatasetSettings:
    """The settings with measured limits in the place of `scale: percentiles`.

    Raises:
        DecurError: no training image, none that can be read, or a band has one value alone.
    """
    own = settings.folders
    if own is None or all(m.scale != "percentiles" for m in own.modalities.values()):
        return settings
    records = [r for r in Folders(name, own).scan(root, settings) if not r.fault]
    training = [r for r in records if r.split == "train"]
    if not training:
        raise DecurError(
            f"datasets.{name}.folders: `scale: percentiles` is measured on training images, and "
            "there are none; correct the split, or give `scale: [min, max]`"
        )
    modalities = dict(own.modalities)
    for modality, folder in own.modalities.items():
        if folder.scale == "percentiles":
            paths = list(dict.fromkeys(record.paths[modality] for record in training))
            limits = _measured(root / modality, paths, folder)
            modalities[modality] = folder.model_copy(update={"scale": limits})
    found = own.model_copy(update={"modalities": modalities})
    return settings.model_copy(update={"folders": found})


def _measured(
    root: Path, paths: Sequence[Path], folder: FolderSettings
) -> tuple[tuple[float, float], ...]:
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), MEASURED_IMAGES)).round().astype(int)
    values = []
    for path in (paths[i] for i in chosen):
        try:
            values.append(_thumbnail(path, len(folder.bands)))
        except DecurError:  # preprocessing says so, or leaves it out
            continue
    if not values:
        raise DecurError(f"{root}: no image of {len(folder.bands)} bands to measure percentiles of")
    pixels = np.concatenate(values, axis=1)
    limits = []
    for band, of_band in zip(folder.bands, pixels, strict=True):
        finite = of_band[np.isfinite(of_band)]
        low, high = np.percentile(finite, PERCENTILES).tolist() if finite.size else (0, 0)
        if not low < high:
            raise DecurError(f"{root}: 98 % of band '{band}' have one value; give [min, max]")
        limits.append((low, high))
    return tuple(limits)


def _thumbnail(path: Path, bands: int) -> NDArray[np.float64]:
    """At most 64 x 64 pixels of an image, evenly spaced: (bands, pixels), NaN without data."""
    with rasterio.Env(**GDAL), opened(path) as file:
        if file.count != bands:
            raise DecurError(f"{path}: has {file.count} bands, expected {bands}")
        shape = (bands, min(file.height, MEASURED_SIDE), min(file.width, MEASURED_SIDE))
        image = file.read(out_shape=shape).astype(np.float64)
        return np.where(image == file.nodata, np.nan, image).reshape(bands, -1)
