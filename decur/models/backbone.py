"""What every backbone of one modality is: pooled features, and the maps of four stages."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """An encoder `(N, C, H, W) -> (N, feature_dim)` whose four stages can be read one by one."""

    feature_dim: int
    stage_dims: tuple[int, int, int, int]
    pools_last_map = True
    """Whether the features are the mean of the last stage's map."""

    @abstractmethod
    def stages(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the four stages, `(N, stage_dims[i], H_i, W_i)`, fine to coarse."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The modules, of one map each, at which memory can be saved by computing them again."""

    def forward(self, x: Tensor) -> Tensor:
        """The features `(N, feature_dim)`: the last stage, averaged over its map."""
        return self.stages(x)[-1].mean(dim=(2, 3))
