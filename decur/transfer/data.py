"""Labelled batches for transfer: label fractions, joint crops and flips, targets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from decur.cluster.signals import check_stop
from decur.config import Cmx, Transfer
from decur.config.presets import Preset
from decur.errors import DecurError
from decur.imagery.augment import (
    beyond,
    crop_resize,
    draw_boxes,
    draw_scaled_boxes,
)
from decur.metrics.scores import BATCH
from decur.shards import PairedShards
from decur.training.prefetch import ahead
from decur.training.views import scaled

CENTRE = 224 / 256
"""Side of the evaluation crop as a fraction of the image's side (appendix B)."""

NO_CLASS = -100
"""Target value that no loss and no metric counts, for datasets without an `ignore` value."""


def label_subset(ids: Sequence[str], percent: float, seed: int) -> NDArray[np.int64]:
    """Select a seeded subset of `percent` of the samples, without replacement: ascending positions.

    It is drawn from the sorted names, so it does not depend on the order of files or rows.

    Raises:
        DecurError: the percentage selects no sample, or is out of range.
    """
    if not 0 < percent <= 100:
        raise DecurError(f"labels: {percent:g} % is out of range; use more than 0 and at most 100")
    count = int(len(ids) * percent / 100)
    if not count:
        raise DecurError(f"labels: {percent:g} % of {len(ids)} samples selects {count}; use more")
    by_name = np.argsort(np.asarray(ids), kind="stable")
    chosen = np.random.default_rng(seed).choice(len(ids), count, replace=False)
    return np.sort(by_name[chosen])


