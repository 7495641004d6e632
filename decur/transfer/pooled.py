"""Compute one feature vector and the labels of each whole image, for protocols without a head.

In a dataset with masks the label of an image is the class of most of its pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.errors import DecurError
from decur.metrics.neighbours import pooled
from decur.metrics.scores import average_precision, top_accuracy
from decur.training.knn import MASK, classes_of
from decur.transfer.data import batches
from decur.transfer.task import Task


@torch.no_grad()
def pooled_features(task: Task, rows: NDArray[np.int64], *, unit: bool = True) -> Tensor:
    """Compute one vector per sample, float32 `(n, d)`, on the task's device, see `pooled`.

    Raises:
        DecurError: features that are not finite.
    """
    model, data, features = task.model.eval(), task.data, task.features
    if features is not None:
        features.add(model, data, rows)
        parts = [pooled(features.read(data, batch), unit=unit) for batch in batches(rows)]
    else:
        parts = []
        for _, read in data.read_ahead(rows, labels=False):
            encoded = [model.encode(i, x) for i, x in enumerate(data.views(read))]
            parts.append(pooled(encoded, unit=unit))
    if not all(part.isfinite().all() for part in parts):
        raise DecurError(
            f"{data.shards.root}: the backbones' features of its images are not finite because "
            "pretraining diverged; pretrain the run again with a lower lr"
        )
    return torch.cat(parts)


def image_labels(task: Task, rows: NDArray[np.int64]) -> Tensor:
    """Read multi-labels, float 0/1 `(n, classes)`, or a mask's main class, int64 `(n,)`."""
    data = task.data
    if data.settings.task == "classification":
        return data.targets(rows)
    return classes_of(data.shards, MASK, rows).to(data.device)


def evaluation_labels(task: Task, protocol: str) -> Tensor:
    """Read the `image_labels` of the evaluation samples.

    Raises:
        DecurError: one class has most pixels of all of them.
    """
    labels = image_labels(task, task.test_rows)
    if labels.ndim == 1 and len(labels.unique()) < 2:
        raise DecurError(
            f"{task.data.shards.root}: one class has most pixels of every evaluation sample, so "
            f"its accuracy is meaningless; leave out the protocol '{protocol}'"
        )
    return labels


def image_scores(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute metrics in percent from a score per class `(n, classes)` and `image_labels`.

    For multi-labels it is the mean average precision; for masks, the fraction of images whose class
    of most pixels has the highest score.
    """
    if labels.ndim == 2:
        return average_precision(scores, labels)
    return {"dominant_class": top_accuracy(scores, labels)}
