"""Nearest neighbours of the frozen features, with nothing trained."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.errors import DecurError
from decur.metrics.neighbours import knn_accuracy, neighbour_votes, pooled
from decur.metrics.scores import average_precision
from decur.training.knn import MASK, classes_of
from decur.transfer.cell import CellInputs, CellResult, MetricsRecord
from decur.transfer.data import batches
from decur.transfer.task import Task, build_task, labels_found


def evaluate(inputs: CellInputs) -> CellResult:
    """Compare evaluation samples with the labelled ones."""
    task = replace(build_task(inputs), features=inputs.whole_image_features)
    return CellResult(nearest_neighbours(task), task.labelled, task.keep)


@torch.no_grad()
def nearest_neighbours(task: Task) -> MetricsRecord:
    """Votes of the labelled samples nearest to each evaluation sample, nothing trained.

    Mean average precision of multi-labels; of masks, how often the class of most pixels is right.
    Beside the metrics stands what the labels show (`labels_found`).

    Raises:
        DecurError: labels that are not of the dataset's classes, or evaluation samples of a single
            class.
    """
    data, record = task.data, labels_found(task)
    train, test = (pooled_features(task, rows) for rows in (task.rows, task.test_rows))
    if data.settings.task == "classification":
        targets = [data.targets(rows) for rows in (task.rows, task.test_rows)]
        metrics = average_precision(neighbour_votes(train, targets[0], test), targets[1])
    else:
        classes = [
            classes_of(data.shards, MASK, rows).to(data.device)
            for rows in (task.rows, task.test_rows)
        ]
        if len(classes[1].unique()) < 2:
            raise DecurError(
                f"{data.shards.root}: one class has most pixels of every evaluation sample, and "
                "how often it is found says nothing; leave out the protocol 'knn'"
            )
        metrics = {"dominant_class": knn_accuracy(train, classes[0], test, classes[1])}
    return {"metrics": metrics, "counts": {"train": len(task.rows)}} | record


def pooled_features(task: Task, rows: NDArray[np.int64]) -> Tensor:
    """One vector a sample `(n, d)`."""
    model, data, features = task.model.eval(), task.data, task.features
    if features is not None:
        features.add(model, data, rows)
        return torch.cat([pooled(features.read(data, batch)) for batch in batches(rows)])
    vectors = []
    for _, read in data.read_ahead(rows, labels=False):
        parts = [model.encode(i, x) for i, x in enumerate(data.views(read))]
        vectors.append(pooled(parts))
    return torch.cat(vectors)
