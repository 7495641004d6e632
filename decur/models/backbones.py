"""All backbones by name: a small net for the demo, ResNets, Mix Transformers, a vision transformer.

Parameter names of the ResNets are torchvision's, so that weights travel without renaming.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.mit import DEPTHS, MixTransformer

TINY_WIDTHS = (16, 32, 64, 128)


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

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; strides 2, 4, 8, 16."""
        maps = []
        for i in range(1, 5):
            x = self.get_submodule(f"stage{i}")(x)
            maps.append(x)
        return maps


class ResNetBackbone(Backbone):
    """torchvision's ResNet without its classifier, zero-initialised residuals (paper §4).

    The first convolution takes `in_chans` channels (appendix B).
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], chans: int) -> None:
        super().__init__()
        net = ResNet(block, layers, zero_init_residual=True)
        if chans != 3:
            net.conv1 = nn.Conv2d(chans, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        for name, module in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)
        dims = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.stage_dims = cast(tuple[int, int, int, int], dims)
        self.feature_dim = dims[-1]

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; strides 4, 8, 16, 32."""
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = self.get_submodule(name)(x)
        maps = []
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps


class VisionTransformer(Backbone):
    """timm's ViT-S/16 for any number of channels and, by interpolated positions, any size."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        import timm  # costs a second, which no other backbone should pay

        self.vit: Any = timm.create_model(
            "vit_small_patch16_224", in_chans=in_chans, num_classes=0, dynamic_img_size=True
        )
        self.feature_dim = int(cast(int, self.vit.embed_dim))
        self.stage_dims = (self.feature_dim,) * 4

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; after blocks 3, 6, 9 and 12, all at stride 16."""
        maps: list[Tensor] = self.vit.forward_intermediates(
            x, indices=[2, 5, 8, 11], norm=True, intermediates_only=True
        )
        return maps


BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "tiny": TinyNet,
    "resnet18": partial(ResNetBackbone, BasicBlock, [2, 2, 2, 2]),
    "resnet50": partial(ResNetBackbone, Bottleneck, [3, 4, 6, 3]),
    "vit_s16": VisionTransformer,
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
