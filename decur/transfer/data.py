"""Labelled batches for transfer: label fractions, joint crops and flips, targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

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
from decur.training.views import scaled

CENTRE = 224 / 256
"""Side of the evaluation crop over that of the image (appendix B)."""

NO_CLASS = -100
"""What no loss and no metric counts in the targets of a dataset without an `ignore` of its own."""


def label_subset(ids: Sequence[str], percent: float, seed: int) -> NDArray[np.int64]:
    """Positions of a seeded subset of `percent` of the samples, without replacement, ascending.

    Drawn from the sorted names, so that it does not depend on the order of files or rows.

    Raises:
        DecurError: the percentage selects no sample, or is not one.
    """
    if not 0 < percent <= 100:
        raise DecurError(f"labels: {percent:g} % is no share; give more than 0 and at most 100")
    count = int(len(ids) * percent / 100)
    if not count:
        raise DecurError(f"labels: {percent:g} % of {len(ids)} samples selects {count} samples")
    by_name = np.argsort(np.asarray(ids), kind="stable")
    chosen = np.random.default_rng(seed).choice(len(ids), count, replace=False)
    return np.sort(by_name[chosen])


@dataclass(frozen=True)
class LabelledData:
    """A dataset's shards seen through some modalities, each with the scaling of its pretraining.

    `presets` maps the modality to its augmentation preset, whose mean and std are applied.
    """

    shards: PairedShards
    presets: dict[str, Preset]
    settings: Transfer | Cmx
    ignore: int | None
    device: torch.device

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Labels as they are stored: 0/1 `(N, classes)`, or masks `(N, H, W)`."""
        if self.settings.task == "segmentation":
            return self.shards.masks(rows)
        return self.shards.labels(rows)

    def targets(self, rows: NDArray[np.int64]) -> Tensor:
        """What a loss compares with: float `(N, classes)`, or long `(N, H, W)`."""
        labels = torch.from_numpy(self.labels(rows)).to(self.device)
        return labels.long() if self.settings.task == "segmentation" else labels.float()

    def view(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        """The deterministic view of one modality, `(N, C, H, W)`.

        For classification the centre crop, for segmentation the whole image.
        """
        images = self._images(name, rows)
        if self.settings.task == "classification":
            boxes = _centre_boxes(*(images.shape[i] for i in (0, 2, 3)))
            unflipped = torch.zeros(len(rows), 2, dtype=torch.bool)
            images = crop_resize(images, boxes, unflipped, self.settings.crop)
        return scaled(images, self.presets[name])

    def inputs(
        self, rows: NDArray[np.int64], generator: Generator | None
    ) -> tuple[list[Tensor], Tensor]:
        """One batch: a float tensor `(N, C, H, W)` a modality, and the targets.

        With a generator, one random crop and flips common to all modalities and the mask;
        without, the deterministic view. An image smaller than the crop is enlarged to it, or with
        `scale_choices` has nothing around it: zeros, the mean colour of standardised images, and
        targets that do not count.
        """
        if generator is None:
            return [self.view(name, rows) for name in self.presets], self.targets(rows)
        images = {name: self._images(name, rows) for name in self.presets}
        height, width = next(iter(images.values())).shape[-2:]
        chosen, crop = self.settings, self.settings.crop
        size = (crop, crop) if isinstance(crop, int) else crop
        outside = None
        if chosen.scale_choices:
            boxes = draw_scaled_boxes(
                len(rows), height, width, size, chosen.scale_choices, generator
            )
            outside = beyond(boxes, height, width, size).to(self.device)
        else:
            boxes = draw_boxes(len(rows), height, width, chosen.crop_scale, generator)
        flips = torch.rand(len(rows), 2, generator=generator) < torch.tensor([0.5, chosen.vflip])
        xs = [
            scaled(crop_resize(image, boxes, flips, size, chosen.resample), self.presets[name])
            for name, image in images.items()
        ]
        targets = self.targets(rows)
        if chosen.task == "segmentation":
            targets = crop_resize(targets[:, None], boxes, flips, size, mode="nearest")[:, 0].long()
        if outside is not None:
            xs = [x.masked_fill(outside, 0) for x in xs]
            ignore = NO_CLASS if self.ignore is None else self.ignore
            targets = targets.masked_fill(outside[:, 0], ignore)
        return xs, targets

    def _images(self, name: str, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.shards.batch(name, rows)).to(self.device)


def batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows in their order, in batches of evaluation; the last may be smaller."""
    return np.split(rows, range(BATCH, len(rows), BATCH))


def classes_shown(
    data: LabelledData, rows: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.bool_]:
    """Which of the classes the labels of the rows show: bool `(classes,)`.

    Raises:
        DecurError: labels that are not of these classes, naming the first such sample.
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
                f"{data.shards.root}: has labels of {labels.shape[1]} classes, the dataset has "
                f"{count}; run the preprocess stage again"
            )
        wrong = ~np.isin(labels, valid)
        if wrong.any():
            first = batch[np.argwhere(wrong)[0, 0]]
            raise DecurError(
                f"{data.shards.root}: sample '{data.shards.index['id'].iloc[first]}' has the label "
                f"{labels[wrong][0]}, expected {', '.join(map(str, valid))}; correct it or leave "
                "the sample out"
            )
        shown |= np.isin(range(count), labels) if masks else labels.sum(axis=0) > 0
    return shown


def _centre_boxes(n: int, height: int, width: int) -> Tensor:
    side = round(min(height, width) * CENTRE)
    box = torch.tensor([(height - side) // 2, (width - side) // 2, side, side])
    return box.expand(n, 4)
