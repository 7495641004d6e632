"""torchvision's ResNets as backbones, plain or with deformable attention.

Parameters keep torchvision's names, so weights need no renaming. This is a separate module because
importing torchvision takes seconds.
"""

from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from decur.models.backbone import Backbone
from decur.models.rda import DeformableAttention

KINDS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class ResNetBackbone(Backbone):
    """torchvision's ResNet without its classifier, with zero-initialised residuals (paper §4).

    The first convolution takes `in_chans` channels (appendix B).
    """

    def __init__(self, kind: str, in_chans: int) -> None:
        super().__init__()
        block, layers = KINDS[kind]
        net = ResNet(block, layers, zero_init_residual=True)
        if in_chans != 3:
            net.conv1 = nn.Conv2d(in_chans, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        for name, module in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, module)
        dims = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.stage_dims = cast(tuple[int, int, int, int], dims)
        self.feature_dim = dims[-1]

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; the residual blocks."""
        return [module for module in self.modules() if isinstance(module, BasicBlock | Bottleneck)]

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; strides 4, 8, 16, 32."""
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = self.get_submodule(name)(x)
        maps = []
        for number in range(1, 5):
            x = self.layer(number, x)
            maps.append(x)
        return maps

    def layer(self, number: int, x: Tensor) -> Tensor:
        """Apply layer 1 to 4 to the previous map, `(N, C, H, W)` -> `(N, D, H', W')`."""
        y: Tensor = self.get_submodule(f"layer{number}")(x)
        return y


class DeformableResNet(ResNetBackbone):
    """A ResNet with residual deformable attention after each of its last two stages.

    This is the later version of the method (ECCV 2024), with separate attention per modality. In
    the released code both branches use the attention of the first. `side` is set for images of 224
    pixels.
    """

    def __init__(self, kind: str, in_chans: int) -> None:
        super().__init__(kind, in_chans)
        self.da_l3 = DeformableAttention(self.stage_dims[2], stride=2, kernel=5, side=14)
        self.da_l4 = DeformableAttention(self.stage_dims[3], stride=1, kernel=3, side=7)

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; includes the attention modules."""
        return [*super().blocks(), self.da_l3, self.da_l4]

    def layer(self, number: int, x: Tensor) -> Tensor:
        """See `ResNetBackbone.layer`."""
        x = super().layer(number, x)
        return x if number < 3 else x + self.get_submodule(f"da_l{number}")(x)
