"""The backbone of one modality, with all that makes raw values what it was pretrained to see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from decur import datasets
from decur.augment import Preset
from decur.config import Augment
from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.preprocess.bands import (
    elevation_to_uint8,
    range_to_uint8,
    reflectance_to_uint8,
    resize,
)
from decur.preprocess.hha import depth_to_hha
from decur.transfer.data import scaled
from decur.weights import branch_weights, load_backbone, read_weights

Scale = Callable[[NDArray[Any]], NDArray[np.uint8]]
"""Raw values (C, H, W) as 8 bit."""

HHA = "hha"
DEPTH = ("depth",)
"""The bands of a raw image that becomes HHA."""


@dataclass(frozen=True)
class Encoder:
    """Raw images of one modality in, features out.

    `bands` are those of a raw image, in order; `window` is the side in pixels at which the backbone
    was trained to see images.
    """

    backbone: Backbone
    modality: str
    bands: tuple[str, ...]
    window: int
    scale: Scale
    preset: Preset
    source: str
    device: torch.device

    def __call__(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Features (n, d) of n raw images (C, H, W), each scaled, then resized to the window.

        Raises:
            DecurError: an image that the scaling does not take, such as one with NaN.
        """
        return self.features([self.stored(image) for image in images])

    def stored(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """A raw image as in the shards of pretraining: 8 bit, (bands, window, window)."""
        return resize(self.scale(image), self.window)

    def features(self, stored: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features (n, d) of images as `stored`."""
        x = scaled(torch.from_numpy(np.stack(stored)).to(self.device), self.preset)
        with torch.inference_mode():
            features: NDArray[np.float32] = self.backbone(x).float().cpu().numpy()
        return features


def load_encoder(
    weights: Path | str,
    modality: str | None = None,
    *,
    scale: str | None = None,
    intrinsics: NDArray[np.float64] | None = None,
    device: str | None = None,
) -> Encoder:
    """The encoder of a modality from the weights of a pretraining run.

    Args:
        weights: `weights.safetensors` of a run.
        modality: whose backbone; None where the file has one alone.
        scale: in place of that of pretraining: `stored`, `reflectance`, `elevation` (1-99 % of each
            window) or `<min>,<max>`.
        intrinsics: (3, 3) camera matrix in pixels: images are depth in millimetres (integers) or
            metres (float), and become HHA.
        device: None: the GPU where there is one.

    Raises:
        DecurError: no readable weights of ours, no such modality, scale or device.
    """
    path = Path(weights)
    tensors, metadata = read_weights(path)
    try:
        settings, bands = metadata["provenance"]["settings"], metadata["bands"]
        presets, dataset = settings["modalities"], settings["dataset"]
    except (KeyError, TypeError):
        raise DecurError(
            f"{path}: does not say what it was pretrained on; give the weights of a pretraining run"
        ) from None
    name = _chosen(path, list(presets), modality)
    preset = presets[name]
    backbone = load_backbone(
        branch_weights(tensors, list(presets).index(name)),
        arch=settings["arch"],
        in_chans=len(bands[name]),
    )
    raw = tuple(bands[name])
    scaling: Scale
    if intrinsics is not None:
        if name != HHA:
            raise DecurError(f"intrinsics: are for the modality '{HHA}', not for '{name}'")
        raw, scaling = DEPTH, partial(_hha, intrinsics=intrinsics)
    elif scale is not None:
        scaling = parse_scale(scale, len(raw))
    else:
        scaling = _pretrained_scale(dataset, name, (metadata.get("limits") or {}).get(name))
    where = _device(device)
    return Encoder(
        backbone.eval().to(where),
        name,
        raw,
        settings["crop"],
        scaling,
        Augment(**preset) if isinstance(preset, Mapping) else preset,
        str(path),
        where,
    )


def parse_scale(text: str, bands: int) -> Scale:
    """The scaling that a word names, of so many bands; see `load_encoder`.

    Raises:
        DecurError: it names none.
    """
    named: dict[str, Scale] = {
        "stored": _stored,
        "reflectance": reflectance_to_uint8,
        "elevation": elevation_to_uint8,
    }
    if text in named:
        return named[text]
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0
    if not low < high:
        raise DecurError(f"scale '{text}': expected {', '.join(named)} or <min>,<max>")
    return partial(range_to_uint8, limits=[(low, high)] * bands)


def _pretrained_scale(
    dataset: str, modality: str, limits: Sequence[tuple[float, float]] | None
) -> Scale:
    """The scaling by which the dataset was preprocessed."""
    if limits is not None:
        return partial(range_to_uint8, limits=limits)
    if dataset not in datasets.NAMES:
        return _stored
    scales: Mapping[str, Scale] = getattr(datasets.load(dataset), "SCALE", {})
    return scales.get(modality, _stored)


def _stored(x: NDArray[Any]) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise DecurError(
            f"is {x.dtype}, and the backbone was pretrained on 8 bit as stored; give a scale, "
            "such as <min>,<max>"
        )
    return x


def _hha(x: NDArray[Any], intrinsics: NDArray[np.float64]) -> NDArray[np.uint8]:
    millimetres = np.issubdtype(x.dtype, np.integer)
    metres = x[0].astype(np.float32) / (1000 if millimetres else 1)
    return depth_to_hha(metres, intrinsics).transpose(2, 0, 1)


def _chosen(path: Path, known: Sequence[str], modality: str | None) -> str:
    if modality is None and len(known) == 1:
        return known[0]
    if modality not in known:
        asked = "" if modality is None else f", not '{modality}'"
        raise DecurError(f"{path}: has the modalities {' and '.join(known)}{asked}; choose one")
    return str(modality)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DecurError(f"device '{name}': cannot be used ({reason})") from None
    return device
