"""Evaluation of a transfer model on deterministic views: centre crops, or whole images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.metrics.scores import Scores, Tally
from decur.models.heads import TransferModel
from decur.transfer.data import LabelledData, batches
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
    """Metrics of the rows; their predictions go to `keep` too.

    `features`, if the backbones are frozen, saves encoding the images again.
    """
    model.eval()
    tally = Tally(data.ignore)
    if features is not None:
        features.add(model, data, rows)
    for batch in batches(rows):
        encoded, size = encode_batch(model, data, batch, features)
        logits = logits_of(model, data, encoded, size)
        tally.add(logits, data.targets(batch))
        if keep is not None:
            keep.add(batch, logits)
    return tally.scores()


def encode_batch(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    features: FrozenFeatures | None,
) -> tuple[EncodedBatch, tuple[int, int]]:
    """The encoding of each modality of the rows, and their images' height and width."""
    if features is not None:
        return features.read(data, rows), features.size
    xs = [data.view(name, rows) for name in data.presets]
    encoded = [encode_modality(model, data, i, x) for i, x in enumerate(xs)]
    return encoded, (xs[0].shape[-2], xs[0].shape[-1])


def encode_modality(
    model: TransferModel, data: LabelledData, modality: int, x: Tensor
) -> list[Tensor]:
    """The encoding of one modality; the images themselves where windows slide over them."""
    return model.encode(modality, x) if data.settings.sliding is None else [x]


def logits_of(
    model: TransferModel,
    data: LabelledData,
    encoded: Sequence[Sequence[Tensor]],
    size: tuple[int, int],
) -> Tensor:
    """Logits, or scores of sliding windows, from the encoding of every modality."""
    sliding = data.settings.sliding
    if sliding is None:
        return model.head(encoded, size)
    return multiscale_scores(model, [images for (images,) in encoded], sliding)
