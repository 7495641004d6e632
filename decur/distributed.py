"""Distributed training: the process group, and differentiable collectives for whole-batch losses.

Each rank computes the loss L of the whole batch from its own rows. The gradients of the collectives
are those of the *sum* of the losses of all W ranks, W L, so the gradient on one rank is W times its
share of dL/dz. DistributedDataParallel then averages over the ranks. The result is exactly
dL/dtheta, the gradient that a single process would compute. (A plain ``all_reduce`` inside the
graph, as in the released code, gives a gradient that is too small by a factor W.)

Without a process group, all collectives are the identity.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor

from decur.errors import DecurError

T = TypeVar("T")

PORTS = range(20_000, 32_768)
"""Candidate ports for the rendezvous, below the range that Linux uses for outgoing connections."""

INTERFACE = "GLOO_SOCKET_IFNAME"
"""Environment variable that names the network interface on which Gloo listens."""


def init_process_group() -> None:
    """Join the process group that torchrun, srun or submitit has started.

    A single process needs no group. The backend is NCCL with one GPU per rank (see `own_gpu`), or
    Gloo on machines without GPUs.

    Raises:
        DecurError: there are more ranks than GPUs on this node; the ranks cannot connect; or srun
            started several tasks and submitit, which reads srun's variables, is not installed.
    """
    if _in_group():
        return
    if "RANK" not in os.environ and _is_one_of_many_tasks():
        _export_launcher_environment()
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(own_gpu())
    else:
        _check_own_name()
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        remedy = "check that all nodes reach MASTER_ADDR"
        if backend == "gloo":
            remedy += f", and name the network interface between them in {INTERFACE}"
        raise DecurError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join the others by "
            f"{backend} ({reason}); {remedy}"
        ) from error


def own_gpu() -> int:
    """Return the number of the GPU that this rank uses.

    Some launchers make a single GPU visible to each rank; it then has number 0 on every rank. Other
    launchers make all GPUs of the node visible to all its ranks.

    Raises:
        DecurError: the node has more ranks than visible GPUs.
    """
    visible = torch.cuda.device_count()
    if visible == 1:
        return 0
    if "LOCAL_RANK" not in os.environ:
        return int(os.environ.get("RANK", "0")) % visible
    local = int(os.environ["LOCAL_RANK"])
    if local >= visible:
        raise DecurError(
            f"local rank {local} on {socket.gethostname()}: only {visible} GPUs are visible "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); start "
            "one process per GPU"
        )
    return local


def _check_own_name() -> None:
    """Check that Gloo listens on an address that the other nodes can reach.

    Gloo listens on the address of the host name. Debian's /etc/hosts maps the host name to the
    loopback address 127.0.1.1. If the master is on another machine, the ranks would then hang.
    """
    if os.environ.get(INTERFACE):
        return
    own, master = _address(socket.gethostname()), _address(os.environ.get("MASTER_ADDR", ""))
    if own.startswith("127.") and master and not master.startswith("127."):
        raise DecurError(
            f"{socket.gethostname()}: the host name resolves to {own}, which other nodes cannot "
            f"reach; set {INTERFACE} to the network interface between the nodes (for example "
            f"{INTERFACE}=eth0; `ip address` lists them)"
        )


def _address(host: str) -> str:
    """Return the IPv4 address of a host, or an empty string if it has none."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


def _is_one_of_many_tasks() -> bool:
    # SLURM_NTASKS would not do: it is also set in a batch script that runs as one process.
    by_srun = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    return by_srun or "SUBMITIT_EXECUTOR" in os.environ


def _export_launcher_environment() -> None:
    """Translate the variables of srun or submitit into those of torchrun."""
    os.environ.setdefault("SUBMITIT_EXECUTOR", "slurm")  # required by submitit's helper
    try:
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment
    except ImportError as error:
        raise DecurError(
            "srun started several tasks, but submitit, which connects them, is not installed; run "
            "pip install submitit"
        ) from error
    environment = TorchDistributedEnvironment()
    # The port that submitit chooses may be in use by an outgoing connection.
    environment.master_port = PORTS[crc32(JobEnvironment().job_id.encode()) % len(PORTS)]
    environment.export(set_cuda_visible_devices=False)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the launcher's process group, if there is one, and leave it after the block."""
    init_process_group()
    try:
        yield
    finally:
        if _in_group():
            dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return dist.get_world_size() if _in_group() else 1


