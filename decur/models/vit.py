"""timm's vision transformer as a backbone. A separate module, because timm is slow to import."""

from typing import Any, cast

import timm
from torch import Tensor, nn

from decur.models.backbone import Backbone


class VisionTransformer(Backbone):
    """timm's ViT-S/16 for any number of channels, and for any size by interpolated positions.

    Features are the mean of the patch tokens or, with `token`, the class token as in the released
    code.
    """

    def __init__(self, in_chans: int, *, name: str, token: bool = False) -> None:
        super().__init__()
        self.pools_last_map = not token
        self.vit: Any = timm.create_model(
            name, in_chans=in_chans, num_classes=0, dynamic_img_size=True
        )
        self.feature_dim = int(cast(int, self.vit.embed_dim))
        self.stage_dims = (self.feature_dim,) * 4

    def forward(self, x: Tensor) -> Tensor:
        """See `Backbone.forward`; with `token` the features are the class token."""
        if self.pools_last_map:
            return super().forward(x)
        return cast(Tensor, self.vit(x))

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; the twelve transformer blocks."""
        return list(self.vit.blocks)

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; after blocks 3, 6, 9 and 12, all at stride 16."""
        maps: list[Tensor] = self.vit.forward_intermediates(
            x, indices=[2, 5, 8, 11], norm=True, intermediates_only=True
        )
        return maps
