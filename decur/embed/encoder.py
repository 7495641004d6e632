"""The backbone of one modality, with the conversion from raw values to its input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.errors import DecurError
from decur.imagery.bands import ELEVATION
from decur.imagery.hha import depth_to_hha
from decur.imagery.plausible import REFLECTANCE_UNIT, REFLECTANCE_UNITS, unit_fault
from decur.models.backbone import Backbone
from decur.weights.files import (
    branch_weights,
    load_backbone,
    modalities_of,
    read_weights,
    recorded_arch,
)
from decur.weights.net_input import (
    eight_bits,
    recorded,
    standardised,
)

HHA = "hha"
DEPTH = ("depth",)
"""The bands of a raw image that is converted to HHA."""


@dataclass(frozen=True)
class Encoder:
    """Convert raw images of one modality to features.

    `bands` are those of a raw image, in order. `window` is the side in pixels of the backbone's
    training images. `transform` is the description that `eight_bits` and `net_input` take. With
    `intrinsics`, a (3, 3) camera matrix, a raw image is depth and is converted to HHA. `file_bands`
    lists the bands of files in their order and overrides the files' own names. `own_scale` means
    that the user gave the scaling, so the range of values is not checked.
    """

    backbone: Backbone
    modality: str
    bands: tuple[str, ...]
    window: int
    transform: Mapping[str, Any]
    intrinsics: NDArray[np.float64] | None
    source: str
    device: torch.device
    file_bands: tuple[str, ...] | None = None
    own_scale: bool = False

    def __call__(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Compute features (n, d) of n raw images (C, H, W), each scaled and resized to the window.

        Raises:
            DecurError: an image that the scaling does not take, such as one with NaN, or in another
                unit.
        """
        return self.features([self.stored(image) for image in images])

    def stored(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale a raw image to 8 bits like the images of pretraining, without resizing it."""
        if not np.isfinite(image).all():
            raise DecurError("has NaN or infinite values; fill them, or declare them as nodata")
        if self.intrinsics is not None:
            return _hha(image, self.intrinsics)
        if self.transform["scaling"] == "none" and image.dtype != np.uint8:
            raise DecurError(
                f"is {image.dtype} (after scale and offset, if it declares them), but the backbone "
                "was pretrained on unscaled 8-bit images; set a scale, such as <min>,<max>"
            )
        if fault := unit_fault(image, self.transform):
            raise DecurError(fault)
        return eight_bits(image, self.transform)

    def features(self, stored: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Compute features (n, d) of images as returned by `stored`, of any sizes."""
        images = torch.stack([standardised(image, self.transform) for image in stored]).to(
            self.device
        )
        with torch.inference_mode():
            features = self.backbone(images)
        found: NDArray[np.float32] = features.float().cpu().numpy()
        return found


def load_encoder(
    weights: Path | str,
    modality: str | None = None,
    *,
    scale: str | None = None,
    file_bands: Sequence[str] | None = None,
    intrinsics: NDArray[np.float64] | None = None,
    device: str | None = None,
) -> Encoder:
    """Load the encoder of a modality from the weights of a pretraining run.

    Args:
        weights: `weights.safetensors` of a run.
        modality: the modality of the backbone; None if the file has only one.
        scale: replaces the scaling of pretraining: `stored`, `reflectance`, `elevation` (1-99 % of
            each window) or `<min>,<max>`.
        file_bands: names of the files' bands, in their order; None: the names in the files or,
            without any, the backbone's bands.
        intrinsics: (3, 3) camera matrix in pixels; images are then depth in millimetres (integers)
            or metres (float), and are converted to HHA.
        device: None: the GPU if there is one.

    Raises:
        DecurError: no readable weights of ours, no such modality, scale or device.
    """
    path = Path(weights)
    tensors, record = read_weights(path)
    held = modalities_of(path, tensors, record)
    name = _chosen(path, list(held), modality)
    transform = recorded(record, name)
    backbone = load_backbone(
        branch_weights(tensors, held[name]),
        arch=str(recorded_arch(record, name)),
        in_chans=len(transform["bands"]),
    )
    if intrinsics is not None and name != HHA:
        raise DecurError(f"intrinsics: only for the modality '{HHA}', not for '{name}'")
    if scale is not None:
        transform = {**transform, **parse_scale(scale, len(transform["bands"]))}
    where = _device(device)
    return Encoder(
        backbone.eval().to(where),
        name,
        tuple(transform["bands"]) if intrinsics is None else DEPTH,
        transform["size"],
        transform,
        intrinsics,
        str(path),
        where,
        None if file_bands is None else tuple(file_bands),
        scale is not None,
    )


def parse_scale(text: str, bands: int) -> dict[str, Any]:
    """Parse the name or range of a scaling for this number of bands; see `load_encoder`.

    Raises:
        DecurError: it names none.
    """
    named = {
        "stored": Scaling.stored(),
        "reflectance": Scaling.divided(REFLECTANCE_UNIT, REFLECTANCE_UNITS),
        "elevation": ELEVATION,
    }
    if text in named:
        return named[text].description()
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0
    if not low < high:
        raise DecurError(f"scale '{text}': expected {', '.join(named)} or <min>,<max>")
    return Scaling.stretched([(low, high)] * bands).description()


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
        raise DecurError(f"device '{name}': cannot be used ({reason}); use cpu or cuda") from None
    return device
