"""The process group, and the collectives that a whole-batch loss needs, each with its gradient.

Every rank computes the loss L of the whole batch from its own rows. The collectives here are
adjoints of the *sum* of the ranks' losses, W L, so a rank's gradient is W times its share of
dL/dz; DistributedDataParallel then averages over the W ranks and ends with exactly dL/dtheta,
the gradient that one process would have. (With a plain ``all_reduce`` inside the graph, as in
the released code, the result is too small by W.)

Without a process group everything is the identity.
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
"""Where ranks may meet: below the ports that Linux gives to outgoing connections."""

INTERFACE = "GLOO_SOCKET_IFNAME"
"""Variable that names the network interface on which Gloo listens."""


def init_process_group() -> None:
    """Join the process group of whatever started several tasks: torchrun, srun or submitit.

    Do nothing where one process runs alone. Use NCCL where there are GPUs, one per rank (see
    `own_gpu`), and Gloo otherwise.

    Raises:
        DecurError: this rank has no GPU although others have; the ranks cannot connect; or srun
            started several tasks, and submitit, which reads its environment, is missing.
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
    """Choose the GPU of this rank among those that it sees.

    A launcher may show each rank its own GPU alone, which then has number 0 whatever the local
    rank, or show all GPUs of the node to all its ranks.

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
    """Refuse what would hang: Gloo listens where the own name leads, which must not be loopback.

    Debian's /etc/hosts gives a machine's own name the address 127.0.1.1. That is enough where all
    ranks are on this machine.
    """
    if os.environ.get(INTERFACE):
        return
    own, master = _address(socket.gethostname()), _address(os.environ.get("MASTER_ADDR", ""))
    if own.startswith("127.") and master and not master.startswith("127."):
        raise DecurError(
            f"{socket.gethostname()}: its own name leads to {own}, where other nodes cannot reach "
            f"it; set {INTERFACE} to the network interface between the nodes (for example "
            f"{INTERFACE}=eth0; `ip address` lists them)"
        )


def _address(host: str) -> str:
    """The IPv4 address of a host, or an empty text where it has none."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


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


def on_main(make: Callable[[], T]) -> T:
    """Call `make` on the main process alone, and return what it returned on every rank.

    For what ranks must agree on and a file system may show them differently. Tensors within dicts,
    lists and tuples arrive on the CPU; they travel one by one, so that no copy of all is made.

    Raises:
        DecurError: on the other ranks, whatever `make` raised on the main process, which raises
            that itself.
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


class _Failure(NamedTuple):
    """What the main process sends in the place of a result that it does not have."""

    reason: str


class _Hole(NamedTuple):
    """The place of a tensor in a tree that travels without it."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(tree: Any, tensors: list[Tensor]) -> Any:
    """Copy a tree with a hole for each tensor, which is appended to `tensors`."""
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return _Hole(tuple(tree.shape), tree.dtype)
    if isinstance(tree, dict):
        return {key: _without_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_without_tensors(value, tensors) for value in tree)
    return tree


def _with_tensors(tree: Any, given: Iterator[Tensor], device: str) -> Any:
    """Fill the holes of a tree with the main process's tensors, which has them as `given`."""
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


def device_name(device: str) -> str:
    """The model of a GPU, such as "NVIDIA A100"; `device` is PyTorch's name of it."""
    return torch.cuda.get_device_name(device)
