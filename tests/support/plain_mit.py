"""A Mix Transformer written out plainly, on the tensors of a state dict, as a reference.

Layer norms after a convolution (patch embedding, reduction) have an eps of 1e-5, all others of
1e-6, as in the code of SegFormer and CMX.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

HEADS, REDUCTION = (1, 2, 5, 8), (8, 4, 2, 1)
Tensors = dict[str, Tensor]


def plain_norm(x: Tensor, state: Tensors, name: str, eps: float) -> Tensor:
    """Over the last axis."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def plain_linear(x: Tensor, state: Tensors, name: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, state[f"{name}.weight"]) + state[f"{name}.bias"]


def convolved(x: Tensor, state: Tensors, name: str, **options: int) -> Tensor:
    """Over the tokens of a map: `(N, H, W, C)` -> `(N, H', W', D)`."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, **options).permute(0, 2, 3, 1)


def plain_attention(x: Tensor, state: Tensors, name: str, heads: int, reduction: int) -> Tensor:
    context = x
    if reduction > 1:
        context = convolved(x, state, f"{name}.sr", stride=reduction)
        context = plain_norm(context, state, f"{name}.norm", 1e-5)
    q = plain_linear(x, state, f"{name}.q").flatten(1, 2)
    k, v = plain_linear(context, state, f"{name}.kv").flatten(1, 2).chunk(2, dim=-1)
    size = q.shape[-1] // heads
    taken = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].mT / math.sqrt(size)
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        taken.append(powers / powers.sum(-1, keepdim=True) @ v[..., part])
    return plain_linear(torch.cat(taken, dim=-1), state, f"{name}.proj").view(x.shape)


def plain_ffn(x: Tensor, state: Tensors, name: str) -> Tensor:
    hidden = plain_linear(x, state, f"{name}.fc1")
    hidden = convolved(hidden, state, f"{name}.dwconv", padding=1, groups=hidden.shape[-1])
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return plain_linear(hidden, state, f"{name}.fc2")


def plain_stage(state: Tensors, number: int, x: Tensor) -> Tensor:
    """Stage 1 to 4 in evaluation, `(N, C, H, W)` -> `(N, D, H', W')`."""
    stride, padding = (4, 3) if number == 1 else (2, 1)
    x = convolved(
        x.permute(0, 2, 3, 1), state, f"patch_embed{number}.proj", stride=stride, padding=padding
    )
    x = plain_norm(x, state, f"patch_embed{number}.norm", 1e-5)
    heads, reduction = HEADS[number - 1], REDUCTION[number - 1]
    depth = len({name.split(".")[1] for name in state if name.startswith(f"block{number}.")})
    for i in range(depth):
        block = f"block{number}.{i}"
        normed = plain_norm(x, state, f"{block}.norm1", 1e-6)
        x = x + plain_attention(normed, state, f"{block}.attn", heads, reduction)
        x = x + plain_ffn(plain_norm(x, state, f"{block}.norm2", 1e-6), state, f"{block}.mlp")
    return plain_norm(x, state, f"norm{number}", 1e-6).permute(0, 3, 1, 2)
