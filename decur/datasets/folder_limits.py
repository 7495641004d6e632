"""Measure band scaling of own images: the percentiles of the dataset that become 0 and 255."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from decur.config import DatasetSettings, FolderSettings
from decur.datasets.folders import Folders, band_order
from decur.errors import DecurError
from decur.imagery.bands import range_to_uint8
from decur.imagery.pixels import GDAL, check_count, opened, read_values
from decur.imagery.plausible import beyond
from decur.imagery.rasters import named

PERCENTILES = (1, 99)
COLOUR = {"darker": "black", "brighter": "white"}

MEASURED_IMAGES = 256
MEASURED_SIDE = 64
"""Percentiles are measured on at most this many training images, evenly spaced, and on at most
64 x 64 pixels of each: a million values per band."""


def with_limits(name: str, settings: DatasetSettings, root: Path) -> DatasetSettings:
    """Return the settings with measured limits in place of `scale: percentiles`.

    Raises:
        DecurError: there is no training image, none can be read, a band has a single value, or the
            limits in the settings make all images black or white.
    """
    own = settings.folders
    if own is None or all(m.scale == "stored" for m in own.modalities.values()):
        return settings
    found = [r for r in Folders(name, own).scan(root, settings) if r.split == "train"]
    training = [record for record in found if not record.fault]
    if found and not training:
        raise DecurError(found[0].fault)
    if not training and all(m.scale != "percentiles" for m in own.modalities.values()):
        return settings
    if not training:
        raise DecurError(
            f"datasets.{name}.folders: `scale: percentiles` is measured on training images, but "
            "there are none; correct the split, or set `scale: [min, max]`"
        )
    modalities = dict(own.modalities)
    for modality, folder in own.modalities.items():
        if folder.scale == "stored":
            continue
        paths = list(dict.fromkeys(record.paths[modality] for record in training))
        pixels = _sampled(root / modality, paths, folder)
        if folder.limits is None:
            limits = _measured(root / modality, pixels, folder)
            modalities[modality] = folder.model_copy(update={"scale": limits})
        else:
            _check(f"datasets.{name}.folders.modalities.{modality}.scale", pixels, folder.limits)
    measured = own.model_copy(update={"modalities": modalities})
    return settings.model_copy(update={"folders": measured})


def _sampled(root: Path, paths: Sequence[Path], folder: FolderSettings) -> NDArray[np.float64]:
    """Sample values (bands, n) from all over the images; NaN without data."""
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), MEASURED_IMAGES)).round().astype(int)
    values = []
    for path in (paths[i] for i in chosen):
        try:
            values.append(_thumbnail(path, folder.bands))
        except DecurError:  # preprocessing reports the image, or leaves it out
            continue
    if not values:
        raise DecurError(f"{root}: no image of {len(folder.bands)} bands to measure percentiles of")
    return np.concatenate(values, axis=1)


def _measured(
    root: Path, pixels: NDArray[np.float64], folder: FolderSettings
) -> tuple[tuple[float, float], ...]:
    limits = []
    for band, of_band in zip(folder.bands, pixels, strict=True):
        finite = of_band[np.isfinite(of_band)]
        low, high = np.percentile(finite, PERCENTILES).tolist() if finite.size else (0, 0)
        if not low < high:
            raise DecurError(f"{root}: 98 % of band '{band}' have one value; set [min, max]")
        limits.append((low, high))
    return tuple(limits)


def _check(key: str, pixels: NDArray[np.float64], limits: Sequence[tuple[float, float]]) -> None:
    """Refuse limits of another unit, which make all images black or white."""
    finite = [band[np.isfinite(band)] for band in pixels]
    stored = [
        range_to_uint8(band[None, None], [pair])[0, 0]
        for band, pair in zip(finite, limits, strict=True)
    ]
    if any(band.size for band in finite) and (side := beyond(stored)):
        values = np.concatenate(finite)
        raise DecurError(
            f"{key}: {list(limits[0])} makes nearly all pixels {COLOUR[side]}: the training images "
            f"have values from {values.min():g} to {values.max():g}; set limits in their unit, or "
            "`percentiles`"
        )


def _thumbnail(path: Path, bands: Sequence[str]) -> NDArray[np.float64]:
    """Read at most 64 x 64 evenly spaced pixels of an image: (bands, pixels), NaN without data."""
    with rasterio.Env(**GDAL), opened(path) as file:
        check_count(path, file, len(bands))
        with named(path):
            order = band_order(file, bands)
        shape = min(file.height, MEASURED_SIDE), min(file.width, MEASURED_SIDE)
        values, valid = read_values(path, file, order, shape=shape)
    return np.where(valid, values, np.nan).astype(np.float64).reshape(len(bands), -1)
