"""torchvision's ResNets as backbones, under torchvision's parameter names.

Weights travel without renaming. A module of its own, since torchvision takes seconds to import.
"""

from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from decur.models.backbone import Backbone

KINDS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class ResNetBackbone(Backbone):
    """torchvision's ResNet without its classifier, zero-initialised residuals (paper §4).

    The first convolution takes `in_chans` channels (appendix B).
    """

    def __init__(self, arch: str, in_chans: int) -> None:
        super().__init__()
        block, layers = KINDS[arch]
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
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps
