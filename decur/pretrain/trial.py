"""Test what pretraining needs from its ranks: devices, an all-reduce, and steps on noise.

Every rank calls these functions, in the process group of a run.
"""

import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from decur.config import PretrainSettings, count_views
from decur.distributed import device_name, rank, world_size
from decur.errors import DecurError
from decur.pretrain.loop import prepare, start_from_imagenet, training_step
from decur.pretrain.optim import optimizer_of
from decur.shards import Modality, PairedShards, Sample, ShardWriter
from decur.training.methods import build_model
from decur.training.views import augment_batch, read_batch

GIB = 2**30
STORED = 32
"""Samples of noise that are stored; a batch repeats them."""

ON_CPU = 8
"""Samples per rank in a batch without a GPU."""

WARM_UP, STEPS = 2, 3
ELEMENTS = {"cuda": 25_000_000, "cpu": 1_000_000}
"""Elements of a trial all-reduce; on GPUs as many as a ResNet-50 has weights."""


@dataclass(frozen=True)
class RankDevice:
    """The device of a rank; `memory` in GiB and `identity`, which differs between GPUs."""

    rank: int
    host: str
    cores: int
    name: str
    memory: float = 0.0
    identity: str = ""


@dataclass(frozen=True)
class Speed:
    """The speed of steps of `batch` samples: images per second, and peak GPU memory in GiB."""

    batch: int
    images_per_second: float
    peak: float | None


def choose_device() -> str:
    """Return the device of this process by PyTorch's name: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def rank_devices(device: str) -> list[RankDevice]:
    """Return the device of every rank, in order."""
    cores = len(os.sched_getaffinity(0))
    own = RankDevice(rank(), socket.gethostname(), cores, "CPU")
    if device == "cuda":
        index = torch.cuda.current_device()
        facts = torch.cuda.get_device_properties(index)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        identity = str(getattr(facts, "uuid", f"{own.host} {visible} {index}"))
        memory = facts.total_memory / GIB
        own = RankDevice(own.rank, own.host, cores, device_name(device), memory, identity)
    if world_size() == 1:
        return [own]
    found: list[dict[str, Any] | None] = [None] * world_size()
    dist.all_gather_object(found, asdict(own))
    return [RankDevice(**entry) for entry in found if entry is not None]


def try_all_reduce(device: str) -> float:
    """Sum a tensor over all ranks; return the seconds that it took.

    Raises:
        DecurError: the sum is wrong.
    """
    expected = world_size() * (world_size() + 1) / 2
    seconds = 0.0
    for _ in range(WARM_UP):
        given = torch.full((ELEMENTS[device],), float(rank() + 1), device=device)
        begun = _now(device)
        if world_size() > 1:
            dist.all_reduce(given)
        seconds = _now(device) - begun
        if not bool((given == expected).all()):
            raise DecurError(f"the all-reduce gave {float(given[0]):g} instead of {expected:g}")
    return seconds


def try_steps(settings: PretrainSettings, bands: Mapping[str, int], device: str) -> Speed:
    """Time some steps of a run on noise with the given number of bands per modality.

    Raises:
        DecurError: the batch cannot be divided among the ranks.
        torch.cuda.OutOfMemoryError: it does not fit.
    """
    batch = settings.batch_size if device == "cuda" else _batch_on_cpu(settings)
    parts = world_size() * settings.accumulate_chunks
    if settings.batch_size % parts:
        raise DecurError(
            f"a batch of {settings.batch_size} cannot be divided among {world_size()} ranks with "
            f"{settings.accumulate_chunks} chunks each"
        )
    with tempfile.TemporaryDirectory() as folder:
        shards = _noise(Path(folder) / "shards", bands, settings.crop)
        model = build_model(settings, shards).to(device).train()
        network = prepare(model, settings)
        optimizer = optimizer_of(model, settings)
        rows = np.resize(shards.rows("train"), batch)
        count = count_views(settings)
        begun = _now(device)
        for step in range(WARM_UP + STEPS):
            if step == WARM_UP:
                begun = _now(device)
            read = read_batch(shards, rows, settings, step, count)
            views = augment_batch(read, settings, torch.device(device))
            training_step(network, model, optimizer, views, settings)
        seconds = _now(device) - begun
    images = STEPS * batch * count * len(settings.modalities)
    peak = None
    if device == "cuda":
        peak = torch.cuda.max_memory_reserved() / GIB
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.empty_cache()
    return Speed(batch, images / seconds, peak)


def try_imagenet(settings: PretrainSettings, bands: Mapping[str, int]) -> str:
    """Load a run's file of ImageNet weights into its backbones; return its name.

    Raises:
        DecurError: the file is missing, unreadable or of another architecture.
    """
    with tempfile.TemporaryDirectory() as folder:
        shards = _noise(Path(folder) / "shards", bands, settings.crop, count=1)
        start_from_imagenet(build_model(settings, shards), settings)
    return str(settings.imagenet)


def _batch_on_cpu(settings: PretrainSettings) -> int:
    parts = world_size() * settings.accumulate_chunks
    return min(settings.batch_size, max(ON_CPU * world_size(), 2 * parts))


def _noise(root: Path, bands: Mapping[str, int], pixels: int, count: int = STORED) -> PairedShards:
    """Write random samples with the given numbers of bands and `pixels` per side."""
    rng = np.random.default_rng(0)
    names = {name: tuple(f"{name}{i}" for i in range(number)) for name, number in bands.items()}
    modalities = [Modality(name, several, "none") for name, several in names.items()]
    with ShardWriter(root, modalities) as writer:
        for i in range(count):
            shapes = {name: (1, number, pixels, pixels) for name, number in bands.items()}
            arrays = {n: rng.integers(0, 256, shape, dtype=np.uint8) for n, shape in shapes.items()}
            writer.add(Sample(id=str(i), split="train", arrays=arrays))
    return PairedShards(root)


def _now(device: str) -> float:
    """Return the time after waiting for all pending work of the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
