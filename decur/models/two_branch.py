"""The model that is pretrained: a backbone and a projector for each of two modalities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from decur.models.backbones import build_backbone

CONTRASTIVE_DIMS = (512, 128)


def build_projector(
    feature_dim: int, dim: int, layers: int, hidden: int | None = None
) -> nn.Module:
    """Projector of `layers` linear layers, batch norm and ReLU between them (appendix B).

    No layer has a bias. All but the last are `hidden` wide, by default `dim`. Zero layers give the
    identity: the loss then acts on the features.
    """
    if layers == 0:
        return nn.Identity()
    modules: list[nn.Module] = []
    width, inner = feature_dim, hidden or dim
    for _ in range(layers - 1):
        modules += [
            nn.Linear(width, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(inplace=True),
        ]
        width = inner
    return nn.Sequential(*modules, nn.Linear(width, dim, bias=False))


def build_contrastive_projector(feature_dim: int) -> nn.Module:
    """SimCLR's and CLIP's projector in the released code: 512 and 128 wide, a norm at the end."""
    hidden, dim = CONTRASTIVE_DIMS
    return nn.Sequential(
        nn.Linear(feature_dim, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dim),
        nn.BatchNorm1d(dim),
    )


class TwoBranch(nn.Module):
    """Two backbones with separate projectors, or one shared projector as in the released code.

    `contrastive` gives each the small projector of SimCLR and CLIP in place of `dim`, `layers` and
    `hidden`;
    `head_dim`, if not 0, widens each backbone's features by a linear layer before its projector;
    `log_scale` starts CLIP's learnt log of the inverse temperature.
    """

    def __init__(
        self,
        arch: str,
        in_chans: Sequence[int],
        *,
        dim: int,
        layers: int,
        hidden: int | None = None,
        shared: bool = False,
        contrastive: bool = False,
        head_dim: int = 0,
        log_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(build_backbone(arch, chans) for chans in in_chans)
        feature_dim = int(self.backbones[0].feature_dim)  # type: ignore[arg-type]
        self.heads = nn.ModuleList(
            nn.Linear(feature_dim, head_dim) if head_dim else nn.Identity() for _ in in_chans
        )
        feature_dim = head_dim or feature_dim
        count = 1 if shared and not contrastive else len(in_chans)
        self.projectors = nn.ModuleList(
            build_contrastive_projector(feature_dim)
            if contrastive
            else build_projector(feature_dim, dim, layers, hidden)
            for _ in range(count)
        )
        if contrastive:
            self.embedding_dim = CONTRASTIVE_DIMS[-1]
        else:
            self.embedding_dim = dim if layers else feature_dim
        self.log_scale = None if log_scale is None else nn.Parameter(torch.tensor(log_scale))

    def embed(self, x: Tensor, branch: int) -> Tensor:
        """Embedding `(N, K)` of one view of one modality."""
        return self.project(self.backbones[branch](x), branch)

    def project(self, features: Tensor, branch: int) -> Tensor:
        """Embedding `(N, K)` of a backbone's features `(N, feature_dim)`."""
        projector = self.projectors[min(branch, len(self.projectors) - 1)]
        embedding: Tensor = projector(self.heads[branch](features))
        return embedding

    def forward(self, views: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """Embeddings of `views[branch][view]`, one pass each: batch statistics are per view."""
        return [[self.embed(x, branch) for x in xs] for branch, xs in enumerate(views)]
