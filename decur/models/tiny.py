"""The small backbone of the demo, which trains without a GPU."""

from itertools import pairwise

from torch import Tensor, nn

from decur.models.backbone import Backbone

WIDTHS = (16, 32, 64, 128)


class TinyNet(Backbone):
    """Four strided 3x3 convolutions with batch normalisation."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.stage_dims = WIDTHS
        self.feature_dim = WIDTHS[-1]
        widths = (in_chans, *WIDTHS)
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
