"""Logistic regression on the frozen features, with its penalty chosen on held-out labels.

The protocol is that of torchgeo-bench (`linear.py`, `main.py`, `conf/config.yaml`). Pooled features
are used as the backbone outputs them, neither standardised nor of unit length. There are 40 inverse
strengths C of the penalty from 1e-6 to 1e4. The first one with the best score on validation samples
is chosen (micro-averaged precision for multi-labels, accuracy for single labels). The final fit
with it uses training and validation samples together. Each fit starts from zeros.

Four things differ.

- The validation samples there are a split of the dataset. Here a tenth of the cell's labelled
  samples, drawn by the run's seed, is held out. This keeps the label fraction, and uses no
  evaluation sample.
- One network reads all bands there. Here the features of several modalities are concatenated.
- A fit there ends after 2,000 steps, the last one after 4,000, or at a tolerance of 1e-6. Here it
  ends after 1,000 or at 1e-4, the defaults of its class, in coordinates that come as close to the
  optimum with these limits (see `fit_logistic`).
- Matrix products here are in float32, not in TensorFloat-32.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from decur.errors import DecurError
from decur.metrics.logistic import Basis, fit_logistic
from decur.training.resume import Journal
from decur.transfer.cell import CellInputs, CellResult
from decur.transfer.pooled import evaluation_labels, image_labels, image_scores, pooled_features
from decur.transfer.task import HELD_OUT, build_task, hold_out, labels_found

STRENGTHS = tuple(map(float, np.logspace(-6, 4, 40)))
"""The values of C."""


def evaluate(inputs: CellInputs) -> CellResult:
    """Choose C, fit the labelled samples, and score the evaluation samples.

    Metrics are those of `image_scores`. The record also has `c`, the `sweep` that chose it, and the
    classes in the labels (`labels_found`). A class without labelled samples is never predicted. If
    all labelled samples have most pixels of one class, it is always predicted.

    Raises:
        DecurError: labels outside the dataset's classes, evaluation samples of a single class, too
            few labelled samples to hold out a tenth, features that are not finite, or no finite
            prediction at any C.
        StoppedError: the job was asked to stop.
    """
    task = replace(build_task(inputs), features=inputs.whole_image_features)
    name, root = inputs.cell.protocol, task.data.shards.root
    record, truth = labels_found(task), evaluation_labels(task, name)
    if len(task.rows) < HELD_OUT:
        raise DecurError(
            f"{root}: {len(task.rows)} labelled samples are too few to hold out a tenth, as "
            f"'{name}' does; use more labels for the cell '{inputs.cell}', or leave it out"
        )
    rest, held = hold_out(task)
    rows = np.concatenate([rest, held])
    features, labels = pooled_features(task, rows, unit=False), image_labels(task, rows)
    classes, metric = len(task.facts.classes), "map_micro" if labels.ndim == 2 else "dominant_class"
    tried = sweep(features, labels, len(rest), classes, metric, inputs.journal)
    best = max(tried, key=lambda one: -1 if one[metric] is None else one[metric])
    if best[metric] is None:
        raise DecurError(
            f"{root}: no regularisation gives finite predictions from the features (at most "
            f"{float(features.abs().max()):.3g}); leave out the protocol '{name}'"
        )
    fit = fit_logistic(Basis.of(features), labels, best["c"], classes=classes)
    test = pooled_features(task, task.test_rows, unit=False)
    record |= {
        "metrics": image_scores(fit.probabilities(test), truth),
        "counts": {"train": len(rows), "held_out": len(held)},
        "c": best["c"],
        "sweep": tried,
    }
    return CellResult(record, task.labelled)


def sweep(
    features: Tensor, labels: Tensor, count: int, classes: int, metric: str, journal: Journal
) -> list[dict[str, Any]]:
    """Fit the first `count` samples at each C, and score the others.

    Args:
        features: `(n, d)`.
        labels: `(n, classes)` or `(n,)`, see `decur.metrics.logistic`.
        count: number of samples that are fitted.
        classes: number of classes.
        metric: name of one metric of `image_scores`.
        journal: keeps the progress.

    Returns:
        By C in ascending order `c` and the metric in percent, None if a prediction is not finite.

    Raises:
        StoppedError: the job was asked to stop.
    """
    found: list[dict[str, Any]] = journal.done.setdefault("sweep", [])
    basis = Basis.of(features[:count])
    for c in STRENGTHS[len(found) :]:
        journal.look()
        fit = fit_logistic(basis, labels[:count], c, classes=classes)
        predicted, score = fit.probabilities(features[count:]), None
        if predicted.isfinite().all():
            score = image_scores(predicted, labels[count:])[metric]
        journal.finish("sweep", {"c": c, metric: score})
    return found
