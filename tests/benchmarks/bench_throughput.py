r"""Images a second of pretraining, the way of the paper's code against ours, on one device.

Theirs: float32 networks (no TF32), one forward pass a view, the K x K cross-correlations of the
DeCUR loss built whole. Ours: the whole step of `decur pretrain`. Both with our augmentation
of random uint8 batches that are on the device already, LARS, 2 views of 2 modalities.

    python tests/benchmarks/bench_throughput.py --device cuda --precision bf16 --pairs 64 --steps 20
    python tests/benchmarks/bench_throughput.py --device cuda --precision bf16 --pairs 256 \
        --recompute view --ours

Prints images/s, peak memory, the loss's share of our step, and the roofline: the floating point
operations of our step over the rate of a large bf16 product on the same device.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import network_options, network_settings, seconds, wait, write_shards
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from decur.config import PretrainSettings
from decur.methods import METHODS, Embeddings, build_model, count_views
from decur.optim import build_optimizer
from decur.pretrain import prepare, training_step
from decur.shards import PairedShards
from decur.views import Batch, augment_batch, read_batch


def plain_loss(z: Embeddings, dim_common: int, lambd: float) -> Tensor:
    """DeCUR by three K x K matrices."""

    def correlation(za: Tensor, zb: Tensor) -> Tensor:
        za, zb = (torch.nn.functional.batch_norm(x, None, None, training=True) for x in (za, zb))
        return za.T @ zb / len(za)

    def distance(c: Tensor, target: float) -> Tensor:
        on = c.diagonal()
        off = c.square().sum() - on.square().sum()
        return (on - target).square().sum() + lambd * off

    (z1a, z1b), (z2a, z2b) = z
    across = correlation(z1a, z2a)
    k = dim_common
    cross = distance(across[:k, :k], 1) + distance(across[k:, k:], 0)
    return distance(correlation(z1a, z1b), 1) + distance(correlation(z2a, z2b), 1) + cross


class Bench:
    """One way of taking steps, and what it costs."""

    def __init__(self, settings: PretrainSettings, shards: PairedShards, device: torch.device):
        self.settings, self.device = settings, device
        self.model = build_model(settings, shards).to(device).train()
        self.optimizer = build_optimizer(
            self.model, name="lars", lr=0.2, lr_1d=0.0048, weight_decay=1e-6
        )
        rows = shards.rows("train")[: settings.batch_size]
        batch = read_batch(shards, rows, settings, 0, count_views(settings))
        self.batch = Batch([[x.to(device) for x in views] for views in batch.images], batch.draws)

    def views(self) -> list[list[Tensor]]:
        return augment_batch(self.batch, self.settings, self.device)

    def plain_step(self) -> None:
        embeddings = self.model(self.views())
        loss = plain_loss(embeddings, self.settings.dim_common, self.settings.lambd)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def prepared(self) -> "Bench":
        self.network = prepare(self.model, self.settings)
        return self

    def step(self) -> None:
        training_step(self.network, self.model, self.optimizer, self.views(), self.settings)

    def loss_seconds(self, steps: int) -> float:
        views = self.views()
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            z = self.network(views)
        z = [[x.detach().requires_grad_() for x in branch] for branch in z]
        loss = METHODS["decur"].loss
        return seconds(
            lambda: loss(z, self.settings, self.model)["loss"].backward(), steps, self.device
        )


def measured(step: Any, pairs: int, steps: int, device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    s = seconds(step, steps, device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    return {"s": s, "images/s": 4 * pairs / s, "GiB": peak}


def bf16_rate(device: torch.device, size: int) -> float:
    """Floating point operations a second of a large bf16 product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    wait(device)
    return 2 * size**3 / seconds(lambda: a @ b, 20, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    network_options(parser)
    parser.add_argument("--ours", action="store_true", help="leave the paper's way out")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    settings = network_settings(args)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", args.pairs)
        ways = {}
        if not args.ours:
            bench = Bench(settings, shards, device)
            ways["paper's way, float32"] = measured(
                bench.plain_step, args.pairs, args.steps, device
            )
            del bench
        bench = Bench(settings, shards, device).prepared()
        ways["ours"] = measured(bench.step, args.pairs, args.steps, device)
        loss = bench.loss_seconds(args.steps)
        with FlopCounterMode(display=False) as counter:
            bench.step()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{args.arch}, {args.pairs} pairs, {args.crop} px, K = {args.dim}, {name}, ", end="")
    print(f"torch {torch.__version__}, {args.precision}, ", end="")
    print(f"recompute {args.recompute}, compile {args.compile}\n")
    print("| way | s a step | images/s | peak GiB |\n|---|---:|---:|---:|")
    for way, found in ways.items():
        print(f"| {way} | {found['s']:.4f} | {found['images/s']:.0f} | {found['GiB']:.1f} |")
    ours = ways["ours"]["s"]
    rate = bf16_rate(device, 8192 if device.type == "cuda" else 1024)
    flops = counter.get_total_flops()
    print(f"\nLoss: {loss / ours:.1%} of our step. ", end="")
    print(
        f"Our step: {flops / 1e12:.2f} TFLOP; at the {rate / 1e12:.1f} TFLOP/s of a bf16 product "
    )
    print(f"it would take {flops / rate:.4f} s: we are at {flops / rate / ours:.0%} of that rate.")


if __name__ == "__main__":
    main()
