"""Transfer models: late fusion for classification, FCN for segmentation (appendix B).

Each model has two parts. `encode` uses one modality only; with frozen backbones its output can be
computed once. `head` combines the outputs of all modalities.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decur.models.backbone import Backbone


class TransferModel(nn.Module, ABC):
    """Predict labels with one backbone per modality and a head that is trained on labels."""

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)

    @abstractmethod
    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """Encode the images `(N, C, H, W)` of one modality."""

    @abstractmethod
    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Compute logits `(N, classes)` or `(N, classes, *size)` from all encodings."""

    def forward(self, xs: Sequence[Tensor]) -> Tensor:
        """Compute the logits of one batch; `xs` has one tensor `(N, C, H, W)` per modality."""
        parts = [self.encode(modality, x) for modality, x in enumerate(xs)]
        return self.head(parts, (xs[0].shape[-2], xs[0].shape[-1]))

    def _backbone(self, modality: int) -> Backbone:
        return cast(Backbone, self.backbones[modality])


class LateFusion(TransferModel):
    """Classify the concatenated features of all modalities with one linear layer."""

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__(backbones)
        self.classifier = nn.Linear(sum(b.feature_dim for b in backbones), classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """Compute the features, one tensor `(N, feature_dim)`."""
        return [self._backbone(modality)(x)]

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Compute class logits `(N, classes)`; `size` is not used."""
        return cast(Tensor, self.classifier(torch.cat([part[0] for part in parts], dim=1)))


class FCN(TransferModel):
    """Segment with the last three stages: reduce, classify and enlarge each, then sum them.

    The maps of all modalities are concatenated per stage. The released code reduces, enlarges, then
    classifies. All three steps are linear, and the 1x1 convolutions act on each pixel separately.
    The order therefore does not change the result, and the two convolutions can be multiplied into
    one, which is far cheaper. Enlarging is a product with interpolation weights for rows and
    columns, because its backward pass is also a product. The last product also sums the stages.
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
        """Compute the maps of the last three stages, fine to coarse."""
        return self._backbone(modality).stages(x)[1:]

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Compute class logits `(N, classes, *size)`."""
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
    """Combine two successive 1x1 convolutions: weight `(out, in, 1, 1)` and bias `(out,)`."""
    one, two = cast(nn.Conv2d, first), cast(nn.Conv2d, second)
    outer = two.weight[:, :, 0, 0]
    weight, bias = outer @ one.weight[:, :, 0, 0], outer @ cast(Tensor, one.bias)
    return weight[:, :, None, None], bias + cast(Tensor, two.bias)


def _interpolation(length: int, count: int, like: Tensor) -> Tensor:
    """Compute weights `(count, length)` of linear interpolation that keeps the end points."""
    unit = torch.eye(length, device=like.device, dtype=like.dtype)[None]
    return F.interpolate(unit, size=count, mode="linear", align_corners=True)[0].T
