"""What saliency is the saliency of: the mean of the common and of the unique dimensions (§7)."""

from typing import cast

import torch
from torch import Tensor, nn

from decur.explain.subject import Subject
from decur.models.backbone import Backbone


class PartMeans(nn.Module):
    """From the last stage's map of one branch to the mean of each part of its embedding.

    Embeddings are those that the projector puts out, not normalised, as in the released code.
    `map` is where the map passes, for whoever hooks on to it.
    """

    def __init__(self, subject: Subject, branch: int) -> None:
        super().__init__()
        self.map = nn.Identity()
        self.model, self.branch = subject.model, branch
        self.dimensions = list(subject.parts.values())

    def forward(self, stage: Tensor) -> Tensor:
        """`(N, D, H, W)` -> `(N, parts)`."""
        return self.of(self.map(stage).mean(dim=(2, 3)))

    def of(self, features: Tensor) -> Tensor:
        """A backbone's features `(N, D)` -> `(N, parts)`."""
        z = self.model.project(features, self.branch)
        return torch.stack([z[:, part].mean(dim=1) for part in self.dimensions], dim=1)


class ImagePartMeans(nn.Module):
    """The same from images, `(N, C, H, W)` -> `(N, parts)`."""

    def __init__(self, subject: Subject, branch: int) -> None:
        super().__init__()
        self.backbone = cast(Backbone, subject.model.backbones[branch])
        self.top = PartMeans(subject, branch)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.top.of(self.backbone(x))
