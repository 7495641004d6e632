"""Bytes that the loss's collectives move, against an all-reduce of the correlation matrices.

Runs the loss forward and backward on several Gloo ranks and counts what each collective is given.
Counted is what a rank sends at best: of an all-reduce of B bytes 2 B (W - 1) / W (a ring), of an
all-to-all of B bytes a rank B (W - 1) / W. Plain: one all-reduce of each float32 K x K matrix in
the forward pass, as the released code does (three for DeCUR, one for Barlow Twins).

    python tests/benchmarks/bench_collectives.py --ranks 4 --n 256 --k 8192
"""

import argparse
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from decur.distributed import process_group
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.decur import decur_loss


def losses(k: int) -> dict[str, tuple[int, int, Callable[..., torch.Tensor]]]:
    """Views, K x K matrices, and the loss, by method."""
    return {
        "decur": (4, 3, lambda *z: decur_loss(*z, dim_common=k * 7 // 8)["loss"]),
        "barlow-twins": (2, 1, lambda *z: barlow_twins_loss(*z)["loss"]),
    }


def count_bytes(sent: list[float], world: int) -> None:
    """Have the two collectives that the losses use add what a rank sends to `sent`."""
    all_reduce, all_to_all = dist.all_reduce, dist.all_to_all_single

    def counted_reduce(x: torch.Tensor, *rest: Any) -> Any:
        sent[0] += 2 * x.nbytes * (world - 1) / world
        return all_reduce(x, *rest)

    def counted_to_all(out: torch.Tensor, x: torch.Tensor, *rest: Any) -> Any:
        sent[0] += x.nbytes * (world - 1) / world
        return all_to_all(out, x, *rest)

    dist.all_reduce, dist.all_to_all_single = counted_reduce, counted_to_all


def work(rank: int, world: int, port: int, n: int, k: int) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    with process_group():
        sent = [0.0]
        count_bytes(sent, world)
        if rank == 0:
            print(f"{world} ranks, N = {n}, K = {k}, MB that a rank sends\n")
            print("| loss | matrices | ours | times less |\n|---|---:|---:|---:|")
        for name, (views, matrices, loss_of) in losses(k).items():
            sent[0] = 0
            z = [torch.randn(n // world, k, requires_grad=True) for _ in range(views)]
            loss_of(*z).backward()
            plain = matrices * 2 * 4 * k * k * (world - 1) / world
            if rank == 0:
                ratio = plain / sent[0]
                print(f"| {name} | {plain / 1e6:.1f} | {sent[0] / 1e6:.1f} | {ratio:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--n", type=int, default=256, help="rows of all ranks")
    parser.add_argument("--k", type=int, default=8192)
    args = parser.parse_args()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(work, (args.ranks, port, args.n, args.k), nprocs=args.ranks)


if __name__ == "__main__":
    main()
