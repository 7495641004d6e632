"""Nearest neighbours of features: votes and accuracy, pure functions of tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

TEMPERATURE = 0.07
CHUNK = 256
"""Test samples compared with all training samples at once."""


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
