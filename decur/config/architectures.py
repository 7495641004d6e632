"""The registry of architectures: how each backbone is built, its cost and its export formats.

Nothing heavy is imported here: an architecture names its module, which is imported on use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator

from decur.config.strict import check_known, did_you_mean
from decur.errors import DecurError


@dataclass(frozen=True)
class Architecture:
    """A backbone of one modality.

    * `build`: `module:callable`, called with the number of channels (`in_chans`) and `options`;
    * `gmac`: cost of one forward pass of an image of 224 x 224 pixels, in billions of
      multiply-accumulate operations;
    * `parameters`: number of parameters in millions;
    * `features`: width of the features;
    * `family`: determines the tensor names in published files (`decur.weights.naming`);
    * `small`: can be trained without a GPU;
    * `attention`: has the deformable attention of the released code;
    * `mean_pooled`: the corresponding architecture whose features are the mean of the patches, if
      the features of this one are the class token;
    * `formats`: export formats (`decur.weights.exporting`);
    * `timm`: its name in timm and TorchGeo;
    * `released_head_dim`: width of the linear layer between this backbone and the projector in the
      released code; 0: none.
    """

    build: str
    gmac: float
    parameters: float
    features: int
    options: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""
    small: bool = False
    attention: bool = False
    mean_pooled: str | None = None
    formats: tuple[str, ...] = ("safetensors",)
    timm: str | None = None
    released_head_dim: int = 0


VIT_SMALL = "vit_small_patch16_224"

RESNET = partial(
    Architecture,
    "decur.models.resnet:ResNetBackbone",
    family="resnet",
    formats=("torchvision", "timm", "torchgeo", "safetensors", "released"),
)
DEFORMABLE = partial(
    Architecture,
    "decur.models.resnet:DeformableResNet",
    family="resnet",
    attention=True,
    formats=("safetensors", "released"),
)
VIT = partial(
    Architecture,
    "decur.models.vit:VisionTransformer",
    family="vit",
    formats=("timm", "torchgeo", "safetensors", "released"),
    timm=VIT_SMALL,
)
MIT = partial(
    Architecture,
    "decur.models.mit:MixTransformer",
    family="mit",
    formats=("safetensors", "cmx", "released"),
    released_head_dim=2048,
)

# GMAC are counted with torch's FlopCounterMode.
ARCHITECTURES = {
    "tiny": Architecture("decur.models.tiny:TinyNet", 0.049, 0.1, 128, small=True),
    "mit_tiny": MIT(0.075, 0.5, 128, {"arch": "mit_tiny"}, small=True),
    "resnet18": RESNET(1.81, 11.2, 512, {"kind": "resnet18"}, timm="resnet18"),
    "resnet50": RESNET(4.09, 23.5, 2048, {"kind": "resnet50"}, timm="resnet50"),
    "resnet18_rda": DEFORMABLE(1.91, 12.5, 512, {"kind": "resnet18"}),
    "resnet50_rda": DEFORMABLE(5.45, 44.5, 2048, {"kind": "resnet50"}),
    "vit_s16": VIT(4.60, 21.7, 384, {"name": VIT_SMALL}),
    "vit_s16_token": VIT(
        4.60, 21.7, 384, {"name": VIT_SMALL, "token": True}, mean_pooled="vit_s16"
    ),
    "mit_b0": MIT(0.45, 3.3, 256, {"arch": "mit_b0"}),
    "mit_b1": MIT(1.68, 13.2, 512, {"arch": "mit_b1"}),
    "mit_b2": MIT(3.27, 24.2, 512, {"arch": "mit_b2"}),
    "mit_b3": MIT(6.14, 44.1, 512, {"arch": "mit_b3"}),
    "mit_b4": MIT(8.92, 60.8, 512, {"arch": "mit_b4"}),
    "mit_b5": MIT(11.72, 81.4, 512, {"arch": "mit_b5"}),
}

MEAN_POOLED = frozenset(arch.mean_pooled for arch in ARCHITECTURES.values() if arch.mean_pooled)
"""Architectures with the mean of the patches as features that also exist with a class token."""


def find_architecture(name: str) -> Architecture:
    """Return the architecture with a name.

    Raises:
        DecurError: there is no architecture with this name.
    """
    if name not in ARCHITECTURES:
        raise DecurError(f"arch '{name}': unknown{did_you_mean(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def with_format(name: str) -> tuple[str, ...]:
    """Return the names of the architectures that can be exported to a format."""
    return tuple(arch for arch, known in ARCHITECTURES.items() if name in known.formats)


def _is_architecture(name: str) -> str:
    return check_known(name, ARCHITECTURES, "backbone")


ArchName = Annotated[str, AfterValidator(_is_architecture)]
