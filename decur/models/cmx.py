"""CMX: two Mix Transformers that rectify each other (Zhang et al., arXiv:2203.04838).

This is an implementation of the published description (section III of that paper). After every
stage the maps of the two streams rectify each other. Each rectified map is the input of its
stream's next stage. The two rectified maps are also fused into one map for the decoder.
Rectification and fusion are initialised like Mix Transformers (`mit.initialise`).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from decur.config.architectures import find_architecture
from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.heads import TransferModel
from decur.models.mit import DEPTHS, HEADS, MixTransformer, initialise

DECODER_WIDTH = 512
SMALL_DECODER_WIDTH = 64  # for mit_tiny, in proportion to its widths


class Rectification(nn.Module):
    """Add to each map the gated map of the other modality (CM-FRM).

    A channel gate and a spatial gate are both computed from both maps. Each has weight one half
    (lambda of the CMX paper).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(4 * dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, 2 * dim), nn.Sigmoid()
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(2 * dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, 2, 1), nn.Sigmoid()
        )

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Rectify two maps `(N, C, H, W)` -> two maps `(N, C, H, W)`."""
        both = torch.cat([x1, x2], dim=1)
        pooled = torch.cat([both.mean(dim=(2, 3)), both.amax(dim=(2, 3))], dim=1)
        channel1, channel2 = self.channel(pooled)[:, :, None, None].chunk(2, dim=1)
        spatial1, spatial2 = self.spatial(both).chunk(2, dim=1)
        gate1, gate2 = (channel1 + spatial1) / 2, (channel2 + spatial2) / 2
        return x1 + gate2 * x2, x2 + gate1 * x1


class Exchange(nn.Module):
    """Compute this stream's context and apply the other stream's context (cross-attention).

    A context has `d x d` numbers per head, so the cost is linear in the number of pixels.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 2 * dim)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.merge = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split `(N, L, C)` into a kept `(N, L, C)` and an exchanged part `(N, heads, L, d)`."""
        stays, exchanged = F.relu(self.project(x)).chunk(2, dim=-1)
        return stays, self._heads(exchanged)

    def context(self, exchanged: Tensor) -> Tensor:
        """Multiply keys by values, `(N, heads, L, d)` -> `(N, heads, d, d)`, softmax over keys."""
        k, v = (self._heads(part) for part in self.kv(self._join(exchanged)).chunk(2, dim=-1))
        products: Tensor = k.transpose(-2, -1) @ v / k.shape[-1] ** 0.5
        return products.softmax(dim=-2)

    def take(self, x: Tensor, stays: Tensor, exchanged: Tensor, context: Tensor) -> Tensor:
        """Apply the other stream's context; sizes as above, the result is `(N, L, C)`."""
        taken = self._join(exchanged @ context)
        return cast(Tensor, self.norm(x + self.merge(torch.cat([stays, taken], dim=-1))))

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class Fusion(nn.Module):
    """Exchange global context between two streams, then mix them into one map (FFM)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Exchange(dim, heads) for _ in range(2))
        self.skip = nn.Conv2d(2 * dim, dim, 1, bias=False)
        self.mix = nn.Sequential(
            nn.Conv2d(2 * dim, dim, 1),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim),
            nn.ReLU(),
            nn.Conv2d(dim, dim, 1),
            nn.BatchNorm2d(dim),
        )
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Fuse two maps `(N, C, H, W)` -> one map `(N, C, H, W)`."""
        one, two = (cast(Exchange, stream) for stream in self.streams)
        tokens1, tokens2 = (x.flatten(2).transpose(1, 2) for x in (x1, x2))
        stays1, exchanged1 = one.split(tokens1)
        stays2, exchanged2 = two.split(tokens2)
        context1, context2 = one.context(exchanged1), two.context(exchanged2)
        taken1 = one.take(tokens1, stays1, exchanged1, context2)
        taken2 = two.take(tokens2, stays2, exchanged2, context1)
        both = torch.cat([taken1, taken2], dim=-1).transpose(1, 2).unflatten(2, x1.shape[2:])
        return cast(Tensor, self.norm(self.skip(both) + self.mix(both)))


class Decoder(nn.Module):
    """Decode four maps into class logits at the size of the finest map (SegFormer's MLP decoder).

    The published decoder enlarges and concatenates the maps, coarse to fine, before the 1x1
    convolution `fuse`. Here each map is multiplied by its part of `fuse` before it is enlarged.
    Both steps are linear and the convolution acts on each pixel separately, so the result is the
    same at a third of the cost.
    """

    def __init__(self, dims: Sequence[int], classes: int, width: int = DECODER_WIDTH) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Linear(dim, width) for dim in dims)
        self.fuse = nn.Conv2d(len(dims) * width, width, 1)
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, classes, 1)
        for convolution in (self.fuse, self.classify):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify maps `(N, C_i, H_i, W_i)`, fine to coarse -> logits `(N, classes, H_1, W_1)`."""
        shares = reversed(self.fuse.weight.chunk(len(maps), dim=1))
        total = cast(Tensor, self.fuse.bias)[:, None, None]
        for reduce, share, x in zip(self.reduce, shares, maps, strict=True):
            reduced = reduce(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            total = total + _resize(F.conv2d(reduced, share), maps[0].shape[2:])
        return cast(Tensor, self.classify(self.dropout(F.relu(self.norm(total)))))


class CMX(TransferModel):
    """Segment images of two modalities.

    No output of a single modality can be computed once and reused. Even with frozen backbones the
    streams change from the first stage on, because rectification is trained.

    Raises:
        DecurError: not two Mix Transformers of one architecture.
    """

    def __init__(self, backbones: Sequence[Backbone], classes: int) -> None:
        super().__init__(backbones)
        archs = [b.arch if isinstance(b, MixTransformer) else type(b).__name__ for b in backbones]
        if len(archs) != 2 or archs[0] != archs[1] or archs[0] not in DEPTHS:
            raise DecurError(
                f"CMX needs two backbones of one of {', '.join(DEPTHS)}, got {', '.join(archs)}"
            )
        dims = backbones[0].stage_dims
        self.rectify = nn.ModuleList(Rectification(dim) for dim in dims)
        self.fuse = nn.ModuleList(
            Fusion(dim, heads) for dim, heads in zip(dims, HEADS, strict=True)
        )
        width = SMALL_DECODER_WIDTH if find_architecture(archs[0]).small else DECODER_WIDTH
        self.decoder = Decoder(dims, classes, width)
        self.rectify.apply(initialise)
        self.fuse.apply(initialise)

    def encode(self, modality: int, x: Tensor) -> list[Tensor]:
        """Return the image unchanged."""
        return [x]

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Compute class logits `(N, classes, *size)`."""
        one, two = (cast(MixTransformer, backbone) for backbone in self.backbones)
        (x1,), (x2,) = parts
        maps = []
        for number, (rectify, fuse) in enumerate(zip(self.rectify, self.fuse, strict=True), 1):
            x1, x2 = rectify(one.stage(number, x1), two.stage(number, x2))
            maps.append(fuse(x1, x2))
        return _resize(self.decoder(maps), size)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
