"""Evaluate a transfer model on deterministic views: centre crops, or whole images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.metrics.scores import Scores, Tally
from decur.models.heads import TransferModel
from decur.transfer.data import LabelledData
from decur.transfer.features import EncodedBatch, FrozenFeatures
from decur.transfer.predictions import Predictions
from decur.transfer.sliding import multiscale_scores


@torch.no_grad()
def evaluate(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    features: FrozenFeatures | None = None,
    keep: Predictions | None = None,
) -> Scores:
    """Score the model's predictions of the rows, and add them to `keep`.

    `features`, for frozen backbones, avoids encoding the images again.
    """
    model.eval()
    tally = Tally(data.ignore)
    if features is not None:
        features.add(model, data, rows)
    for batch, targets, encoded, size in encoded_batches(model, data, rows, features):
        logits = logits_of(model, data, encoded, size)
        tally.add(logits, targets)
        if keep is not None:
            keep.add(batch, logits)
    return tally.scores()


class Encoded(NamedTuple):
    """A batch's rows, targets, encodings by modality, and the height and width of its images."""

    rows: NDArray[np.int64]
    targets: Tensor
    parts: EncodedBatch
    size: tuple[int, int]


def encoded_batches(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    features: FrozenFeatures | None,
) -> Iterator[Encoded]:
    """Yield the rows in evaluation batches, encoded.

    Raises:
        StoppedError: the job was asked to stop.
    """
    for batch, read in data.read_ahead(rows, None if features is None else ()):
        if features is None:
            xs = data.views(read)
            parts = [encode_modality(model, data, i, x) for i, x in enumerate(xs)]
            size = (xs[0].shape[-2], xs[0].shape[-1])
        else:
            parts, size = features.read(data, batch), features.size
        yield Encoded(batch, data.targets_of(read), parts, size)


def encode_modality(
    model: TransferModel, data: LabelledData, modality: int, x: Tensor
) -> list[Tensor]:
    """Encode one modality; if windows slide over the images, return the images themselves."""
    return model.encode(modality, x) if data.settings.sliding is None else [x]


def logits_of(
    model: TransferModel,
    data: LabelledData,
    encoded: Sequence[Sequence[Tensor]],
    size: tuple[int, int],
) -> Tensor:
    """Compute logits, or scores of sliding windows, from the encodings of all modalities."""
    sliding = data.settings.sliding
    if sliding is None:
        return model.head(encoded, size)
    return multiscale_scores(model, [images for (images,) in encoded], sliding)
