"""The process group, and the collectives that a whole-batch loss needs, each with its gradient.

Every rank computes the loss L of the whole batch from its own rows. The collectives here are
adjoints of the *sum* of the ranks' losses, W L, so a rank's gradient is W times its share of
dL/dz; DistributedDataParallel then averages over the W ranks and ends with exactly dL/dtheta,
the gradient that one process would have. (With a plain ``all_reduce`` inside the graph, as in
the released code, the result is too small by W.)

Without a process group everything is the identity.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor

from decur.errors import DecurError

PORTS = range(20_000, 32_768)
"""Where ranks may meet: below the ports that Linux gives to outgoing connections."""


def init_process_group() -> None:
    """Join the process group of whatever started several tasks: torchrun, srun or submitit.

    Do nothing where one process runs alone. NCCL where there is a GPU (one a rank, chosen by
    ``LOCAL_RANK``), Gloo otherwise.

    Raises:
        DecurError: srun started several tasks, and submitit, which reads its environment, is
            missing.
    """
    if _in_group():
        return
    if "RANK" not in os.environ and _is_one_of_many_tasks():
        _export_launcher_environment()
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")


def _is_one_of_many_tasks() -> bool:
    # The step's count, not SLURM_NTASKS, which a batch script of its own has as well.
    by_srun = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    return by_srun or "SUBMITIT_EXECUTOR" in os.environ


def _export_launcher_environment() -> None:
    """Translate srun's or submitit's variables into torchrun's."""
    os.environ.setdefault("SUBMITIT_EXECUTOR", "slurm")  # submitit's helper asks for it
    try:
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment
    except ImportError as error:
        raise DecurError(
            "several tasks of srun need submitit to find one another: pip install submitit"
        ) from error
    environment = TorchDistributedEnvironment()
    # submitit's own choice may be the port of somebody's connection.
    environment.master_port = PORTS[crc32(JobEnvironment().job_id.encode()) % len(PORTS)]
    environment.export(set_cuda_visible_devices=False)


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block the process is in the group of its launcher, if there is one."""
    init_process_group()
    try:
        yield
    finally:
        if _in_group():
            dist.destroy_process_group()


def world_size() -> int:
    """Count the processes: 1 without a process group."""
    return dist.get_world_size() if _in_group() else 1


def rank() -> int:
    """Give the index of this process: 0 without a process group."""
    return dist.get_rank() if _in_group() else 0


def is_main() -> bool:
    """Tell whether this is the process that logs and saves."""
    return rank() == 0


def own_part(n: int) -> slice:
    """The rows of a whole batch of `n` that this rank works on."""
    size = n // world_size()
    return slice(rank() * size, (rank() + 1) * size)


def count_ranks(flag: bool, like: Tensor) -> Tensor:
    """Count the ranks that raise the flag, as a scalar of the dtype and device of `like`.

    Every rank must ask. The device is not waited for.
    """
    count = torch.full((), float(flag), dtype=like.dtype, device=like.device)
    return _summed(count) if world_size() > 1 else count


def all_gather_rows(z: Tensor) -> Tensor:
    """Stack the rows of all ranks, in order of rank: (n, ...) -> (W n, ...), differentiable.

    Every rank must pass the same shape.
    """
    return _AllGatherRows.apply(z) if world_size() > 1 else z


def own_share(k: int) -> slice:
    """This rank's part of `k` dimensions shared out to all ranks; sizes may differ by one."""
    return _shares(k)[rank()]


def own_dimensions(z: Tensor) -> Tensor:
    """Trade rows for dimensions: this rank's rows (n, K) -> all rows (W n, k) of `own_share(K)`.

    Differentiable, by one all-to-all; every rank must pass the same shape. A rank sends (W - 1) / W
    of what it has, where gathering all rows would take W - 1 times as much.
    """
    return _OwnDimensions.apply(z) if world_size() > 1 else z


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum a tensor of one shape over all ranks, differentiable."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _shares(k: int) -> list[slice]:
    ends = [k * i // world_size() for i in range(world_size() + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _widths(k: int) -> list[int]:
    return [share.stop - share.start for share in _shares(k)]


class _OwnDimensions(torch.autograd.Function):
    """Transposed, so that what goes to one rank, and what comes from one, is contiguous."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        n, k = z.shape
        widths = _widths(k)
        own = widths[rank()]
        ctx.shape = (n, k)
        received = z.new_empty(world_size() * own, n)
        given = z.T.contiguous()
        dist.all_to_all_single(received, given, [own] * world_size(), widths)
        return received.view(world_size(), own, n).transpose(1, 2).reshape(world_size() * n, own)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        n, k = ctx.shape
        widths = _widths(k)
        own = widths[rank()]
        given = grad.reshape(world_size(), n, own).transpose(1, 2).reshape(world_size() * own, n)
        received = grad.new_empty(k, n)
        dist.all_to_all_single(received, given, widths, [own] * world_size())
        return received.T


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        z = z.contiguous()
        parts = [torch.empty_like(z) for _ in range(world_size())]
        dist.all_gather(parts, z)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # All-reduce and slice rather than reduce-scatter: Gloo has it too, and the embeddings
        # gathered this way are small.
        return _summed(grad).chunk(world_size())[rank()]
