"""Classify by the nearest neighbours of frozen features; nothing is trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import one_hot

from decur.config.protocols import PROTOCOLS
from decur.metrics.neighbours import neighbour_means, neighbour_votes
from decur.transfer.cell import CellInputs, CellResult
from decur.transfer.pooled import evaluation_labels, image_labels, image_scores, pooled_features
from decur.transfer.task import build_task, labels_found


class Search(NamedTuple):
    """How neighbours vote, and whether each modality's features are scaled to unit length."""

    votes: Callable[[Tensor, Tensor, Tensor], Tensor]
    unit: bool


SEARCHES = {
    "cosine": Search(neighbour_votes, unit=True),
    "euclidean": Search(neighbour_means, unit=False),
}
"""Search by the distance that a protocol's entry names."""


def evaluate(inputs: CellInputs) -> CellResult:
    """Score the evaluation samples by the votes of the nearest labelled samples.

    With Euclidean distance the protocol is that of torchgeo-bench (`knn.py`, `main.py`): 5
    neighbours, pooled features as the backbone outputs them, and the mean of the neighbours' labels
    as the score per class. There one network reads all bands; here the features of several
    modalities are concatenated. Metrics are those of `image_scores`; the record also has the
    classes in the labels (`labels_found`).

    Raises:
        DecurError: labels outside the dataset's classes, evaluation samples of a single
            class, or features that are not finite.
    """
    task = replace(build_task(inputs), features=inputs.whole_image_features)
    name = inputs.cell.protocol
    record, truth = labels_found(task), evaluation_labels(task, name)
    votes, unit = SEARCHES[PROTOCOLS[name].distance]
    train, test = (pooled_features(task, rows, unit=unit) for rows in (task.rows, task.test_rows))
    labels = image_labels(task, task.rows)
    if labels.ndim == 1:
        labels = one_hot(labels, len(task.facts.classes))
    record |= {
        "metrics": image_scores(votes(train, labels, test), truth),
        "counts": {"train": len(task.rows)},
    }
    return CellResult(record, task.labelled, task.keep)
