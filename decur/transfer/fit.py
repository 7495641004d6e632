"""One cell of a table: a head, or nearest neighbours, on one run's backbones and one dataset."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur import datasets
from decur.config import Recipe
from decur.errors import DecurError
from decur.metrics.neighbours import knn_accuracy, neighbour_votes, pooled
from decur.metrics.scores import HEADLINE, Scores, average_precision
from decur.models.heads import TransferModel
from decur.shards import PairedShards
from decur.training.knn import MASK, classes_of
from decur.transfer.data import LabelledData, batches, classes_shown
from decur.transfer.evaluate import evaluate
from decur.transfer.features import FrozenFeatures
from decur.transfer.missing import evaluate_missing
from decur.transfer.predictions import Predictions
from decur.transfer.train import Frozen, train

Found = dict[str, Any]
HELD_OUT = 10
"""One of so many labelled samples measures the learning rates of a sweep."""


@dataclass(frozen=True)
class Task:
    """A fresh model, its labelled data, and which rows it may train on and is evaluated on.

    `features` are those of its backbones, if they are frozen in evaluation mode; `keep` takes what
    the trained model says of the evaluation rows.
    """

    model: TransferModel
    data: LabelledData
    facts: datasets.Dataset
    rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    seed: int
    features: FrozenFeatures | None = None
    keep: Predictions | None = None


def train_head(task: Task, recipe: Recipe, frozen: Frozen | None) -> Found:
    """What goes into metrics.json: `metrics`, `per_class` by class name, `counts`.

    `untrained_classes` are those that no training label shows; the metrics count them as others;
    `evaluated` says what the metrics are of (`labels_found`). Metrics are of the last epoch; where
    the recipe asks for it, `curve` and `best` tell of earlier ones, and `sweep` of the learning
    rates tried. Of a multimodal model, `missing` holds its metrics with each modality absent in
    turn.
    """
    model, data, classes = task.model, task.data, task.facts.classes
    headline = HEADLINE[data.settings.task]
    found = labels_found(task)  # a wrong label must not come out after hours of training
    if recipe.lr_sweep:
        found["sweep"] = sweep(task, recipe, frozen)
        recipe = recipe.model_copy(update={"lr": _best(found["sweep"], headline)})
    looks: list[tuple[float, Scores]] = []

    def look(epoch: float) -> None:
        looks.append((epoch, evaluate(model, data, task.test_rows, task.features, task.keep)))

    train(
        model,
        data,
        task.rows,
        recipe,
        frozen=frozen,
        seed=task.seed,
        features=task.features,
        look=look,
    )
    scores = looks[-1][1]
    found |= {
        "metrics": scores.metrics,
        "per_class": _by_name(classes, scores.per_class),
        "counts": {"train": len(task.rows)},
        "lr": recipe.lr,
    }
    if recipe.evaluate_every:
        found |= curve(looks, headline)
    if len(data.presets) > 1:
        absent = evaluate_missing(model, data, task.test_rows, task.rows, task.features)
        found["missing"] = {m: {n: s.metrics for n, s in by.items()} for m, by in absent.items()}
    return found


def labels_found(task: Task) -> Found:
    """The classes that the labels do not show, and the evaluation samples (`samples_evaluated`).

    `untrained_classes` are those that no training label shows. `evaluated` has `classes`, how many
    a metric may count, and `absent_classes`, those that no evaluation label shows.

    Raises:
        DecurError: labels that are not of the dataset's classes, or evaluation labels that show
            less than two: any metric over a single class says nothing.
    """
    classes, shards = task.facts.classes, task.data.shards
    trained, evaluated = (
        classes_shown(task.data, rows, classes) for rows in (task.rows, task.test_rows)
    )
    counted = [i for i in range(len(classes)) if i != task.facts.ignore]
    there = [classes[i] for i in counted if evaluated[i]]
    if len(there) < 2:
        shown = f"one class alone, '{there[0]}'" if there else "no class"
        raise DecurError(
            f"{shards.root}: the labels of the split '{task.facts.evaluation}' show {shown}, and a "
            "metric over that says nothing; correct the labels or choose another split"
        )
    return {
        "untrained_classes": [classes[i] for i in counted if not trained[i]],
        "evaluated": samples_evaluated(shards, task.facts, len(task.test_rows))
        | {
            "classes": len(counted),
            "absent_classes": [classes[i] for i in counted if not evaluated[i]],
        },
    }


def samples_evaluated(shards: PairedShards, facts: datasets.Dataset, count: int) -> Found:
    """How many `samples` are evaluated, and how many of their split were bad and `left_out`."""
    left_out = shards.card.quarantined_by_split.get(facts.evaluation, 0)
    return {"samples": count, "left_out": left_out}


def sweep(task: Task, recipe: Recipe, frozen: Frozen | None) -> list[dict[str, float]]:
    """The headline metric of every learning rate of the sweep, on labelled samples held out.

    A tenth of the training rows, drawn by the seed, is held out; the evaluation data take no part.

    Raises:
        DecurError: too few labelled samples to hold one out.
    """
    headline = HEADLINE[task.data.settings.task]
    if len(task.rows) < HELD_OUT:
        raise DecurError(
            f"lr_sweep: {len(task.rows)} labelled samples are too few to hold a tenth out; give "
            "more labels, or an `lr` without a sweep"
        )
    order = np.random.default_rng(task.seed).permutation(task.rows)
    held, rest = np.split(order, [len(order) // HELD_OUT])
    found = []
    for lr in recipe.lr_sweep:
        model = copy.deepcopy(task.model)
        tried = recipe.model_copy(update={"lr": lr})
        how: dict[str, Any] = {"frozen": frozen, "seed": task.seed, "features": task.features}
        train(model, task.data, np.sort(rest), tried, **how)
        scores = evaluate(model, task.data, np.sort(held), task.features)
        found.append({"lr": lr, headline: scores.metrics[headline]})
    return found


def _best(tried: Sequence[dict[str, float]], headline: str) -> float:
    """The learning rate with the best score, the first such; a score of NaN is none."""
    return max(tried, key=lambda t: np.nan_to_num(t[headline], nan=-1))["lr"]


def curve(looks: Sequence[tuple[float, Scores]], headline: str) -> Found:
    """The headline metric by epoch, and all metrics of the epoch where it is best, the first such.

    The best is chosen by the very data it is measured on, so it is kept and not reported.
    """
    ranks = [np.nan_to_num(scores.metrics[headline], nan=-1) for _, scores in looks]
    epoch, best = looks[int(np.argmax(ranks))]
    return {
        "curve": [{"epoch": e, headline: scores.metrics[headline]} for e, scores in looks],
        "best": {"epoch": epoch, **best.metrics},
    }


def _by_name(classes: Sequence[str], scores: Sequence[float]) -> dict[str, float | None]:
    """A score a class; None where the class does not count."""
    pairs = zip(classes, scores, strict=True)
    return {name: None if math.isnan(score) else score for name, score in pairs}


@torch.no_grad()
def nearest_neighbours(task: Task) -> Found:
    """Votes of the labelled samples nearest to each evaluation sample, nothing trained.

    Mean average precision of multi-labels; of masks, how often the class of most pixels is right.
    Beside the metrics stands what the labels show (`labels_found`).

    Raises:
        DecurError: labels that are not of the dataset's classes, or evaluation samples of a single
            class.
    """
    data, found = task.data, labels_found(task)
    train, test = (_pooled_features(task, rows) for rows in (task.rows, task.test_rows))
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
    return {"metrics": metrics, "counts": {"train": len(task.rows)}} | found


def _pooled_features(task: Task, rows: NDArray[np.int64]) -> Tensor:
    """One vector a sample `(n, d)`."""
    model, data, features = task.model.eval(), task.data, task.features
    if features is not None:
        features.add(model, data, rows)
    vectors = []
    for batch in batches(rows):
        if features is not None:
            parts = features.read(data, batch)
        else:
            views = (data.view(name, batch) for name in data.presets)
            parts = [model.encode(i, x) for i, x in enumerate(views)]
        vectors.append(pooled(parts))
    return torch.cat(vectors)
