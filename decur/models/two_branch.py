"""The model that is pretrained: one backbone and one projector for each of two modalities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from decur.config.methods import CONTRASTIVE_DIMS
from decur.errors import DecurError
from decur.models.backbones import build_backbone


def build_projector(
    feature_dim: int, dim: int, layers: int, hidden: int | None = None
) -> nn.Module:
    """Build a projector: `layers` linear layers, batch norm and ReLU between them (appendix B).

    No layer has a bias. All but the last are `hidden` wide, by default `dim`. With zero layers the
    projector is the identity, and the loss acts on the features.
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
    """Build the projector of SimCLR and CLIP in the released code: widths 512, 128, final norm."""
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

    `arch` is one architecture for both backbones, or one per backbone. `contrastive` uses the small
    projector of SimCLR and CLIP instead of `dim`, `layers` and `hidden`. `head_dim`, if not 0, adds
    a linear layer of that width between each backbone and its projector. `log_scale` is the initial
    value of CLIP's learned log of the inverse temperature.

    Raises:
        DecurError: backbones of different widths without projectors of their own.
    """

    def __init__(
        self,
        arch: str | Sequence[str],
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
        archs = [arch] * len(in_chans) if isinstance(arch, str) else arch
        self.backbones = nn.ModuleList(map(build_backbone, archs, in_chans))
        widths = [int(b.feature_dim) for b in self.backbones]  # type: ignore[arg-type]
        self.heads = nn.ModuleList(
            nn.Linear(width, head_dim) if head_dim else nn.Identity() for width in widths
        )
        widths = [head_dim or width for width in widths]
        shared = shared and not contrastive
        if len(set(widths)) > 1 and (shared or not layers):
            raise DecurError(
                f"pretrain.archs: {' and '.join(archs)} have {' and '.join(map(str, widths))} "
                "features, which need separate projectors; set `projector: separate`"
            )
        self.projectors = nn.ModuleList(
            build_contrastive_projector(width)
            if contrastive
            else build_projector(width, dim, layers, hidden)
            for width in (widths[:1] if shared else widths)
        )
        if contrastive:
            self.embedding_dim = CONTRASTIVE_DIMS[-1]
        else:
            self.embedding_dim = dim if layers else widths[0]
        self.log_scale = None if log_scale is None else nn.Parameter(torch.tensor(log_scale))

    def embed(self, x: Tensor, branch: int) -> Tensor:
        """Compute the embedding `(N, K)` of one view of one modality."""
        return self.project(self.backbones[branch](x), branch)

    def project(self, features: Tensor, branch: int) -> Tensor:
        """Compute the embedding `(N, K)` of a backbone's features `(N, feature_dim)`."""
        projector = self.projectors[min(branch, len(self.projectors) - 1)]
        embedding: Tensor = projector(self.heads[branch](features))
        return embedding

    def forward(self, views: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """Compute the embeddings of `views[branch][view]`, one pass per view.

        Batch statistics are therefore separate for each view.
        """
        return [[self.embed(x, branch) for x in xs] for branch, xs in enumerate(views)]
