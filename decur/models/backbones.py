"""Backbones of one modality, all of one shape: pooled features, and the maps of four stages.

Parameter names of the ResNets are torchvision's, so that weights travel without renaming.
"""

from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from decur.errors import DecurError

TINY_WIDTHS = (16, 32, 64, 128)


class Backbone(nn.Module):
    """An encoder `(N, C, H, W) -> (N, feature_dim)` whose four stages can be read one by one."""

    feature_dim: int
    stage_dims: tuple[int, int, int, int]

    def stages(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the four stages, `(N, stage_dims[i], H_i, W_i)`, fine to coarse."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Globally average-pooled last stage, `(N, feature_dim)`."""
        return self.stages(x)[-1].mean(dim=(2, 3))


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


def build_backbone(arch: str, in_chans: int) -> Backbone:
    """A freshly initialised backbone.

    Raises:
        DecurError: an unknown architecture.
    """
    if arch == "tiny":
        return TinyNet(in_chans)
    if arch == "resnet18":
        return ResNetBackbone(BasicBlock, [2, 2, 2, 2], in_chans)
    if arch == "resnet50":
        return ResNetBackbone(Bottleneck, [3, 4, 6, 3], in_chans)
    raise DecurError(f"arch '{arch}': unknown; known are tiny, resnet18, resnet50")
