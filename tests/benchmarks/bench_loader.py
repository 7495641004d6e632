"""Samples a second that reach the training step: whole batches from shards, or one by one.

Ours: memory-mapped shards, read as whole uint8 batches in the background by two threads; they are
augmented where the networks are. Beside it the same, augmented on these cores too. The obvious way:
a dataset that reads one sample of the same shards and augments it with torchvision, in a DataLoader
of two workers. Each sample is two views of two modalities (264 x 264, 2 and 13 bands, to 224).

    python tests/benchmarks/bench_loader.py
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import pretrain_settings, write_shards
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from decur.config import PretrainSettings
from decur.shards import PairedShards
from decur.training.prefetch import ahead
from decur.training.views import augment_batch, read_batch, training_batches


class OneByOne(Dataset[list[Tensor]]):
    """Two augmented views of each modality of one sample."""

    def __init__(self, shards: PairedShards, size: int) -> None:
        self.shards = shards
        crop = v2.RandomResizedCrop(size, (0.2, 1.0), antialias=False)
        flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        blur = v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5)
        gray = v2.RandomApply([v2.Lambda(channel_mean)], 0.2)
        jitter = v2.RandomApply([BrightnessContrast()], 0.8)
        scale = v2.ToDtype(torch.float32, scale=True)
        self.transforms = {
            "sar": v2.Compose([scale, crop, gray, blur, *flips]),
            "optical": v2.Compose([scale, crop, jitter, gray, blur, *flips]),
        }

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, row: int) -> list[Tensor]:
        views = []
        for name, transform in self.transforms.items():
            for _ in range(2):
                image = self.shards.batch(name, np.array([row]))[0]
                views.append(transform(torch.from_numpy(image)))
        return views


@dataclass
class BrightnessContrast:
    """For any number of bands, which torchvision's ColorJitter does not take."""

    def __call__(self, x: Tensor) -> Tensor:
        brightness, contrast = 0.6 + 0.8 * torch.rand(2)
        x = (x * brightness).clamp(max=1)
        return (x * contrast + x.mean((1, 2), keepdim=True) * (1 - contrast)).clamp(0, 1)


def channel_mean(x: Tensor) -> Tensor:
    return x.mean(0, keepdim=True).expand_as(x)


def rate(delivered: Iterable[int]) -> float:
    """Samples a second after the first batch."""
    stream = iter(delivered)
    next(stream)
    start, count = time.perf_counter(), 0
    for samples in stream:
        count += samples
    return count / (time.perf_counter() - start)


def ours(shards: PairedShards, settings: PretrainSettings, augmented: bool) -> Iterable[int]:
    rows = shards.rows("train")
    steps = training_batches(rows, settings, 0)
    for _, batch in ahead(lambda item: read_batch(shards, item[1], settings, item[0], 2), steps):
        if augmented:
            augment_batch(batch, settings, torch.device("cpu"))
        yield len(batch.images[0][0])


def one_by_one(shards: PairedShards, settings: PretrainSettings) -> Iterable[int]:
    dataset = OneByOne(shards, settings.crop)
    loader = DataLoader(dataset, settings.batch_size, shuffle=True, num_workers=2, drop_last=True)
    for views in loader:
        yield len(views[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", args.samples)
        settings = pretrain_settings(batch_size=args.batch)
        long = settings.model_copy(update={"epochs": 5})
        rates = {
            "one by one, torchvision, 2 workers": rate(one_by_one(shards, settings)),
            "ours: whole uint8 batches": rate(ours(shards, long, augmented=False)),
            "ours, and augmented on the same cores": rate(ours(shards, settings, augmented=True)),
        }
    base = next(iter(rates.values()))
    print("| way | samples/s | times |\n|---|---:|---:|")
    for name, value in rates.items():
        print(f"| {name} | {value:.1f} | {value / base:.1f} |")


if __name__ == "__main__":
    main()
