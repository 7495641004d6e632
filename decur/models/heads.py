"""Transfer models: late fusion for classification, FCN for segmentation (appendix B).

Each parts into what one modality alone gives (`encode`), which can be computed once where backbones
are frozen, and what is made of all of them (`head`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decur.models.backbone import Backbone


class TransferModel(nn.Module, ABC):
    """Backbones, one a modality, below a head that is trained on labels."""

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)

    @abstractmethod
    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """What one modality alone gives, of its images `(N, C, H, W)`."""

    @abstractmethod
    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Logits of what every modality gave: `(N, classes)`, or `(N, classes, *size)`."""

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Logits of one batch, `xs` holding one tensor `(N, C, H, W)` a modality."""
        parts = [self.encode(modality, x) for modality, x in enumerate(xs)]
        return self.head(parts, (xs[0].shape[-2], xs[0].shape[-1]))

    def _backbone(self, modality: int) -> Backbone:
        return cast(Backbone, self.backbones[modality])


class LateFusion(TransferModel):
    """Concatenated pooled features of all modalities, then one linear layer."""

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__(backbones)
        self.classifier = nn.Linear(sum(b.feature_dim for b in backbones), classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """One tensor `(N, feature_dim)`."""
        return [self._backbone(modality)(x)]

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Class logits `(N, classes)`; `size` is not used."""
        return cast(Tensor, self.classifier(torch.cat([part[0] for part in parts], dim=1)))


class FCN(TransferModel):
    """The last three stages of all modalities, each reduced, classified, enlarged, and summed.

    The released code reduces, enlarges, then classifies. All are linear, and the 1x1 convolutions
    act on each pixel alone, so neither does the order change the result, nor a single convolution
    by the product of the two, and this is far cheaper. So is enlarging as a product with the
    weights of each row and column, whose backward pass is one too; the last one sums the stages.
    """

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__(backbones)
        self.reduce, self.classify = nn.ModuleList(), nn.ModuleList()
        for stage in (1, 2, 3):
            width = backbones[0].stage_dims[stage] // 4
            channels = sum(b.stage_dims[stage] for b in backbones)
            self.reduce.append(nn.Conv2d(channels, width, 1))
            self.classify.append(nn.Conv2d(width, classes, 1))

    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """Three maps, fine to coarse."""
        return self._backbone(modality).stages(x)[1:]

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Class logits `(N, classes, *size)`."""
        rows, weights = [], []
        stages = zip(*parts, strict=True)
        for reduce, classify, maps in zip(self.reduce, self.classify, stages, strict=True):
            logits = F.conv2d(torch.cat(maps, dim=1), *_in_one(reduce, classify))
            down, across = (
                _interpolation(length, count, logits)
                for length, count in zip(logits.shape[-2:], size, strict=True)
            )
            rows.append(down @ logits)
            weights.append(across)
        return torch.cat(rows, dim=-1) @ torch.cat(weights, dim=1).T


def _in_one(first: nn.Module, second: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight `(out, in, 1, 1)` and bias `(out,)` of two 1x1 convolutions, one after the other."""
    one, two = cast(nn.Conv2d, first), cast(nn.Conv2d, second)
    outer = two.weight[:, :, 0, 0]
    weight, bias = outer @ one.weight[:, :, 0, 0], outer @ cast(Tensor, one.bias)
    return weight[:, :, None, None], bias + cast(Tensor, two.bias)


def _interpolation(length: int, count: int, like: Tensor) -> Tensor:
    """Weights `(count, length)` that enlarge a line linearly, its end points kept."""
    unit = torch.eye(length, device=like.device, dtype=like.dtype)[None]
    return F.interpolate(unit, size=count, mode="linear", align_corners=True)[0].T
