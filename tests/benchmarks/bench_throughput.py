r"""Images a second of pretraining, the way of the paper's code against ours, on one device.

Theirs: float32 networks, one forward pass a view, the K x K cross-correlations of the DeCUR loss
built whole; once with float32 convolutions, once with the TF32 ones that torch takes by default.
Ours: the step of `decur pretrain`, plain, as a CUDA graph, and with a compiled optimiser besides.
All with our augmentation of random uint8 batches that are on the device already, LARS, 2 views of
2 modalities.

    python tests/benchmarks/bench_throughput.py --device cuda --precision bf16 --pairs 64 --steps 20
    python tests/benchmarks/bench_throughput.py --device cuda --precision bf16 --pairs 256 \
        --recompute view --ways ours --steps 4

Prints images/s, peak memory, the loss's share of our step, and the roofline: the floating point
operations of our step over the rate of a large bf16 product on the same device.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import network_options, network_settings, recorded, seconds, write_shards
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from decur.config import PretrainSettings, count_views
from decur.losses import Embeddings
from decur.pretrain.cuda_graph import GraphedStep
from decur.pretrain.loop import prepare, training_step
from decur.pretrain.optim import build_optimizer
from decur.shards import PairedShards
from decur.training.methods import build_model, compute_loss
from decur.training.views import Batch, augment_batch, read_batch

WAYS = {
    "paper": "paper's way, float32",
    "paper-tf32": "paper's way, TF32 convolutions",
    "ours": "ours",
    "graph": "ours, a CUDA graph",
    "compiled": "ours, a CUDA graph, compiled LARS",
}


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
    """One way of taking steps."""

    def __init__(
        self, way: str, settings: PretrainSettings, shards: PairedShards, device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        torch.backends.cudnn.allow_tf32 = way != "paper"
        self.model = build_model(settings, shards).to(device).train()
        self.optimizer = build_optimizer(
            self.model,
            name="lars",
            lr=0.2,
            lr_1d=0.0048,
            weight_decay=1e-6,
            compiled=way == "compiled",
        )
        rows = shards.rows("train")[: settings.batch_size]
        batch = read_batch(shards, rows, settings, 0, count_views(settings))
        self.batch = Batch([[x.to(device) for x in views] for views in batch.images], batch.draws)
        self.take_step: Callable[[list[list[Tensor]]], object] = self.paper_step
        if not way.startswith("paper"):
            self.network = prepare(self.model, settings)
            self.take_step = self.our_step
        if way in ("graph", "compiled"):
            self.take_step = GraphedStep(self.our_step, self.optimizer)

    def views(self) -> list[list[Tensor]]:
        return augment_batch(self.batch, self.settings, self.device)

    def paper_step(self, views: list[list[Tensor]]) -> None:
        embeddings = self.model(views)
        loss = plain_loss(embeddings, self.settings.dim_common, self.settings.lambd)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def our_step(self, views: list[list[Tensor]]) -> object:
        return training_step(self.network, self.model, self.optimizer, views, self.settings)

    def step(self) -> None:
        self.take_step(self.views())

    def flops(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.our_step(self.views())
        return counter.get_total_flops()


def loss_seconds(settings: PretrainSettings, model: torch.nn.Module, device: torch.device) -> float:
    """Forward and backward of the loss on embeddings; on a GPU its own time, replayed."""
    shape = (settings.batch_size, settings.dim)
    z = [[torch.randn(shape, device=device, requires_grad=True) for _ in "ab"] for _ in range(2)]

    def call() -> None:
        compute_loss(z, settings, None)["loss"].backward()

    return seconds(recorded(call) if device.type == "cuda" else call, 20, device)


def bf16_rate(device: torch.device, size: int) -> float:
    """Floating point operations a second of a large bf16 product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, 20, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    network_options(parser)
    parser.add_argument("--ways", nargs="+", choices=WAYS)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    ways = args.ways or (list(WAYS) if cuda else ["paper", "ours"])
    settings = network_settings(args)
    name = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"{args.arch}, {args.pairs} pairs, {args.crop} px, K = {args.dim}, {name}, ", end="")
    print(f"torch {torch.__version__}, {args.precision}, recompute {args.recompute}\n")
    print("| way | s a step | images/s | peak GiB |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", args.pairs)
        for way in ways:
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            precision = "float32" if way.startswith("paper") else args.precision
            chosen = settings.model_copy(update={"precision": precision})
            bench = Bench(way, chosen, shards, device)
            if not way.startswith("paper"):
                flops, loss = bench.flops(), loss_seconds(chosen, bench.model, device)
            s = seconds(bench.step, args.steps, device)
            peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else float("nan")
            print(f"| {WAYS[way]} | {s:.4f} | {4 * args.pairs / s:.0f} | {peak:.1f} |", flush=True)
            del bench
    rate = bf16_rate(device, 8192 if cuda else 1024)
    print(f"\nLoss: {loss:.4f} s, {loss / s:.1%} of the last step. ", end="")
    print(f"Step: {flops / 1e12:.2f} TFLOP; at the {rate / 1e12:.1f} TFLOP/s of a bf16 product it ")
    print(
        f"would take {flops / rate:.4f} s: the last way is at {flops / rate / s:.0%} of that rate."
    )


if __name__ == "__main__":
    main()
