"""The views of a pretraining run: which samples each step uses, read and augmented on the device.

All random choices depend only on seed, epoch and step, so a resumed run, or one on more processes,
uses the same views.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.config import PretrainSettings
from decur.config.presets import Preset, preset_of
from decur.distributed import own_part, world_size
from decur.errors import DecurError
from decur.imagery.augment import Augmentation, Draws, augmentation, crop_resize
from decur.shards import PairedShards


def augmentations(settings: PretrainSettings) -> list[Augmentation]:
    """Build the augmentation of each modality at the configured crop size."""
    found = []
    for modality, preset in settings.modalities.items():
        try:
            found.append(augmentation_of(preset, size=settings.crop))
        except DecurError as error:
            where = f"scenarios.{settings.scenario}.modalities.{modality}"
            raise DecurError(f"{where}: {error}") from None
    return found


def augmentation_of(preset: Preset, **changes: Any) -> Augmentation:
    """Build the augmentation that a scenario sets for a modality; `changes` override its fields.

    Raises:
        DecurError: no preset of that name.
    """
    name, own = preset_of(preset)
    return augmentation(name, **{**own, **changes})


def training_rows(shards: PairedShards, settings: PretrainSettings) -> NDArray[np.int64]:
    """Select the rows of the splits to pretrain on.

    Raises:
        DecurError: they do not fill one batch.
    """
    rows = np.concatenate([shards.rows(split) for split in settings.splits])
    if len(rows) < settings.batch_size:
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain.batch_size: {settings.batch_size} exceeds the "
            f"{len(rows)} samples of {settings.dataset}; lower it"
        )
    parts = world_size() * settings.accumulate_chunks
    if settings.batch_size % parts:
        chunks = f", {settings.accumulate_chunks} chunks each" if parts > world_size() else ""
        raise DecurError(
            f"scenarios.{settings.scenario}.pretrain.batch_size: {settings.batch_size} cannot be "
            f"divided among {world_size()} processes{chunks}; make it a multiple"
        )
    return rows


def training_batches(
    rows: NDArray[np.int64], settings: PretrainSettings, step: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the number and rows of each step from `step` on, in a new order every epoch.

    The order depends only on seed and epoch, so a resumed run continues with the same batches. The
    last, incomplete batch of an epoch is dropped.
    """
    per_epoch = len(rows) // settings.batch_size
    for epoch in range(step // per_epoch, settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(rows)
        for i in range(step % per_epoch if epoch == step // per_epoch else 0, per_epoch):
            yield (
                epoch * per_epoch + i,
                order[i * settings.batch_size : (i + 1) * settings.batch_size],
            )


class Batch(NamedTuple):
    """This rank's part of a batch, `[modality][view]`: uint8 images, and how to augment them."""

    images: list[list[Tensor]]
    draws: list[list[Draws]]

    def pinned(self) -> "Batch":
        """Copy to page-locked memory, from which a GPU copies while the host continues."""
        return Batch([[image.pin_memory() for image in views] for views in self.images], self.draws)


def read_batch(
    shards: PairedShards, rows: NDArray[np.int64], settings: PretrainSettings, step: int, count: int
) -> Batch:
    """Read `count` views per modality, each from a random season of its own (paper §4).

    Seasons and augmentations are drawn for the whole batch from seed and step. A checkpoint
    therefore needs no random state, and the views do not depend on the number of ranks.
    """
    rng = np.random.default_rng([settings.seed, step, 1])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    available = shards.index["seasons"].to_numpy()[rows]
    part = own_part(len(rows))
    images, draws = [], []
    for modality, augment in zip(settings.modalities, augmentations(settings), strict=True):
        seasons = [rng.integers(available)[part] for _ in range(count)]
        views = [torch.from_numpy(shards.batch(modality, rows[part], s)) for s in seasons]
        height, width = views[0].shape[2:]
        draws.append([augment.draw(len(rows), height, width, generator)[part] for _ in views])
        images.append(views)
    return Batch(images, draws)


def augment_batch(
    batch: Batch, settings: PretrainSettings, device: torch.device
) -> list[list[Tensor]]:
    """Augment on the device: channels-last float32 views `[modality][view]`, (n, C, crop, crop)."""
    views = []
    for images, draws, augment in zip(*batch, augmentations(settings), strict=True):
        moved = [image.to(device, non_blocking=True) for image in images]
        augmented = [augment.apply(x, drawn) for x, drawn in zip(moved, draws, strict=True)]
        views.append([x.contiguous(memory_format=torch.channels_last) for x in augmented])
    return views


def scaled(images: Tensor, preset: Preset) -> Tensor:
    """Scale 8-bit values as in pretraining: to [0, 1], or standardised."""
    x = images / 255
    seen = augmentation_of(preset)
    if seen.mean is None or seen.std is None:
        return x
    return (x - x.new_tensor(seen.mean).view(-1, 1, 1)) / x.new_tensor(seen.std).view(-1, 1, 1)


def whole_view(
    shards: PairedShards, modality: str, preset: Preset, rows: NDArray[np.int64], size: int
) -> Tensor:
    """Resize whole images to `size` and scale them as in pretraining: `(N, C, size, size)`."""
    images = torch.from_numpy(shards.batch(modality, rows))
    n, _, height, width = images.shape
    boxes = torch.tensor([0, 0, height, width]).expand(n, 4)
    unflipped = torch.zeros(n, 2, dtype=torch.bool)
    return scaled(crop_resize(images, boxes, unflipped, size), preset)
