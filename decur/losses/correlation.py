"""Sums over a cross-correlation matrix, computed without building it.

For batch-normalised embeddings Za, Zb of N rows and K dimensions the cross-correlation is
C = Za^T Zb / N, a K x K matrix (paper §3.1, eq. 1). The losses need only its diagonal and the
sum of its squared entries. Two N x N Gram matrices give this sum:

    sum_ij C_ij^2 = tr(Za^T Zb Zb^T Za) / N^2 = sum((Za Za^T) * (Zb Zb^T)) / N^2.

The result is exact. At N = 256, K = 8192 it takes a 32nd of the arithmetic and a thousandth of the
memory. In a process group each rank first exchanges its n = N / W rows of all dimensions for all N
rows of its own share of the dimensions (`decur.distributed.own_dimensions`). Mean, variance and
diagonal of a dimension then need no communication. Only N x N Gram matrices and scalars are summed
over the ranks.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from decur.distributed import all_reduce_sum
from decur.errors import DecurError

EPS = 1e-5  # as in BatchNorm1d(affine=False), which the released code uses


def check_same_shape(**views: Tensor) -> None:
    """Raise DecurError unless all views are matrices (n, K) of one shape."""
    shapes = {name: tuple(z.shape) for name, z in views.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise DecurError(f"embeddings must be matrices (n, K) of one shape, got {shapes}")


def standardise(z: Tensor) -> Tensor:
    """Batch-normalise each dimension over the rows of the whole batch: (N, k) -> (N, k).

    Biased variance, eps 1e-5, no affine parameters, no running statistics. Half precision is
    converted to float32, because sums of thousands of squares follow. float64 stays float64.

    Raises:
        DecurError: if the whole batch has a single row.
    """
    if len(z) < 2:
        raise DecurError("a batch of one row has no correlation; use a batch size of 2 or more")
    normalised: Tensor = _Standardise.apply(z if z.dtype == torch.float64 else z.float())
    return normalised


def diagonal(za: Tensor, zb: Tensor) -> Tensor:
    """Compute the diagonal of two standardised views' cross-correlation: (N, k), (N, k) -> (k,)."""
    return (za * zb).sum(0) / len(za)


def sum_over_dimensions(x: Tensor) -> Tensor:
    """Sum one value per dimension, (k,) of this rank's share, over the dimensions of all ranks."""
    return all_reduce_sum(x.sum())


def gram(z: Tensor) -> Tensor:
    """Compute the Gram matrix z z^T over the dimensions of all ranks: (N, k) -> (N, N).

    The backward pass assumes that the incoming gradient is symmetric, as it is for
    `sum_of_squares`.
    """
    return all_reduce_sum(_Gram.apply(z))


def sum_of_squares(gram_a: Tensor, gram_b: Tensor) -> Tensor:
    """Sum all squared entries of a cross-correlation, given the Gram matrices of its two views."""
    return (gram_a * gram_b).sum() / len(gram_a) ** 2


class _Standardise(torch.autograd.Function):
    """Standardise as one autograd node, which keeps one (N, k) tensor instead of three."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        centred = z - z.mean(0)
        inverse_std = (centred.square().mean(0) + EPS).rsqrt()
        normalised = centred.mul_(inverse_std)
        ctx.save_for_backward(normalised, inverse_std)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        normalised, inverse_std = ctx.saved_tensors
        along = (grad * normalised).mean(0)
        return torch.addcmul(grad - grad.mean(0), normalised, along, value=-1).mul_(inverse_std)


class _Gram(torch.autograd.Function):
    """Compute a Gram matrix whose backward pass is a single product.

    With S = sum(Ga * Gb) and Ga = Za Za^T, dS/dZa = 2 Gb Za because Gb is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        # On a GPU the product is split into parts: a single small N x N product would occupy one
        # core.
        parts = math.gcd(z.shape[1], 32) if z.is_cuda else 1
        z = z.unflatten(1, (parts, z.shape[1] // parts)).transpose(0, 1)
        with torch.autocast(z.device.type, enabled=False):
            return (z @ z.mT).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        with torch.autocast(z.device.type, enabled=False):
            along: Tensor = (2 * grad) @ z
        return along