class Batch(NamedTuple):
    """Samples as stored: uint8 images `(N, C, H, W)` by modality, and their labels, if read."""

    images: dict[str, Tensor]
    labels: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the images."""
        height, width = next(iter(self.images.values())).shape[-2:]
        return height, width

    def pinned(self) -> "Batch":
        """Copy to page-locked memory, from which a GPU copies while the host continues."""
        images = {name: x.pin_memory() for name, x in self.images.items()}
        return Batch(images, None if self.labels is None else self.labels.pin_memory())


class Draws(NamedTuple):
    """A random crop of each image, `boxes` `(N, 4)`, and its flips, bool `(N, 2)`."""

    boxes: Tensor
    flips: Tensor


@dataclass(frozen=True)
class LabelledData:
    """The labelled samples of a dataset in some modalities, scaled as in pretraining.

    `presets` maps each modality to its augmentation preset, whose mean and std are applied.
    """

    shards: PairedShards
    presets: dict[str, Preset]
    settings: Transfer | Cmx
    ignore: int | None
    device: torch.device

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read labels as stored: 0/1 `(N, classes)`, or masks `(N, H, W)`."""
        if self.settings.task == "segmentation":
            return self.shards.masks(rows)
        return self.shards.labels(rows)

    def read(
        self, rows: NDArray[np.int64], names: Iterable[str] | None = None, *, labels: bool = True
    ) -> Batch:
        """Read images of the modalities, by default all, and labels, into host memory."""
        images = {
            name: torch.from_numpy(self.shards.batch(name, rows))
            for name in (self.presets if names is None else names)
        }
        batch = Batch(images, torch.from_numpy(self.labels(rows)) if labels else None)
        return batch.pinned() if self.device.type == "cuda" else batch

    def image_size(self) -> tuple[int, int]:
        """Return height and width of every image."""
        return self.read(np.zeros(1, np.int64), [*self.presets][:1], labels=False).size

    def read_ahead(
        self, rows: NDArray[np.int64], names: Iterable[str] | None = None, *, labels: bool = True
    ) -> Iterator[tuple[NDArray[np.int64], Batch]]:
        """Yield the rows in evaluation batches with their data, reading ahead.

        Raises:
            StoppedError: the job was asked to stop.
        """
        wanted = None if names is None else tuple(names)

        def load(batch: NDArray[np.int64]) -> Batch:
            return self.read(batch, wanted, labels=labels)

        for found in ahead(load, batches(rows)):
            check_stop()
            yield found

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """Read the labels as targets of a loss: float `(N, classes)`, or long `(N, H, W)`."""
        return self.targets_of(self.read(rows, ()))

    def targets_of(self, batch: Batch) -> Tensor:
        """Convert the labels of a batch to targets of a loss, as `targets` does."""
        assert batch.labels is not None
        labels = batch.labels.to(self.device, non_blocking=True)
        return labels.long() if self.settings.task == "segmentation" else labels.float()

    def views(self, batch: Batch) -> list[Tensor]:
        """Compute the deterministic view of each modality that was read, `(N, C, H, W)`.

        It is the centre crop for classification, and the whole image for segmentation.
        """
        return [self._view(name, images) for name, images in batch.images.items()]

    def _view(self, name: str, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        if self.settings.task == "classification":
            boxes = _centre_boxes(*(images.shape[i] for i in (0, 2, 3)))
            unflipped = torch.zeros(len(images), 2, dtype=torch.bool)
            images = crop_resize(images, boxes, unflipped, self.settings.crop)
        return scaled(images, self.presets[name])

    def draw(self, count: int, size: tuple[int, int], generator: Generator) -> Draws:
        """Draw a random crop and flips for each of `count` images of one height and width."""
        chosen = self.settings
        if chosen.scale_choices:
            boxes = draw_scaled_boxes(
                count, *size, self._crop_size(), chosen.scale_choices, generator
            )
        else:
            boxes = draw_boxes(count, *size, chosen.crop_scale, generator)
        flips = torch.rand(count, 2, generator=generator) < torch.tensor([0.5, chosen.vflip])
        return Draws(boxes, flips)

    def crops(self, batch: Batch, draws: Draws) -> tuple[list[Tensor], Tensor]:
        """Cut random crops, the same in all modalities and the mask: `(N, C, H, W)` and targets.

        An image smaller than the crop is enlarged to it. With `scale_choices` it is padded instead:
        with zeros, the mean colour of standardised images, and with targets that do not count.
        """
        chosen, size, (boxes, flips) = self.settings, self._crop_size(), draws
        xs = []
        for name, images in batch.images.items():
            images = images.to(self.device, non_blocking=True)
            cut = crop_resize(images, boxes, flips, size, chosen.resample)
            xs.append(scaled(cut, self.presets[name]))
        targets = self.targets_of(batch)
        if chosen.task == "segmentation":
            targets = crop_resize(targets[:, None], boxes, flips, size, mode="nearest")[:, 0].long()
        if chosen.scale_choices:
            outside = beyond(boxes, *batch.size, size).to(self.device)
            xs = [x.masked_fill(outside, 0) for x in xs]
            ignore = NO_CLASS if self.ignore is None else self.ignore
            targets = targets.masked_fill(outside[:, 0], ignore)
        return xs, targets

    def inputs(
        self, rows: NDArray[np.int64], generator: Generator | None
    ) -> tuple[list[Tensor], Tensor]:
        """Read one batch: the `crops` that a generator draws, or without one the `views`."""
        batch = self.read(rows)
        if generator is None:
            return self.views(batch), self.targets_of(batch)
        return self.crops(batch, self.draw(len(rows), batch.size, generator))

    def _crop_size(self) -> tuple[int, int]:
        crop = self.settings.crop
        return (crop, crop) if isinstance(crop, int) else crop


def batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split the rows in their order into evaluation batches; the last may be smaller."""
    return np.split(rows, range(BATCH, len(rows), BATCH))


def classes_shown(
    data: LabelledData, rows: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.bool_]:
    """Find which of the classes occur in the labels of the rows: bool `(classes,)`.

    Raises:
        DecurError: labels outside these classes; the message names the first such sample.
    """
    count, masks = len(classes), data.settings.task == "segmentation"
    valid = [*range(count)] if masks else [0, 1]
    if masks and data.ignore is not None:
        valid.append(data.ignore)
    shown = np.zeros(count, dtype=bool)
    for batch in batches(rows):
        labels = data.labels(batch)
        if not masks and labels.shape[1] != count:
            raise DecurError(
                f"{data.shards.root}: has labels of {labels.shape[1]} classes, but the dataset has "
                f"{count}; run the preprocess stage again"
            )
        wrong = ~np.isin(labels, valid)
        if wrong.any():
            first = batch[np.argwhere(wrong)[0, 0]]
            raise DecurError(
                f"{data.shards.root}: sample '{data.shards.index['id'].iloc[first]}' has the label "
                f"{labels[wrong][0]}, expected {', '.join(map(str, valid))}; correct it or leave "
                "out the sample"
            )
        shown |= np.isin(range(count), labels) if masks else labels.sum(axis=0) > 0
    return shown


def _centre_boxes(n: int, height: int, width: int) -> Tensor:
    side = round(min(height, width) * CENTRE)
    box = torch.tensor([(height - side) // 2, (width - side) // 2, side, side])
    return box.expand(n, 4)
