"""What the benchmarks of pretraining share: random shards of the real shape, settings, a clock."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from decur.config import PretrainSettings
from decur.shards import Modality, PairedShards, Sample, ShardWriter

BANDS = {"sar": ("VV", "VH"), "optical": tuple(f"B{i}" for i in range(13))}


def write_shards(root: Path, count: int) -> PairedShards:
    """Random samples of SSL4EO-S12's shape: 2 and 13 bands of 264 x 264."""
    rng = np.random.default_rng(0)
    modalities = [Modality(name, bands, "none") for name, bands in BANDS.items()]
    with ShardWriter(root, modalities) as writer:
        for i in range(count):
            arrays = {
                m.name: rng.integers(0, 256, (1, len(m.bands), 264, 264), dtype=np.uint8)
                for m in modalities
            }
            writer.add(Sample(id=str(i), split="train", arrays=arrays))
    return PairedShards(root)


def pretrain_settings(**changes: Any) -> PretrainSettings:
    """The paper's pretraining of SAR-optical with DeCUR, one epoch, but for the changes."""
    return PretrainSettings(
        **{
            "scenario": "sar-optical",
            "method": "decur",
            "seed": 0,
            "modalities": {"sar": "sar", "optical": "optical"},
            "dataset": "random",
            "epochs": 1,
            **changes,
        }
    )


def network_options(parser: argparse.ArgumentParser) -> None:
    """Options for what is trained, and where."""
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--dim", type=int, default=8192)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--recompute", default="none", choices=["none", "view", "block"])
    parser.add_argument("--compile", default="none", choices=["none", "optimizer", "all"])
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)


def network_settings(args: argparse.Namespace) -> PretrainSettings:
    """The settings that `network_options` gave."""
    return pretrain_settings(
        arch=args.arch,
        crop=args.crop,
        batch_size=args.pairs,
        dim=args.dim,
        dim_common=args.dim * 7 // 8,
        precision=args.precision,
        recompute=args.recompute,
        compile=args.compile,
        cuda_graph=args.cuda_graph,
    )


def seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median time of a call, the first ones not counted, the device's work included.

    A GPU is waited for after `repeats` calls, as in training, where it is given the next step while
    it is at the last; so its time is the median of three such rows.
    """
    rows, in_a_row = (3, repeats) if device.type == "cuda" else (repeats, 1)
    for _ in range(3 if device.type == "cuda" else 1):
        call()
    times = []
    for _ in range(rows):
        wait(device)
        start = time.perf_counter()
        for _ in range(in_a_row):
            call()
        wait(device)
        times.append((time.perf_counter() - start) / in_a_row)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def recorded(call: Callable[[], object]) -> Callable[[], None]:
    """A replay of what the call asks of the GPU, so that only the GPU's own time is left."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
