"""Metrics over a whole evaluation set, in percent (torchmetrics counts; we only average)."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multilabel_average_precision,
)


def average_precision(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Mean average precision of a multi-label task (paper §5.1).

    `scores` float and `targets` 0/1, both `(N, classes)`. `map_micro` pools all decisions ("global
    average"); `map_macro` is the mean over the classes that occur in the targets.
    """
    targets = targets.long()
    classes = scores.shape[1]
    micro = multilabel_average_precision(scores, targets, classes, average="micro")
    each = multilabel_average_precision(scores, targets, classes, average="none")
    return {
        "map_micro": 100 * float(micro),
        "map_macro": 100 * float(each[targets.any(dim=0)].mean()),
    }


def confusion_matrix(logits: Tensor, masks: Tensor, ignore: int | None) -> Tensor:
    """Counts `(classes, classes)` of truth by prediction; pixels of truth `ignore` are left out.

    `logits` `(N, classes, H, W)`, `masks` integer `(N, H, W)`.
    """
    return multiclass_confusion_matrix(
        logits.argmax(dim=1), masks.long(), num_classes=logits.shape[1], ignore_index=ignore
    )


def segmentation_scores(confusion: Tensor, ignore: int | None) -> dict[str, float]:
    """Mean IoU and pixel accuracy from one confusion matrix (paper §5.2).

    The mean is over the classes that occur in truth or prediction, never over `ignore`.
    """
    counts = confusion.double()
    hits = counts.diag()
    union = counts.sum(dim=0) + counts.sum(dim=1) - hits
    counted = union > 0
    if ignore is not None and ignore < len(counted):
        counted[ignore] = False
    iou = hits[counted] / union[counted]
    return {
        "miou": 100 * float(iou.mean()) if len(iou) else float("nan"),
        "accuracy": 100 * float(hits.sum() / counts.sum().clamp(min=1)),
        "classes": int(torch.count_nonzero(counted)),
    }
