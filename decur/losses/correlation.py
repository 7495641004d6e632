"""Sums over a cross-correlation matrix that is never built.

For batch-normalised embeddings Za, Zb of N rows and K dimensions the cross-correlation is
C = Za^T Zb / N, a K x K matrix (paper §3.1, eq. 1). The losses only need its diagonal and the
sum of its squared entries, and the latter is a matter of two N x N Gram matrices:

    sum_ij C_ij^2 = tr(Za^T Zb Zb^T Za) / N^2 = sum((Za Za^T) * (Zb Zb^T)) / N^2.

At N = 256, K = 8192 that is a 32nd of the arithmetic and a thousandth of the memory, and exact.
In a process group each rank holds n = N / W rows and computes only its own n rows of every Gram
matrix; beyond one gather of the embeddings it exchanges K-vectors. All ranks must pass equally
many rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from decur.distributed import all_gather_rows, all_reduce_sum, world_size
from decur.errors import DecurError

EPS = 1e-5  # of BatchNorm1d(affine=False), the released code's normaliser


def check_same_shape(**views: Tensor) -> None:
    """Raise DecurError unless all views are matrices (n, K) of one shape."""
    shapes = {name: tuple(z.shape) for name, z in views.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise DecurError(f"embeddings must be matrices (n, K) of one shape, got {shapes}")


def standardise(z: Tensor) -> Tensor:
    """Batch-normalise each dimension over the rows of all ranks: (n, K) -> (n, K).

    Biased variance, eps 1e-5, no affine parameters, no running statistics. Half precisions
    become float32, since sums of thousands of squares follow; float64 stays.

    Raises:
        DecurError: if the whole batch has a single row.
    """
    if z.shape[0] * world_size() < 2:
        raise DecurError("a batch of one row has no correlation; use a batch size of 2 or more")
    return _Standardise.apply(z if z.dtype == torch.float64 else z.float())


def diagonal(za: Tensor, zb: Tensor) -> Tensor:
    """Diagonal of the cross-correlation of two standardised views: (n, K), (n, K) -> (K,)."""
    return all_reduce_sum((za * zb).sum(0)) / (za.shape[0] * world_size())


def gram_rows(z: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Compute this rank's rows of the Gram matrix of each block of columns.

    Args:
        z: this rank's rows of a standardised view, (n, K).
        sizes: widths of the blocks, summing to K; a width of 0 gives a Gram matrix of zeros.
            The Gram matrix of all columns is the sum of the blocks'.

    Returns:
        For each block an (n, N) matrix. Its gradient assumes that the gradient which arrives,
        over all ranks' rows, is a symmetric N x N matrix, as it is for `sum_of_squares`.
    """
    return _GramRows.apply(z, sizes)


def sum_of_squares(gram_a: Tensor, gram_b: Tensor) -> Tensor:
    """Sum all squared entries of a cross-correlation, given its two views' `gram_rows`."""
    return all_reduce_sum((gram_a * gram_b).sum()) / gram_a.shape[1] ** 2


class _Standardise(torch.autograd.Function):
    """As one node rather than a chain of operations: it keeps one (n, K) tensor, not three."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        n = z.shape[0] * world_size()
        centred = z - all_reduce_sum(z.sum(0)) / n
        variance = all_reduce_sum(centred.square().sum(0)) / n
        inverse_std = (variance + EPS).rsqrt()
        normalised = centred.mul_(inverse_std)
        ctx.save_for_backward(normalised, inverse_std)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        normalised, inverse_std = ctx.saved_tensors
        sums = all_reduce_sum(torch.stack([grad.sum(0), (grad * normalised).sum(0)]))
        mean, along = sums / (grad.shape[0] * world_size())
        return torch.addcmul(grad - mean, normalised, along, value=-1).mul_(inverse_std)


class _GramRows(torch.autograd.Function):
    """Local backward: with S = sum(Ga * Gb) and Ga = Za Za^T, dS/dZa[rows] = 2 Gb[rows] Za.

    The symmetry of Gb saves the communication that the general adjoint would need.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        z_all = all_gather_rows(z)
        ctx.save_for_backward(z_all)
        ctx.sizes = sizes
        with torch.autocast(z.device.type, enabled=False):
            blocks = zip(z.split(sizes, dim=1), z_all.split(sizes, dim=1), strict=True)
            return tuple(own @ every.T for own, every in blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (z_all,) = ctx.saved_tensors
        with torch.autocast(z_all.device.type, enabled=False):
            blocks = zip(grads, z_all.split(ctx.sizes, dim=1), strict=True)
            return torch.cat([(2 * grad) @ every for grad, every in blocks], dim=1), None
