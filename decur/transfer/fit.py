"""Train a head, or the full model, on one run's backbones and one dataset, and evaluate it."""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from decur.config import Recipe
from decur.errors import DecurError
from decur.metrics.scores import HEADLINE, Scores
from decur.training.resume import Journal
from decur.transfer.cell import MetricsRecord
from decur.transfer.evaluate import evaluate
from decur.transfer.missing import evaluate_missing
from decur.transfer.state import Frozen
from decur.transfer.task import HELD_OUT, Task, hold_out, labels_found
from decur.transfer.train import train


def train_head(
    task: Task, recipe: Recipe, frozen: Frozen | None, journal: Journal | None = None
) -> MetricsRecord:
    """Train, evaluate, and return `metrics`, `per_class` by class name, `counts` and `lr`.

    The result also has `untrained_classes` and `evaluated`, see `labels_found`. Metrics are those
    of the last epoch. If the recipe asks for them, `curve` and `best` contain earlier ones, and
    `sweep` those of the learning rates tried. `splits` contains the metrics of the dataset's unused
    splits and, for a multimodal model, `missing` those with each modality absent in turn. `journal`
    keeps the progress.

    Raises:
        DecurError: the labels do not fit, or cannot be trained on.
        StoppedError: the job was asked to stop.
    """
    journal = journal or Journal()
    model, data, classes = task.model, task.data, task.facts.classes
    headline = HEADLINE[data.settings.task]
    record = labels_found(task)  # find wrong labels before hours of training
    if recipe.lr_sweep:
        record["sweep"] = sweep(task, recipe, frozen, journal)
        recipe = recipe.model_copy(update={"lr": _best(record["sweep"], headline)})
    # Stored by epoch: a resumed job repeats the last evaluation, which collects its predictions
    # again.
    evaluations: dict[float, dict[str, Any]] = journal.done.setdefault("evaluations", {})

    def evaluate_after(epoch: float) -> None:
        scores = evaluate(model, data, task.test_rows, task.features, task.keep)
        evaluations[epoch] = asdict(scores)

    train(
        model,
        data,
        task.rows,
        recipe,
        frozen=frozen,
        seed=task.seed,
        features=task.features,
        evaluate=evaluate_after,
        journal=journal,
    )
    found = [(epoch, Scores(**scores)) for epoch, scores in evaluations.items()]
    _, scores = found[-1]
    record |= {
        "metrics": scores.metrics,
        "per_class": _by_name(classes, scores.per_class),
        "counts": {"train": len(task.rows)},
        "lr": recipe.lr,
    }
    if recipe.evaluate_every:
        record |= curve(found, headline)
    if task.other_rows:
        record["splits"] = {
            name: evaluate(model, data, rows, task.features).metrics
            for name, rows in task.other_rows.items()
        }
    if len(data.presets) > 1:
        absent = evaluate_missing(model, data, task.test_rows, task.rows, task.features)
        record["missing"] = {m: {n: s.metrics for n, s in by.items()} for m, by in absent.items()}
    return record


def sweep(
    task: Task, recipe: Recipe, frozen: Frozen | None, journal: Journal
) -> list[dict[str, float]]:
    """Measure the headline metric of every learning rate of the sweep on held-out labelled samples.

    A tenth of the training rows, drawn by the seed, is held out. Evaluation data are not used.

    Raises:
        DecurError: too few labelled samples to hold one out.
    """
    headline = HEADLINE[task.data.settings.task]
    if len(task.rows) < HELD_OUT:
        raise DecurError(
            f"lr_sweep: {len(task.rows)} labelled samples are too few to hold out a tenth; use "
            "more labels, or an `lr` without a sweep"
        )
    rest, held = hold_out(task)
    found: list[dict[str, float]] = journal.done.setdefault("sweep", [])
    for lr in recipe.lr_sweep[len(found) :]:
        model = copy.deepcopy(task.model)
        tried = recipe.model_copy(update={"lr": lr})
        train(
            model,
            task.data,
            rest,
            tried,
            frozen=frozen,
            seed=task.seed,
            features=task.features,
            journal=journal,
        )
        scores = evaluate(model, task.data, held, task.features)
        journal.finish("sweep", {"lr": lr, headline: scores.metrics[headline]})
    return found


def _best(tried: Sequence[dict[str, float]], headline: str) -> float:
    """Choose the learning rate with the best score, the first of equal ones; NaN counts as none."""
    return max(tried, key=lambda t: np.nan_to_num(t[headline], nan=-1))["lr"]


def curve(evaluations: Sequence[tuple[float, Scores]], headline: str) -> MetricsRecord:
    """List the headline metric by epoch, and all metrics of the (first) epoch where it is best.

    The best epoch is chosen on the same data that measure it, so it is recorded but not reported.
    """
    ranks = [np.nan_to_num(scores.metrics[headline], nan=-1) for _, scores in evaluations]
    epoch, best = evaluations[int(np.argmax(ranks))]
    return {
        "curve": [{"epoch": e, headline: scores.metrics[headline]} for e, scores in evaluations],
        "best": {"epoch": epoch, **best.metrics},
    }


def _by_name(classes: Sequence[str], scores: Sequence[float]) -> dict[str, float | None]:
    """Map each class name to its score, None if the class does not count."""
    pairs = zip(classes, scores, strict=True)
    return {name: None if math.isnan(score) else score for name, score in pairs}
