"""k-nearest-neighbour accuracy on a dataset's own labels: a quick check of backbones.

It is also computed during pretraining.
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import PretrainSettings
from decur.errors import DecurError
from decur.metrics.neighbours import knn_accuracy
from decur.shards import PairedShards
from decur.training.views import whole_view

MASK = "mask"


@torch.no_grad()
def knn_of_backbones(
    backbones: nn.ModuleList, settings: PretrainSettings, shards: PairedShards
) -> dict[str, float]:
    """Compute the k-nearest-neighbour accuracy of each modality's features: ``knn1`` and ``knn2``.

    The protocol is `settings.knn`. The backbones stay in their mode, training or evaluation.

    Raises:
        DecurError: the dataset has no such labels, or a split is empty.
    """
    knn = settings.knn
    if knn is None:
        return {}
    chosen = [_evenly(shards.rows(split), knn.samples) for split in (knn.train, knn.test)]
    classes = classes_of(shards, knn.labels, np.concatenate(chosen)).split([len(r) for r in chosen])
    found = {}
    pairs = zip(backbones, settings.modalities.items(), strict=True)
    for i, (backbone, (modality, preset)) in enumerate(pairs, start=1):
        was_training, device = backbone.training, next(backbone.parameters()).device
        backbone.eval()
        features = [
            torch.cat(
                [
                    backbone(whole_view(shards, modality, preset, part, settings.crop).to(device))
                    for part in np.split(rows, range(256, len(rows), 256))
                ]
            )
            for rows in chosen
        ]
        backbone.train(was_training)
        (train, test), (own, others) = features, (c.to(device) for c in classes)
        found[f"knn{i}"] = knn_accuracy(train, own, test, others, neighbours=knn.neighbours)
    return found


def classes_of(shards: PairedShards, labels: str, rows: NDArray[np.int64]) -> Tensor:
    """Look up each row's class, (n,) int64: an index column or the mask's most frequent class.

    Raises:
        DecurError: there is no such column.
    """
    if labels == MASK:
        ignore = shards.card.ignore
        masks = shards.masks(rows).reshape(len(rows), -1)
        counts = np.stack([np.bincount(mask, minlength=256) for mask in masks])
        if ignore is not None:
            counts[:, ignore] = 0
        return torch.from_numpy(counts.argmax(1))
    if labels not in shards.index or labels == "labels":
        known = [c for c in map(str, shards.index) if c == "place" or c.startswith("factor_")]
        raise DecurError(
            f"knn.labels: {shards.root} has no column '{labels}' with one class per sample; "
            f"use one of {', '.join([*known, MASK])}"
        )
    return torch.from_numpy(pd.factorize(shards.index[labels].iloc[rows])[0].astype(np.int64))


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Select at most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
