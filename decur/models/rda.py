"""Residual deformable attention, which the later version of DeCUR adds to ResNets.

Deformable attention (Xia et al., CVPR 2022, section 3.2) in the form of DeCUR's released code:
every pixel of a map attends to a few points. The points are the same for all pixels, and their
positions are predicted from the map. Positions are given in half map sides: -1 and 1 are the
centres of the outer pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD, GROUP = 128, 256
"""Channels per head, and channels that share their points: two heads per group."""


class ChannelNorm(nn.Module):
    """Apply layer norm over the channels of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(N, C, H, W)` -> `(N, C, H, W)`."""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class DeformableAttention(nn.Module):
    """Attend to points that are shifted from a regular grid with `stride` pixels between points.

    Every pixel is a query. Each group of channels has its own points. A `kernel` x `kernel`
    convolution predicts an offset for each grid point from the queries. Offsets are unbounded, but
    points are clamped to the map. Keys and values are interpolated at the points, bilinearly.

    `rpe_table` contains each head's bias for every displacement between pixel and point on a map of
    `side` pixels. The table is interpolated bilinearly at the displacement relative to the map's
    size, which stretches it to maps of any other size.

    Parameters are named as in the released files.
    """

    def __init__(self, dim: int, *, stride: int, kernel: int, side: int) -> None:
        super().__init__()
        self.heads, self.groups = dim // HEAD, dim // GROUP
        self.conv_offset = nn.Sequential(
            nn.Conv2d(GROUP, GROUP, kernel, stride, padding=kernel // 2, groups=GROUP),
            ChannelNorm(GROUP),
            nn.GELU(),
            nn.Conv2d(GROUP, 2, 1, bias=False),
        )
        self.proj_q, self.proj_k, self.proj_v, self.proj_out = (
            nn.Conv2d(dim, dim, 1) for _ in range(4)
        )
        self.rpe_table = nn.Parameter(torch.empty(self.heads, 2 * side - 1, 2 * side - 1))
        nn.init.trunc_normal_(self.rpe_table, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention to a map: `(N, C, H, W)` -> `(N, C, H, W)`."""
        queries = self.proj_q(x)
        points = self.points(queries)
        maps = x.reshape(-1, GROUP, *x.shape[2:]).to(points.dtype)
        context = F.grid_sample(maps, points.flip(-1), align_corners=True)
        context = context.reshape(*x.shape[:2], *points.shape[1:3]).to(x.dtype)
        bias = self.bias(points, x.shape[2:])
        q, k, v = map(self._split, (queries, self.proj_k(context), self.proj_v(context)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out: Tensor = self.proj_out(y.mT.reshape(x.shape))
        return out

    def points(self, queries: Tensor) -> Tensor:
        """Predict each group's points: rows and columns in -1..1, `(N groups, h, w, 2)`.

        The result is at least float32, because half precision has steps of a quarter of a pixel.
        """
        offsets: Tensor = self.conv_offset(queries.reshape(-1, GROUP, *queries.shape[2:]))
        grid = _places(offsets, 0.5)
        return (grid + offsets.permute(0, 2, 3, 1)).clamp(-1, 1)

    def bias(self, points: Tensor, size: torch.Size) -> Tensor:
        """Compute each head's bias for pairs of pixel and point: `(N, heads, H W, h w)`."""
        pixels = _places(points.new_empty(1, 1, *size), 0).flatten(0, 1)
        displaced = (pixels[:, None] - points.flatten(1, 2)[:, None]) / 2
        tables = self.rpe_table.to(points.dtype).unflatten(0, (self.groups, -1))
        tables = tables.repeat(len(points) // self.groups, 1, 1, 1)
        read = F.grid_sample(tables, displaced.flip(-1), align_corners=True)
        return read.reshape(-1, self.heads, *read.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """Split into heads: `(N, C, H, W)` -> `(N, heads, H W, HEAD)`."""
        heads: Tensor = x.flatten(2).unflatten(1, (self.heads, HEAD))
        return heads.mT


def _places(like: Tensor, shift: float) -> Tensor:
    """Compute rows and columns of a map's pixels, shifted by `shift` pixels: `(H, W, 2)`.

    As in the released code, a shift of half a pixel does not change the unit: the distance between
    the outer pixels' centres is 2.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    axes = []
    for length in like.shape[-2:]:
        places = torch.arange(length, device=like.device, dtype=dtype)
        single = length == 1  # has no unit and lies in the middle
        axes.append(places * 0 if single else (places + shift) * 2 / (length - 1) - 1)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
