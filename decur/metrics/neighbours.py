"""Nearest neighbours on frozen features: a first look at a backbone, also during pretraining."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import PretrainSettings
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.transfer.data import whole_view

TEMPERATURE = 0.07
CHUNK = 256
"""Test samples compared with all training samples at once."""
MASK = "mask"


def neighbour_votes(
    train: Tensor, train_targets: Tensor, test: Tensor, *, neighbours: int = 20
) -> Tensor:
    """Mean target of the nearest training samples by cosine similarity: float32 (m, classes).

    A neighbour weighs exp(similarity / 0.07) (Wu et al., CVPR 2018).

    Args:
        train: features (n, d).
        train_targets: (n, classes), of 0 and 1.
        test: features (m, d).
        neighbours: how many vote; all of the training samples if there are fewer.
    """
    train, test = (nn.functional.normalize(x.float(), dim=1) for x in (train, test))
    targets = train_targets.float()
    votes = []
    for part in test.split(CHUNK):
        nearest = (part @ train.T).topk(min(neighbours, len(train)), dim=1)
        weights = (nearest.values / TEMPERATURE).softmax(dim=1)
        votes.append((weights[:, :, None] * targets[nearest.indices]).sum(dim=1))
    return torch.cat(votes)


def knn_accuracy(
    train: Tensor,
    train_classes: Tensor,
    test: Tensor,
    test_classes: Tensor,
    *,
    neighbours: int = 20,
) -> float:
    """Accuracy in percent of the class with most votes, see `neighbour_votes`.

    `train_classes` (n,) and `test_classes` (m,) are int64, from 0.
    """
    votes = neighbour_votes(
        train, nn.functional.one_hot(train_classes), test, neighbours=neighbours
    )
    return 100 * float((votes.argmax(1) == test_classes).double().mean())


def pooled(parts: Sequence[Sequence[Tensor]]) -> Tensor:
    """One vector a sample `(n, d)`: last features of every modality, pooled, of unit length each.

    `parts[modality]` is as `TransferModel.encode` gives it, maps or vectors.
    """
    last = [part[-1] if part[-1].ndim == 2 else part[-1].mean(dim=(2, 3)) for part in parts]
    return torch.cat([nn.functional.normalize(x.float(), dim=1) for x in last], dim=1)


@torch.no_grad()
def knn_of_backbones(
    backbones: nn.ModuleList, settings: PretrainSettings, shards: PairedShards
) -> dict[str, float]:
    """Accuracy of `settings.knn` on each modality's features: ``knn1`` and ``knn2``.

    The backbones are left in the mode, training or evaluation, that they were in.

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
    """Class of each row (n,) int64: of a column of the index, or a mask's most frequent one.

    Raises:
        DecurError: there is no such column.
    """
    if labels == MASK:
        ignore = shards.card.get("ignore")
        masks = shards.masks(rows).reshape(len(rows), -1)
        counts = np.stack([np.bincount(mask, minlength=256) for mask in masks])
        if ignore is not None:
            counts[:, ignore] = 0
        return torch.from_numpy(counts.argmax(1))
    if labels not in shards.index or labels == "labels":
        known = [c for c in map(str, shards.index) if c == "place" or c.startswith("factor_")]
        raise DecurError(
            f"knn.labels: {shards.root} has no column '{labels}' with one class a sample; "
            f"known are {', '.join([*known, MASK])}"
        )
    return torch.from_numpy(pd.factorize(shards.index[labels].iloc[rows])[0].astype(np.int64))


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
