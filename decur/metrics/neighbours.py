"""Nearest neighbours of features: votes and accuracy, as pure functions of tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from decur.metrics.scores import top_accuracy

TEMPERATURE = 0.07
CHUNK = 256
"""Test samples compared with all training samples at once."""
TRAIN_CHUNK = 16384
"""Training samples converted to float64 at once."""


def neighbour_votes(
    train: Tensor, train_targets: Tensor, test: Tensor, *, neighbours: int = 20
) -> Tensor:
    """Average the targets of the nearest training samples by cosine similarity.

    A neighbour has the weight exp(similarity / 0.07) (Wu et al., CVPR 2018).

    Args:
        train: features (n, d).
        train_targets: (n, classes), of 0 and 1.
        test: features (m, d).
        neighbours: how many vote; all training samples if there are fewer.

    Returns:
        Weighted mean targets, float32 (m, classes).
    """
    train, test = (nn.functional.normalize(x.float(), dim=1) for x in (train, test))
    targets = train_targets.float()
    votes = []
    for part in test.split(CHUNK):
        nearest = (part @ train.T).topk(min(neighbours, len(train)), dim=1)
        weights = (nearest.values / TEMPERATURE).softmax(dim=1)
        votes.append((weights[:, :, None] * targets[nearest.indices]).sum(dim=1))
    return torch.cat(votes)


def neighbour_means(
    train: Tensor, train_targets: Tensor, test: Tensor, *, neighbours: int = 5
) -> Tensor:
    """Average the targets of the nearest training samples by Euclidean distance.

    All neighbours have the same weight and features are not normalised, as in torchgeo-bench
    (`knn.py`). Distances are computed in float64, because differences between features may be small
    compared to their length. They are compared in float32; of equal ones the earlier training
    sample is nearer.

    Args:
        train: features (n, d), of any floating type.
        train_targets: (n, classes), of 0 and 1.
        test: features (m, d).
        neighbours: how many count; all training samples if there are fewer.

    Returns:
        Mean targets, float32 (m, classes).
    """
    targets, count = train_targets.float(), min(neighbours, len(train))
    means = []
    for part in test.split(CHUNK):
        distances = torch.cat(
            [_squared_distances(part, some) for some in train.split(TRAIN_CHUNK)], dim=1
        )
        means.append(targets[_smallest(distances, count)].mean(dim=1))
    return torch.cat(means)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Compute squared Euclidean distances of rows of `a` (m, d) and `b` (n, d): float32 (m, n)."""
    a, b = a.double(), b.double()
    lengths = (a * a).sum(dim=1)[:, None] + (b * b).sum(dim=1)
    return torch.addmm(lengths, a, b.T, alpha=-2).clamp(min=0).float()


def _smallest(values: Tensor, count: int) -> Tensor:
    """Find the columns of each row's smallest values (m, count); the first ones if equal."""
    found = values.topk(count, dim=1, largest=False)
    tied = (values <= found.values[:, -1:]).sum(dim=1) > count  # topk takes any of them
    columns = found.indices
    columns[tied] = values[tied].sort(dim=1, stable=True).indices[:, :count]
    return columns


def knn_accuracy(
    train: Tensor,
    train_classes: Tensor,
    test: Tensor,
    test_classes: Tensor,
    *,
    neighbours: int = 20,
) -> float:
    """Compute the accuracy in percent of the class with most votes, see `neighbour_votes`.

    `train_classes` (n,) and `test_classes` (m,) are int64, from 0.
    """
    votes = neighbour_votes(
        train, nn.functional.one_hot(train_classes), test, neighbours=neighbours
    )
    return top_accuracy(votes, test_classes)


def pooled(parts: Sequence[Sequence[Tensor]], *, unit: bool = True) -> Tensor:
    """Concatenate the pooled last features of every modality to one vector per sample.

    Returns float32 `(n, d)`. `parts[modality]` is the output of `TransferModel.encode`, maps or
    vectors. With `unit` each modality's vector has unit length, so that all modalities have the
    same weight.
    """
    last = [part[-1] if part[-1].ndim == 2 else part[-1].mean(dim=(2, 3)) for part in parts]
    vectors = [x.float() for x in last]
    if unit:
        vectors = [nn.functional.normalize(x, dim=1) for x in vectors]
    return torch.cat(vectors, dim=1)
