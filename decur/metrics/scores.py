"""Metrics over a whole evaluation set, in percent."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from decur.errors import DecurError

BATCH = 64
"""Samples per evaluation batch.

The released code averages its metrics over such batches. The result differs from the metric of the
whole set and depends on this number.
"""

HEADLINE = {"classification": "map_micro", "segmentation": "miou"}
"""The metric by which the epochs of a task are compared."""


@dataclass(frozen=True)
class Scores:
    """The result of one evaluation, in percent.

    `metrics` maps names to values. `per_class` lists the average precision or IoU of every class
    in label order, NaN if the class does not count.
    """

    metrics: dict[str, float]
    per_class: list[float]


class Tally:
    """Collect the predictions of an evaluation set, batch by batch, and score them."""

    def __init__(self, ignore: int | None) -> None:
        self._ignore = ignore
        self._sizes: list[int] = []
        self._scores: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._confusions: list[Tensor] = []

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits and targets `(N, classes)`, or `(N, classes, H, W)` and `(N, H, W)`.

        Raises:
            DecurError: logits that are not finite.
        """
        if not logits.isfinite().all():
            raise DecurError(
                "transfer: the model's predictions are not finite because its training diverged; "
                "lower the recipe's lr"
            )
        self._sizes.append(len(logits))
        if logits.ndim == 2:
            self._scores.append(logits.sigmoid())
            self._targets.append(targets.long())
        else:
            self._confusions.append(confusion_matrix(logits, targets, self._ignore))

    def scores(self) -> Scores:
        """Compute the metrics of the whole set, and the released code's means over batches.

        The means leave out an incomplete last batch, unless it is the only one.
        """
        batches = len(self._sizes)
        whole = batches - 1 if batches > 1 and self._sizes[-1] < self._sizes[0] else batches
        if self._confusions:
            return _score_confusions(torch.stack(self._confusions).cpu(), whole, self._ignore)
        scores, targets = torch.cat(self._scores), torch.cat(self._targets)
        each = class_precisions(scores, targets)
        pairs = zip(self._scores[:whole], self._targets[:whole], strict=True)
        by_batch = torch.tensor([_micro(s, t) for s, t in pairs])
        metrics = average_precision(scores, targets) | {"map_micro_per_batch": _mean(by_batch)}
        return Scores(metrics, each.tolist())


def _score_confusions(confusions: Tensor, whole: int, ignore: int | None) -> Scores:
    total = confusions.sum(dim=0)
    by_batch = [segmentation_scores(c, ignore)["miou"] for c in confusions[:whole]]
    metrics = segmentation_scores(total, ignore)
    metrics["miou_per_batch"] = _mean(torch.tensor(by_batch, dtype=torch.double))
    return Scores(metrics, (100 * class_ious(total, ignore)).tolist())


def _mean(values: Tensor) -> float:
    """Average the values that are numbers; NaN if none is."""
    return float(values.nanmean())


def _micro(scores: Tensor, targets: Tensor) -> float:
    return 100 * _precision(scores.flatten(), targets.flatten()) if targets.any() else 0.0


def _precision(scores: Tensor, targets: Tensor) -> float:
    # Imported here because it takes seconds, and segmentation does not need it.
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(targets.cpu(), scores.cpu()))


def class_precisions(scores: Tensor, targets: Tensor) -> Tensor:
    """Compute the average precision in percent of each class `(classes,)`, NaN without targets.

    `scores` float and `targets` integer 0/1, both `(N, classes)`.
    """
    pairs = zip(scores.T, targets.T, strict=True)
    return 100 * torch.tensor(
        [_precision(s, t) if t.any() else math.nan for s, t in pairs], dtype=torch.double
    )


def average_precision(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Compute the mean average precision of a multi-label task (paper §5.1).

    `scores` float and `targets` 0/1, both `(N, classes)`. `map_micro` pools all decisions ("global
    average") and is 0 if no target has any class. `map_macro` is the mean over the classes that
    occur in the targets, NaN if none does.
    """
    return {
        "map_micro": _micro(scores, targets.long()),
        "map_macro": _mean(class_precisions(scores, targets.long())),
    }


def top_accuracy(scores: Tensor, classes: Tensor) -> float:
    """Compute the percentage of samples whose class has the highest score.

    Among equal scores the first class counts. `scores` float `(N, classes)`, `classes` int64
    `(N,)`, from 0.
    """
    return 100 * float((scores.argmax(dim=1) == classes).double().mean())


def confusion_matrix(logits: Tensor, masks: Tensor, ignore: int | None) -> Tensor:
    """Count pixels `(classes, classes)` by truth and prediction, except those of truth `ignore`.

    `logits` `(N, classes, H, W)`, `masks` integer `(N, H, W)`.
    """
    classes, truth, predicted = logits.shape[1], masks.flatten().long(), logits.argmax(1).flatten()
    if ignore is not None:
        counted = truth != ignore
        truth, predicted = truth[counted], predicted[counted]
    return (truth * classes + predicted).bincount(minlength=classes**2).view(classes, classes)


def class_ious(confusion: Tensor, ignore: int | None) -> Tensor:
    """Compute the intersection over union of each class `(classes,)`, a fraction of 1.

    NaN for a class that occurs neither in truth nor in prediction, and for `ignore`.
    """
    counts = confusion.double()
    hits = counts.diag()
    iou = hits / (counts.sum(dim=0) + counts.sum(dim=1) - hits)
    if ignore is not None and ignore < len(iou):
        iou[ignore] = float("nan")
    return iou


def segmentation_scores(confusion: Tensor, ignore: int | None) -> dict[str, float]:
    """Compute mean IoU, pixel and mean class accuracy from one confusion matrix (paper §5.2).

    `miou` is the mean over the classes that occur in truth or prediction, never over `ignore`.
    `mean_accuracy` is the mean recall over the classes that occur in truth. NaN if nothing counts.
    """
    counts = confusion.double()
    iou, hits = class_ious(confusion, ignore), counts.diag()
    return {
        "miou": 100 * _mean(iou),
        "accuracy": 100 * float(hits.sum() / counts.sum()),
        "mean_accuracy": 100 * _mean(hits / counts.sum(dim=1)),
        "classes": int(iou.isfinite().sum()),
    }
