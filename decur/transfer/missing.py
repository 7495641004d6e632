"""Evaluate a multimodal model with one input absent, replaced by zeros or by the mean image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.metrics.scores import Scores, Tally
from decur.models.heads import TransferModel
from decur.transfer.data import LabelledData
from decur.transfer.evaluate import encode_modality, encoded_batches, logits_of
from decur.transfer.features import FrozenFeatures


@torch.no_grad()
def evaluate_missing(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    training_rows: NDArray[np.int64],
    features: FrozenFeatures | None = None,
) -> dict[str, dict[str, Scores]]:
    """Score the rows with each modality absent in turn: `found[modality][substitute]`.

    The substitute replaces the absent network input: "zeros", or "mean", its mean over the training
    rows. Each substitute and each present input is encoded once; only the head runs for every
    combination.
    """
    model.eval()
    means = mean_inputs(data, training_rows)
    substitutes = {"zeros": [torch.zeros_like(x) for x in means], "mean": means}
    constants = {
        name: [encode_modality(model, data, i, x) for i, x in enumerate(xs)]
        for name, xs in substitutes.items()
    }
    tallies = {m: {name: Tally(data.ignore) for name in substitutes} for m in data.presets}
    if features is not None:
        features.add(model, data, rows)
    for batch, targets, encoded, size in encoded_batches(model, data, rows, features):
        for i, of_modality in enumerate(tallies.values()):
            for name, tally in of_modality.items():
                absent = [x.expand(len(batch), *x.shape[1:]) for x in constants[name][i]]
                rest = [*encoded[:i], absent, *encoded[i + 1 :]]
                tally.add(logits_of(model, data, rest, size), targets)
    return {m: {n: tally.scores() for n, tally in found.items()} for m, found in tallies.items()}


def mean_inputs(data: LabelledData, rows: NDArray[np.int64]) -> list[Tensor]:
    """Average the network's unaugmented inputs over the rows: `(1, C, H, W)` per modality."""
    means = []
    for name in data.presets:
        found = data.read_ahead(rows, [name], labels=False)
        total = sum(data.views(read)[0].double().sum(0, keepdim=True) for _, read in found)
        means.append((torch.as_tensor(total) / len(rows)).float())
    return means
