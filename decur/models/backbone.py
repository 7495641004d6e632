"""The interface of a backbone: pooled features, and the feature maps of four stages."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Encode images of one modality as features: `(N, C, H, W)` -> `(N, feature_dim)`.

    Subclasses define four stages, whose feature maps can be read separately.
    """

    feature_dim: int
    stage_dims: tuple[int, int, int, int]
    pools_last_map = True
    """Whether the features are the spatial mean of the last stage's map."""

    @abstractmethod
    def stages(self, x: Tensor) -> list[Tensor]:
        """Compute the maps of the four stages, `(N, stage_dims[i], H_i, W_i)`, fine to coarse."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """List the modules, each called on one map, that can be recomputed to save memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the features `(N, feature_dim)`: the spatial mean of the last stage's map."""
        return self.stages(x)[-1].mean(dim=(2, 3))
