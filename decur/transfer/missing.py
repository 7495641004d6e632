"""A multimodal model with one of its inputs absent: zeros in its place, or the mean image."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.transfer.data import LabelledData, batches
from decur.transfer.metrics import Scores, Tally
from decur.transfer.train import Head


@torch.no_grad()
def evaluate_missing(
    model: Head,
    data: LabelledData,
    rows: NDArray[np.int64],
    training_rows: NDArray[np.int64],
) -> dict[str, dict[str, Scores]]:
    """Metrics of the rows with each modality absent in turn: `found[modality][substitute]`.

    The substitute is the absent network input: "zeros", or "mean", its mean over the training
    rows. It is encoded once, and so are the inputs that are there; only the head runs for each.
    """
    model.eval()
    means = mean_inputs(data, training_rows)
    substitutes = {"zeros": [torch.zeros_like(x) for x in means], "mean": means}
    constants = {name: model.features(images) for name, images in substitutes.items()}
    tallies = {m: {name: Tally(data.ignore) for name in constants} for m in data.presets}
    for batch in batches(rows):
        xs, targets = data.inputs(batch, None)
        features, size = model.features(xs), (xs[0].shape[-2], xs[0].shape[-1])
        for i, of_modality in enumerate(tallies.values()):
            for name, tally in of_modality.items():
                tally.add(model.head(_replaced(model, features, constants[name], i), size), targets)
    return {m: {n: tally.scores() for n, tally in found.items()} for m, found in tallies.items()}


def mean_inputs(data: LabelledData, rows: NDArray[np.int64]) -> list[Tensor]:
    """Mean of the network's unaugmented inputs over the rows: `(1, C, H, W)` a modality."""
    totals: list[Tensor | float] = [0.0] * len(data.presets)
    for batch in batches(rows):
        sums = [x.double().sum(dim=0, keepdim=True) for x in data.inputs(batch, None)[0]]
        totals = [total + part for total, part in zip(totals, sums, strict=True)]
    return [(torch.as_tensor(total) / len(rows)).float() for total in totals]


def _replaced(
    model: Head, features: Sequence[Tensor], constants: Sequence[Tensor], modality: int
) -> list[Tensor]:
    """Features in which the channels of one modality are those of its substitute.

    The features are of the backbones' last stages, the modalities' channels one after the other.
    """
    found = []
    for stage, (feature, constant) in enumerate(zip(features, constants, strict=True)):
        widths = [b.stage_dims[stage - len(features)] for b in model.backbones]  # type: ignore[index]
        start = sum(widths[:modality])
        channels = slice(start, start + widths[modality])
        changed = feature.clone()
        changed[:, channels] = constant[:, channels]
        found.append(changed)
    return found
