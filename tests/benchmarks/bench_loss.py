"""Time and memory of the losses, forward and backward, against plain K x K correlation matrices.

    python tests/benchmarks/bench_loss.py --n 64 128 256 --k 8192 --threads 2
    python tests/benchmarks/bench_loss.py --n 64 --k 65536 --ways ours

The second measures ours alone, where a plain matrix would take 17 GB.

Each figure comes from a process of its own. Time is the median of `--repeats` runs after one
that warms up. Memory is the growth of the process's peak resident size over that just before
the first run at full size (a tiny one has loaded the libraries by then); it counts everything
beyond the embeddings themselves: intermediates, saved tensors, gradients.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.decur import decur_loss

LAMBDA = 0.0051


def plain_distance(c: Tensor, target: float) -> Tensor:
    on = c.diagonal()
    off = c.square().sum() - on.square().sum()
    return (on - target).square().sum() + LAMBDA * off


def plain_correlation(za: Tensor, zb: Tensor) -> Tensor:
    za, zb = (torch.nn.functional.batch_norm(z, None, None, training=True) for z in (za, zb))
    return za.T @ zb / len(za)


def plain_barlow_twins(za: Tensor, zb: Tensor) -> Tensor:
    return plain_distance(plain_correlation(za, zb), 1)


def plain_decur(z1a: Tensor, z1b: Tensor, z2a: Tensor, z2b: Tensor) -> Tensor:
    common = common_dimensions(z1a)
    across = plain_correlation(z1a, z2a)
    return (
        plain_barlow_twins(z1a, z1b)
        + plain_barlow_twins(z2a, z2b)
        + plain_distance(across[:common, :common], 1)
        + plain_distance(across[common:, common:], 0)
    )


def common_dimensions(z: Tensor) -> int:
    return z.shape[1] * 7 // 8  # the paper's share for SAR-optical


# Loss by method and way, and the number of views it takes.
LOSSES: dict[str, tuple[int, dict[str, Callable[..., Tensor]]]] = {
    "barlow_twins_loss": (
        2,
        {"ours": lambda *z: barlow_twins_loss(*z)["loss"], "plain": plain_barlow_twins},
    ),
    "decur_loss": (
        4,
        {
            "ours": lambda *z: decur_loss(*z, dim_common=common_dimensions(z[0]))["loss"],
            "plain": plain_decur,
        },
    ),
}


def random_views(count: int, n: int, k: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, k, generator=generator).requires_grad_() for _ in range(count)]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(method: str, way: str, n: int, k: int, repeats: int) -> dict[str, float]:
    """Measure in this process: seconds (median), MB beyond the embeddings, and the loss."""
    count, ways = LOSSES[method]
    loss_of = ways[way]
    tiny, views = random_views(count, 8, 64), random_views(count, n, k)
    loss_of(*tiny).backward()
    before = peak_bytes()
    seconds = []
    for _ in range(1 + repeats * (5 if way == "ours" else 1)):  # short times scatter more
        for z in views:
            z.grad = None
        start = time.perf_counter()
        loss = loss_of(*views)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    megabytes = (peak_bytes() - before) / 1e6
    return {"s": statistics.median(seconds[1:]), "MB": megabytes, "loss": float(loss.detach())}


def measure_apart(method: str, way: str, n: int, args: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process, whose peak memory is its own."""
    command = [sys.executable, __file__, "--one", method, way, "--n", str(n), "--k", str(args.k)]
    command += ["--threads", str(args.threads), "--repeats", str(args.repeats)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[64, 128, 256], help="batch sizes")
    parser.add_argument("--k", type=int, default=8192, help="embedding dimensions")
    parser.add_argument("--ways", nargs="+", default=["plain", "ours"], choices=["plain", "ours"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        method, way = args.one
        print(json.dumps(measure(method, way, args.n[0], args.k, args.repeats)))
        return
    if args.ways != ["plain", "ours"]:
        for method, n, way in product(LOSSES, args.n, args.ways):
            found = measure_apart(method, way, n, args)
            print(
                f"{method}, {way}, N = {n}, K = {args.k}: {found['s']:.3f} s, {found['MB']:.0f} MB"
            )
        return
    print(
        f"Forward and backward, K = {args.k}, float32, {args.threads} CPU threads, "
        f"torch {torch.__version__}.\n\n"
        "| loss | N | plain K x K, s | ours, s | times faster | plain, MB | ours, MB "
        "| share of memory | relative difference |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for method in LOSSES:
        for n in args.n:
            plain, ours = (measure_apart(method, way, n, args) for way in ("plain", "ours"))
            difference = abs(ours["loss"] / plain["loss"] - 1)
            print(
                f"| `{method}` | {n} | {plain['s']:.3f} | {ours['s']:.4f} "
                f"| {plain['s'] / ours['s']:.1f} | {plain['MB']:.0f} | {ours['MB']:.0f} "
                f"| {ours['MB'] / plain['MB']:.1%} | {difference:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
