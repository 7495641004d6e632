"""Reduce a model to the scalars that saliency explains: the mean of each embedding part (§7)."""

from typing import cast

import torch
from torch import Tensor, nn

from decur.explain.subject import Subject
from decur.models.backbone import Backbone


class PartMeans(nn.Module):
    """Map the last stage's output of one branch to the mean of each part of its embedding.

    Embeddings are the projector's output without normalisation, as in the released code. `map` is
    an identity layer to which hooks can be attached.
    """

    def __init__(self, subject: Subject, branch: int) -> None:
        super().__init__()
        self.map = nn.Identity()
        self.model, self.branch = subject.model, branch
        self.dimensions = list(subject.parts.values())

    def forward(self, stage: Tensor) -> Tensor:
        """Map `(N, D, H, W)` to `(N, parts)`."""
        return self.of(self.map(stage).mean(dim=(2, 3)))

    def of(self, features: Tensor) -> Tensor:
        """Map a backbone's features `(N, D)` to `(N, parts)`."""
        z = self.model.project(features, self.branch)
        return torch.stack([z[:, part].mean(dim=1) for part in self.dimensions], dim=1)


class ImagePartMeans(nn.Module):
    """Map images `(N, C, H, W)` of one branch to the mean of each embedding part `(N, parts)`."""

    def __init__(self, subject: Subject, branch: int) -> None:
        super().__init__()
        self.backbone = cast(Backbone, subject.model.backbones[branch])
        self.top = PartMeans(subject, branch)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to `(N, parts)`."""
        return self.top.of(self.backbone(x))