def rank() -> int:
    """Return the index of this process; 0 without a process group."""
    return dist.get_rank() if _in_group() else 0


def is_main() -> bool:
    """Return whether this is the process that logs and saves."""
    return rank() == 0


def on_main(make: Callable[[], T]) -> T:
    """Call `make` on the main process only, and return its result on every rank.

    This keeps the ranks consistent when a shared file system may give them different answers.
    Tensors in dicts, lists and tuples are returned on the CPU. They are broadcast one by one, so
    that there is never a second copy of all of them.

    Raises:
        DecurError: on the other ranks, if `make` raised any error on the main process. The main
            process raises the original error.
    """
    if world_size() == 1:
        return make()
    tensors: list[Tensor] = []
    outcome: list[Any] = [None]
    if is_main():
        try:
            outcome = [_without_tensors(make(), tensors)]
        except Exception as error:
            dist.broadcast_object_list([_Failure(f"{error or type(error).__name__}")])
            raise
    dist.broadcast_object_list(outcome)
    if isinstance(outcome[0], _Failure):
        raise DecurError(outcome[0].reason)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    made: T = _with_tensors(outcome[0], iter(tensors), device)
    return made


def own_part(n: int) -> slice:
    """Return the rows that this rank processes in a whole batch of `n` rows."""
    size = n // world_size()
    return slice(rank() * size, (rank() + 1) * size)


def count_ranks(flag: bool, like: Tensor) -> Tensor:
    """Count the ranks whose flag is set, as a scalar with the dtype and device of `like`.

    Every rank must call this function. It does not synchronise with the device.
    """
    count = torch.full((), float(flag), dtype=like.dtype, device=like.device)
    return _summed(count) if world_size() > 1 else count


def all_gather_rows(z: Tensor) -> Tensor:
    """Stack the rows of all ranks in rank order: (n, ...) -> (W n, ...), differentiable.

    Every rank must pass the same shape.
    """
    return _AllGatherRows.apply(z) if world_size() > 1 else z


def own_share(k: int) -> slice:
    """Return this rank's share of `k` dimensions; the shares of the ranks differ by at most one."""
    return _shares(k)[rank()]


def own_dimensions(z: Tensor) -> Tensor:
    """Exchange rows for dimensions: own rows (n, K) -> all rows (W n, k) of `own_share(K)`.

    The exchange is one differentiable all-to-all. Every rank must pass the same shape. Each rank
    sends (W - 1) / W of its data; gathering all rows would send W - 1 times its data.
    """
    return _OwnDimensions.apply(z) if world_size() > 1 else z


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum a tensor over all ranks, differentiable; every rank must pass the same shape."""
    return _AllReduceSum.apply(x) if world_size() > 1 else x


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Failure(NamedTuple):
    """Message that the main process broadcasts instead of a result after an error."""

    reason: str


class _Hole(NamedTuple):
    """Placeholder of a tensor in a tree that is broadcast without its tensors."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(tree: Any, tensors: list[Tensor]) -> Any:
    """Copy a tree with a `_Hole` in place of each tensor; append the tensors to `tensors`."""
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return _Hole(tuple(tree.shape), tree.dtype)
    if isinstance(tree, dict):
        return {key: _without_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_without_tensors(value, tensors) for value in tree)
    return tree


def _with_tensors(tree: Any, given: Iterator[Tensor], device: str) -> Any:
    """Replace the holes of a tree by the tensors in `given` on the main process."""
    if isinstance(tree, _Hole):
        tensor = next(given) if is_main() else torch.empty(tree.shape, dtype=tree.dtype)
        travelling = tensor.to(device).contiguous()
        dist.broadcast(travelling, 0)
        return travelling.cpu()
    if isinstance(tree, dict):
        return {key: _with_tensors(value, given, device) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_with_tensors(value, given, device) for value in tree)
    return tree


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
    """Exchange transposed matrices, so that the data sent to one rank is contiguous."""

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
        # Unlike reduce-scatter, an all-reduce and a slice also work with Gloo. The extra traffic
        # is small, because the embeddings gathered this way are small.
        return _summed(grad).chunk(world_size())[rank()]


def device_name(device: str) -> str:
    """Return the model name of a GPU, such as "NVIDIA A100"; `device` is its name in PyTorch."""
    return torch.cuda.get_device_name(device)
