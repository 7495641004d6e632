"""Transfer models: late fusion for classification, FCN for segmentation (appendix B).

Both split into `features` (the backbones, which may be frozen) and `head`, so that frozen features
can be computed once and reused.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decur.models.backbones import Backbone


class LateFusion(nn.Module):
    """Concatenated pooled features of all modalities, then one linear layer."""

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.classifier = nn.Linear(sum(b.feature_dim for b in backbones), classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """One tensor `(N, sum of feature_dim)`."""
        return [torch.cat([b(x) for b, x in zip(self.backbones, xs, strict=True)], dim=1)]

    def head(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Class logits `(N, classes)`; `size` is not used."""
        logits: Tensor = self.classifier(features[0])
        return logits

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Class logits of one batch, `xs` holding one tensor a modality."""
        return self.head(self.features(xs), (0, 0))


class FCN(nn.Module):
    """The last three stages of all modalities, each reduced, classified, enlarged, and summed.

    The released code enlarges before it classifies; both are linear and the 1x1 convolution acts
    on each pixel alone, so the order does not change the result and this one is far cheaper.
    """

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.reduce, self.classify = nn.ModuleList(), nn.ModuleList()
        for stage in (1, 2, 3):
            width = backbones[0].stage_dims[stage] // 4
            channels = sum(b.stage_dims[stage] for b in backbones)
            self.reduce.append(nn.Conv2d(channels, width, 1))
            self.classify.append(nn.Conv2d(width, classes, 1))

    def features(self, xs: Sequence[Tensor]) -> list[Tensor]:
        """Three maps, fine to coarse, modalities concatenated along the channels."""
        maps = [b.stages(x)[1:] for b, x in zip(self.backbones, xs, strict=True)]  # type: ignore[operator]
        return [torch.cat(same_stage, dim=1) for same_stage in zip(*maps, strict=True)]

    def head(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Class logits `(N, classes, *size)`."""
        total: Tensor | None = None
        for reduce, classify, feature in zip(self.reduce, self.classify, features, strict=True):
            logits = F.interpolate(
                classify(reduce(feature)), size=size, mode="bilinear", align_corners=True
            )
            total = logits if total is None else total + logits
        assert total is not None
        return total

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Class logits at the input's size."""
        return self.head(self.features(xs), (xs[0].shape[-2], xs[0].shape[-1]))
