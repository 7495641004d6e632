"""Batch normalisation over the rows of all ranks, on GPUs and on CPUs (tests and small runs)."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from decur.distributed import all_reduce_sum, world_size


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Make every batch norm of a model use the statistics of the batch of all ranks.

    A single process changes nothing. Parameters and their names stay the same. torch's own
    synchronised batch norm works only on GPUs.
    """
    if world_size() == 1:
        return model
    if next(model.parameters()).is_cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]
    return model


def _forward(norm: _BatchNorm, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    given = x.dtype
    x = x.to(torch.promote_types(given, torch.float32))  # torch also computes statistics in float32
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = world_size() * x.numel() // x.shape[1]
    mean = all_reduce_sum(x.sum(dims)) / count
    centred = x - mean.view(shape)
    variance = all_reduce_sum(centred.square().sum(dims)) / count
    with torch.no_grad():
        _update(norm, mean, variance, count)
    y = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(given)


def _update(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    weight = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, weight)
    norm.running_var.lerp_(variance * (count / (count - 1)), weight)
