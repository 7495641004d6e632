"""Convert a sensor's values to the input of a backbone, by a description in the weights file.

`net_input` and the functions that it calls do not use this package, because their source is copied
into every model card.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from decur import datasets
from decur.artifacts.records import Weights
from decur.artifacts.scaling import Scaling
from decur.config import Augment
from decur.config.presets import Preset, preset_of
from decur.imagery.augment import augmentation


def eight_bits(raw: NDArray[Any], transform: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Scale one image (bands, H, W), in the units and order of `transform`, to 8 bits."""
    x = raw.astype(np.float32)
    if transform["scaling"] == "divide":
        x = x * 255 / transform["unit"]
    if transform["scaling"] == "stretch":
        black, white = (np.array(transform[key])[:, None, None] for key in ("black", "white"))
        if transform["percentiles"]:
            limits = np.percentile(raw, transform["percentiles"], axis=(1, 2), keepdims=True)
            low, high = limits.astype(np.float32)
            x = x.clip(low, high)
            if transform["black"] == ["percentile"]:
                black, white = low, high
        span = np.where(white > black, white - black, np.inf).astype(np.float32)
        x = (x - black.astype(np.float32)) / span * 255
    return x.clip(0, 255).astype(np.uint8)


def net_input(raw: NDArray[Any], transform: Mapping[str, Any]) -> torch.Tensor:
    """Convert one image (bands, H, W), in units of `transform`, to float32 (bands, size, size)."""
    return standardised(eight_bits(raw, transform), transform)


def standardised(stored: NDArray[np.uint8], transform: Mapping[str, Any]) -> torch.Tensor:
    """Resize and standardise one 8-bit image (bands, H, W): float32 (bands, size, size)."""
    x, size = torch.from_numpy(stored)[None] / 255, (transform["size"], transform["size"])
    y = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)[0]
    mean, std = (torch.tensor(transform[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return (y - mean) / std


def recorded(record: Weights, modality: str) -> dict[str, Any]:
    """Build the description that `net_input` takes, for a modality of a weights file.

    If the file has it, `seen` is added: for each band the range that contains 98 % of the pixels of
    pretraining.

    Raises:
        KeyError: the record is none of our weights files, or has no such modality.
    """
    if modality in record.preprocessing:
        return dict(record.preprocessing[modality])
    settings = record.provenance.settings
    given, size = settings["modalities"][modality], settings["crop"]
    preset = given if isinstance(given, str) else Augment(**given)
    scaling = scaling_of(record, modality)
    found = description(modality, record.bands[modality], scaling, preset, size)
    seen = record.seen.get(modality)
    return {**found, **({"seen": seen} if seen else {})}


def scaling_of(record: Weights, modality: str) -> Scaling:
    """Look up how a modality's images were scaled to 8 bits, in weights of any version."""
    dataset = str(record.provenance.settings.get("dataset", ""))
    stored, limits = record.scalings.get(modality), record.limits.get(modality)
    return datasets.recorded_scaling(dataset, modality, stored, limits)


def describe(dataset: str, modality: str, preset: Preset, size: int) -> dict[str, Any]:
    """Build the description that `net_input` takes, for a modality of a dataset's shards.

    Raises:
        DecurError: no such dataset.
    """
    known = {m.name: m for m in datasets.load(dataset).DATASET.modalities}[modality]
    return description(modality, known.bands, known.typed_scaling, preset, size)


def description(
    modality: str, bands: tuple[str, ...], scaling: Scaling, preset: Preset, size: int
) -> dict[str, Any]:
    """Describe a backbone's input: bands, scaling to 8 bits, size and standardisation."""
    zeros, ones = [0.0] * len(bands), [1.0] * len(bands)
    name, changes = preset_of(preset)
    standard = augmentation(name, **changes)
    mean, std = standard.mean, standard.std
    return {
        "modality": modality,
        "bands": list(bands),
        **scaling.description(),
        "size": size,
        "resize": "bilinear, half-pixel centres, antialiased",
        "mean": zeros if mean is None else list(mean),
        "std": ones if std is None else list(std),
    }


def linear(transform: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Combine scaling and standardisation into one mean and deviation, without clipping to 0..1.

    This is for pipelines that can only subtract and divide. None if the scaling depends on the
    image.
    """
    black, white = [0.0], [float(transform.get("unit", 255))]
    if transform["scaling"] == "stretch":
        if transform["black"] == ["percentile"]:
            return None
        black, white = transform["black"], transform["white"]
    low, high, mean, std = np.broadcast_arrays(black, white, transform["mean"], transform["std"])
    return {
        "mean": (low + mean * (high - low)).round(6).tolist(),
        "std": (std * (high - low)).round(6).tolist(),
    }
