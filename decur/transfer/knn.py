"""Nearest neighbours on frozen features: a first look at a backbone, also during pretraining."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import KnnSettings, PretrainSettings
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.transfer.data import whole_view

TEMPERATURE = 0.07
MASK = "mask"


def knn_accuracy(
    train: Tensor,
    train_classes: Tensor,
    test: Tensor,
    test_classes: Tensor,
    *,
    neighbours: int = 20,
    temperature: float = TEMPERATURE,
) -> float:
    """Accuracy in percent of a vote among the nearest training samples by cosine similarity.

    A vote weighs exp(similarity / temperature) (Wu et al., CVPR 2018).

    Args:
        train: features (n, d).
        train_classes: (n,) int64, from 0.
        test: features (m, d).
        test_classes: (m,) int64.
        neighbours: how many vote; all of the training samples if there are fewer.
        temperature: the smaller, the more the nearest count.
    """
    train, test = (nn.functional.normalize(x.float(), dim=1) for x in (train, test))
    nearest = (test @ train.T).topk(min(neighbours, len(train)), dim=1)
    weights = (nearest.values / temperature).exp()
    votes = weights.new_zeros(len(test), int(train_classes.max()) + 1)
    votes.scatter_add_(1, train_classes[nearest.indices], weights)
    return 100 * float((votes.argmax(1) == test_classes).double().mean())


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
    classes = classes_of(shards, knn, np.concatenate(chosen)).split([len(r) for r in chosen])
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


def classes_of(shards: PairedShards, knn: KnnSettings, rows: NDArray[np.int64]) -> Tensor:
    """Class of each row (n,) int64: of a column of the index, or a mask's most frequent one.

    Raises:
        DecurError: there is no such column.
    """
    if knn.labels == MASK:
        ignore = shards.card.get("ignore")
        masks = shards.masks(rows).reshape(len(rows), -1)
        counts = np.stack([np.bincount(mask, minlength=256) for mask in masks])
        if ignore is not None:
            counts[:, ignore] = 0
        return torch.from_numpy(counts.argmax(1))
    if knn.labels not in shards.index or knn.labels == "labels":
        known = [c for c in map(str, shards.index) if c == "place" or c.startswith("factor_")]
        raise DecurError(
            f"knn.labels: {shards.root} has no column '{knn.labels}' with one class a sample; "
            f"known are {', '.join([*known, MASK])}"
        )
    return torch.from_numpy(pd.factorize(shards.index[knn.labels].iloc[rows])[0].astype(np.int64))


def _evenly(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
