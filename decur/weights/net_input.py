"""From a sensor's values to what a backbone sees, by a description that travels with the weights.

`net_input` and what it calls need nothing of this package: their source is in every model card.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from decur import datasets
from decur.config import Augment
from decur.imagery.augment import Preset, augmentation
from decur.imagery.bands import ELEVATION_CLIP, SAR_CLIP, SAR_SPREAD
from decur.imagery.plausible import REFLECTANCE_UNIT


def eight_bits(raw: NDArray[Any], how: Mapping[str, Any]) -> NDArray[np.uint8]:
    """One image (bands, H, W), in the units and order of `how`, as pretraining stored it."""
    x = raw.astype(np.float32)
    if how["scaling"] == "divide":
        x = x * 255 / how["unit"]
    if how["scaling"] == "stretch":
        black, white = (np.array(how[key])[:, None, None] for key in ("black", "white"))
        if how["percentiles"]:
            limits = np.percentile(raw, how["percentiles"], axis=(1, 2), keepdims=True)
            low, high = limits.astype(np.float32)
            x = x.clip(low, high)
            if how["black"] == ["percentile"]:
                black, white = low, high
        span = np.where(white > black, white - black, np.inf).astype(np.float32)
        x = (x - black.astype(np.float32)) / span * 255
    return x.clip(0, 255).astype(np.uint8)


def net_input(raw: NDArray[Any], how: Mapping[str, Any]) -> torch.Tensor:
    """One image (bands, H, W), in the units and order of `how`, as float32 (bands, size, size)."""
    return seen(eight_bits(raw, how), how)


def seen(stored: NDArray[np.uint8], how: Mapping[str, Any]) -> torch.Tensor:
    """One image (bands, H, W) of 8 bits as float32 (bands, size, size), standardised."""
    x, size = torch.from_numpy(stored)[None] / 255, (how["size"], how["size"])
    y = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)[0]
    mean, std = (torch.tensor(how[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return (y - mean) / std


def recorded(metadata: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """What `net_input` takes, of a modality of a weights file, by the file's metadata.

    With `seen`, the range of each band in which 98 % of the pixels of pretraining were, if the file
    has it.

    Raises:
        KeyError: the metadata are not those of our weights files, or have no such modality.
    """
    if modality in metadata.get("preprocessing", {}):
        return dict(metadata["preprocessing"][modality])
    seen = (metadata.get("seen") or {}).get(modality)
    return {**_told(metadata, modality), **({"seen": seen} if seen else {})}


def _told(metadata: Mapping[str, Any], modality: str) -> dict[str, Any]:
    settings = metadata["provenance"]["settings"]
    given, size = settings["modalities"][modality], settings["crop"]
    preset = given if isinstance(given, str) else Augment(**given)
    bands = tuple(metadata["bands"][modality])
    if limits := (metadata.get("limits") or {}).get(modality):
        return description(modality, bands, stretch(limits), preset, size)
    if settings["dataset"] not in datasets.NAMES:
        return description(modality, bands, AS_STORED, preset, size)
    return {**describe(settings["dataset"], modality, preset, size), "bands": list(bands)}


def describe(dataset: str, modality: str, preset: Preset, size: int) -> dict[str, Any]:
    """What `net_input` takes, of a modality as the shards of a dataset hold it.

    Raises:
        DecurError: no such dataset.
    """
    module = datasets.load(dataset)
    facts = {m.name: m for m in module.DATASET.modalities}[modality]
    return description(modality, facts.bands, _scaling(module, facts.scaling), preset, size)


def description(
    modality: str, bands: tuple[str, ...], scaling: Mapping[str, Any], preset: Preset, size: int
) -> dict[str, Any]:
    """Bands, scaling to 8 bits, size and standardisation of what a backbone sees."""
    zeros, ones = [0.0] * len(bands), [1.0] * len(bands)
    mean, std = augmentation(preset).mean, augmentation(preset).std
    return {
        "modality": modality,
        "bands": list(bands),
        **scaling,
        "size": size,
        "resize": "bilinear, half-pixel centres, antialiased",
        "mean": zeros if mean is None else list(mean),
        "std": ones if std is None else list(std),
    }


def spread(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    units: str,
    percentiles: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Scaling of mean - 2 std .. mean + 2 std to 0..255, first clipped to percentiles if given."""
    return {
        "units": units,
        "scaling": "stretch",
        "percentiles": None if percentiles is None else list(percentiles),
        "black": [m - SAR_SPREAD * s for m, s in zip(mean, std, strict=True)],
        "white": [m + SAR_SPREAD * s for m, s in zip(mean, std, strict=True)],
    }


def stretch(limits: Sequence[Sequence[float]], units: str = "as read") -> dict[str, Any]:
    """Scaling of each band's limits to 0..255."""
    black, white = zip(*limits, strict=True)
    return {
        "units": units,
        "scaling": "stretch",
        "percentiles": None,
        "black": list(black),
        "white": list(white),
    }


REFLECTANCE = f"reflectance times {REFLECTANCE_UNIT}"
DIVIDED: dict[str, Any] = {"units": REFLECTANCE, "scaling": "divide", "unit": REFLECTANCE_UNIT}
AS_STORED: dict[str, Any] = {"units": "8 bits as stored", "scaling": "none"}
ELEVATION: dict[str, Any] = {
    "units": "m",
    "scaling": "stretch",
    "percentiles": list(ELEVATION_CLIP),
    "black": ["percentile"],
    "white": ["percentile"],
}


def _scaling(module: Any, words: str) -> dict[str, Any]:
    """How a dataset's module scales a modality, which it describes in these words."""
    from decur.datasets import sentinel  # reads rasters, a second that no training should pay

    if words == sentinel.SAR.scaling:
        return spread(module.SAR_MEAN, module.SAR_STD, "dB", SAR_CLIP)
    if words == sentinel.OPTICAL.scaling:
        return DIVIDED
    if "1-99 %" in words:
        return ELEVATION
    return {**AS_STORED, "units": f"8 bits: {words}"}


def linear(how: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Mean and deviation that take raw values to what a backbone sees, but for clipping to 0..1.

    For pipelines that know nothing else. None where the scaling depends on the image.
    """
    black, white = [0.0], [float(how.get("unit", 255))]
    if how["scaling"] == "stretch":
        if how["black"] == ["percentile"]:
            return None
        black, white = how["black"], how["white"]
    low, high, mean, std = np.broadcast_arrays(black, white, how["mean"], how["std"])
    return {
        "mean": (low + mean * (high - low)).round(6).tolist(),
        "std": (std * (high - low)).round(6).tolist(),
    }
