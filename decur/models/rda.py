"""Residual deformable attention, which the method's later version adds to ResNets.

Deformable attention (Xia et al., CVPR 2022, section 3.2), in the form of DeCUR's released code:
every place of a map attends to a few points, the same for all places, that the map itself moves to
where they help. Half a map's side is the unit of all positions, -1 and 1 being the centres of the
outer pixels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD, GROUP = 128, 256
"""Channels of a head; channels that share their points, which makes two heads a group."""


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, C, H, W)`."""
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class DeformableAttention(nn.Module):
    """Attention to points that are moved away from a regular grid, `stride` pixels apart.

    Queries are every pixel. Each group of channels has its own points: an offset for each point of
    the grid, read by a `kernel` x `kernel` convolution from the queries, unbounded, but a point
    stays within the map. Keys and values are read at the points, bilinearly.

    `rpe_table` is the bias of a head for each displacement between pixel and point, of a map of
    `side` pixels. It is read bilinearly at the displacement as a share of the map, and so is
    stretched to maps of any other size.

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
        """`(N, C, H, W)` -> `(N, C, H, W)`."""
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
        """Where each group looks: rows and columns in -1..1, `(N groups, h, w, 2)`.

        In float32 at least: in half precision they would be a quarter of a pixel apart.
        """
        offsets: Tensor = self.conv_offset(queries.reshape(-1, GROUP, *queries.shape[2:]))
        grid = _places(offsets, 0.5)
        return (grid + offsets.permute(0, 2, 3, 1)).clamp(-1, 1)

    def bias(self, points: Tensor, size: torch.Size) -> Tensor:
        """What a head adds for the displacement from pixel to point: `(N, heads, H W, h w)`."""
        pixels = _places(points.new_empty(1, 1, *size), 0).flatten(0, 1)
        displaced = (pixels[:, None] - points.flatten(1, 2)[:, None]) / 2
        tables = self.rpe_table.to(points.dtype).unflatten(0, (self.groups, -1))
        tables = tables.repeat(len(points) // self.groups, 1, 1, 1)
        read = F.grid_sample(tables, displaced.flip(-1), align_corners=True)
        return read.reshape(-1, self.heads, *read.shape[2:])

    def _split(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, heads, H W, HEAD)`."""
        heads: Tensor = x.flatten(2).unflatten(1, (self.heads, HEAD))
        return heads.mT


def _places(like: Tensor, shift: float) -> Tensor:
    """Rows and columns of the pixels of a map, moved by `shift` pixels: `(H, W, 2)`.

    The released code moves its grid by half a pixel, but leaves the unit at the centres.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    axes = []
    for length in like.shape[-2:]:
        places = torch.arange(length, device=like.device, dtype=dtype)
        single = length == 1  # has no unit, and lies in the middle
        axes.append(places * 0 if single else (places + shift) * 2 / (length - 1) - 1)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
