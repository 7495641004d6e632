"""Mix Transformers, the encoders of SegFormer (Xie et al., NeurIPS 2021, section 3.1).

This is an implementation of the published description. Each of the four stages can be called
separately (`MixTransformer.stage`), because CMX connects two streams between the stages.
"""

from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decur.errors import DecurError
from decur.models.backbone import Backbone

HEADS = (1, 2, 5, 8)
REDUCTION = (8, 4, 2, 1)
RATIO = 4
EPS = 1e-6
"""Epsilon of the layer norms in blocks and after stages.

Norms after a convolution keep torch's default 1e-5, as in SegFormer's and CMX's code.
"""

DROP_PATH = 0.1
SMALLEST = 29
"""Smallest side of an image, in pixels, that gives the first stage's attention one key."""

WIDTHS = {"mit_tiny": (16, 32, 80, 128), "mit_b0": (32, 64, 160, 256)}
DEPTHS = {
    "mit_tiny": (1, 1, 1, 1),  # not published: for small scenes
    "mit_b0": (2, 2, 2, 2),
    "mit_b1": (2, 2, 2, 2),
    "mit_b2": (3, 4, 6, 3),
    "mit_b3": (3, 4, 18, 3),
    "mit_b4": (3, 8, 27, 3),
    "mit_b5": (3, 6, 40, 3),
}


class PatchEmbedding(nn.Module):
    """Convert overlapping patches to tokens: a strided convolution and a layer norm."""

    def __init__(self, in_chans: int, dim: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, dim, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convert `(N, C, H, W)` -> `(N, H', W', D)`."""
        return cast(Tensor, self.norm(self.proj(x).permute(0, 2, 3, 1)))


class Attention(nn.Module):
    """Self-attention with keys and values from a map that is `reduction` times smaller."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(dim) if reduction > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Attend within a map: `(N, H, W, D)` -> `(N, H, W, D)`."""
        context = x
        if self.sr is not None and self.norm is not None:
            context = self.norm(self.sr(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        q = self._split(self.q(x))
        k, v = (self._split(part) for part in self.kv(context).chunk(2, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(y.transpose(1, 2).reshape(x.shape)))

    def _split(self, x: Tensor) -> Tensor:
        """Split into heads: `(N, H, W, D)` -> `(N, heads, H W, D / heads)`."""
        heads: Tensor = x.flatten(1, 2).unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)


class MixFFN(nn.Module):
    """Two linear layers with a depthwise 3x3 convolution between them, which encodes positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, RATIO * dim)
        self.dwconv = nn.Conv2d(RATIO * dim, RATIO * dim, 3, padding=1, groups=RATIO * dim)
        self.fc2 = nn.Linear(RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `(N, H, W, D)` -> `(N, H, W, D)`."""
        hidden = self.dwconv(self.fc1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return cast(Tensor, self.fc2(F.gelu(hidden)))


class DropPath(nn.Module):
    """Drop a residual branch for random samples and rescale the others (stochastic depth)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop or rescale samples: `(N, ...)` -> `(N, ...)`."""
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.p
        return x * keep / (1 - self.p)


class Block(nn.Module):
    """Compute x + attention(norm(x)), then x + mix-FFN(norm(x))."""

    def __init__(self, dim: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = MixFFN(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `(N, H, W, D)` -> `(N, H, W, D)`."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return cast(Tensor, x + self.drop_path(self.mlp(self.norm2(x))))


class MixTransformer(Backbone):
    """Encode an image in four stages at strides 4, 8, 16 and 32."""

    def __init__(self, arch: str, in_chans: int, drop_path: float = DROP_PATH) -> None:
        super().__init__()
        self.arch = arch
        widths = WIDTHS.get(arch, (64, 128, 320, 512))
        depths = DEPTHS[arch]
        rates = iter(np.linspace(0, drop_path, sum(depths)).tolist())
        chans = pairwise((in_chans, *widths))
        for i, ((before, dim), depth) in enumerate(zip(chans, depths, strict=True), start=1):
            kernel, stride = (7, 4) if i == 1 else (3, 2)
            blocks = [Block(dim, HEADS[i - 1], REDUCTION[i - 1], next(rates)) for _ in range(depth)]
            self.add_module(f"patch_embed{i}", PatchEmbedding(before, dim, kernel, stride))
            self.add_module(f"block{i}", nn.Sequential(*blocks))
            self.add_module(f"norm{i}", nn.LayerNorm(dim, eps=EPS))
        self.stage_dims = widths
        self.feature_dim = widths[-1]
        self.apply(initialise)

    def blocks(self) -> list[nn.Module]:
        """See `Backbone.blocks`; the transformer blocks."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Apply stage 1 to 4 to the previous map, `(N, C, H, W)` -> `(N, D, H', W')`.

        Raises:
            DecurError: an image too small for the first stage's attention.
        """
        if number == 1 and min(x.shape[-2:]) < SMALLEST:
            raise DecurError(
                f"{self.arch}: images of {x.shape[-2]} x {x.shape[-1]} pixels are too small; "
                f"set crops to at least {SMALLEST} pixels per side"
            )
        for part in ("patch_embed", "block", "norm"):
            x = self.get_submodule(f"{part}{number}")(x)
        return x.permute(0, 3, 1, 2)

    def stages(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.stages`; strides 4, 8, 16, 32."""
        maps = []
        for number in range(1, 5):
            x = self.stage(number, x)
            maps.append(x)
        return maps


def initialise(module: nn.Module) -> None:
    """Initialise linear weights (truncated normal, std 0.02) and convolutions (normal by fan-out).

    Their biases start at zero.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=(2 * module.groups / fan_out) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
