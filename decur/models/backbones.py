"""All backbones by name: a small net for the demo, ResNets, Mix Transformers, ViT-S/16."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn

from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.mit import DEPTHS, MixTransformer

TINY_WIDTHS = (16, 32, 64, 128)
RESNETS = ("resnet18", "resnet50", "resnet18_rda", "resnet50_rda")


class TinyNet(Backbone):
    """Four strided 3x3 convolutions with batch normalisation: the small net of the demo."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.stage_dims = TINY_WIDTHS
        self.feature_dim = TINY_WIDTHS[-1]
        widths = (in_chans, *TINY_WIDTHS)
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            stage = nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            )
            self.add_module(f"stage{i}", stage)

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; the four stages."""
        return list(self.children())

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; strides 2, 4, 8, 16."""
        maps = []
        for i in range(1, 5):
            x = self.get_submodule(f"stage{i}")(x)
            maps.append(x)
        return maps


class VisionTransformer(Backbone):
    """timm's ViT-S/16 for any number of channels and, by interpolated positions, any size.

    Features are the mean of the patches or, with `token`, the class token, as in the released code.
    """

    def __init__(self, in_chans: int, *, token: bool = False) -> None:
        super().__init__()
        self.pools_last_map = not token
        import timm  # costs a second, which no other backbone should pay

        self.vit: Any = timm.create_model(
            "vit_small_patch16_224", in_chans=in_chans, num_classes=0, dynamic_img_size=True
        )
        self.feature_dim = int(cast(int, self.vit.embed_dim))
        self.stage_dims = (self.feature_dim,) * 4

    def forward(self, x: Tensor) -> Tensor:
        """See `Backbone.forward`, and the class."""
        if self.pools_last_map:
            return super().forward(x)
        return cast(Tensor, self.vit(x))

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; the twelve transformer blocks."""
        return list(self.vit.blocks)

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; after blocks 3, 6, 9 and 12, all at stride 16."""
        maps: list[Tensor] = self.vit.forward_intermediates(
            x, indices=[2, 5, 8, 11], norm=True, intermediates_only=True
        )
        return maps


def _resnet(arch: str, in_chans: int) -> Backbone:
    from decur.models.resnet import build_resnet  # costs seconds, as above

    return build_resnet(arch, in_chans)


BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "tiny": TinyNet,
    **{name: partial(_resnet, name) for name in RESNETS},
    "vit_s16": VisionTransformer,
    "vit_s16_token": partial(VisionTransformer, token=True),
    **{name: partial(MixTransformer, name) for name in DEPTHS},
}
"""By name what makes a backbone for a number of channels."""


def build_backbone(arch: str, in_chans: int) -> Backbone:
    """A freshly initialised backbone, by its name in `BACKBONES`.

    Raises:
        DecurError: an unknown architecture.
    """
    if arch not in BACKBONES:
        raise DecurError(f"arch '{arch}': unknown; known are {', '.join(BACKBONES)}")
    return BACKBONES[arch](in_chans)
