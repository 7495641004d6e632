"""Every metric against a library that does not compute it: torchmetrics or scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
    multilabel_average_precision,
)

from decur.errors import DecurError
from decur.metrics.scores import (
    BATCH,
    Tally,
    average_precision,
    class_ious,
    class_precisions,
    confusion_matrix,
    segmentation_scores,
)

MULTI_LABEL = ["random", "ties", "a class absent", "one sample", "every class everywhere"]
MAPS = ["random", "a class absent", "some images ignored", "one sample", "one class"]


def multi_label(case):
    rng = np.random.default_rng(0)
    scores, targets = rng.random((200, 5)), (rng.random((200, 5)) < 0.3).astype(int)
    if case == "ties":
        scores = scores.round(1)
    if case == "a class absent":
        targets[:, 4] = 0
    if case == "one sample":
        scores, targets = scores[:1], np.array([[0, 1, 0, 1, 0]])
    if case == "every class everywhere":
        targets[:] = 1
    return scores, targets


def maps(case):
    """Logits `(n, 6, 8, 8)` and truth `(n, 8, 8)` of classes 0 (ignored) to 5."""
    rng = np.random.default_rng(0)
    truth, logits = rng.integers(0, 6, (10, 8, 8)), rng.random((10, 6, 8, 8))
    logits += 0.3 * np.eye(6)[truth].transpose(0, 3, 1, 2)
    if case == "a class absent":
        truth[truth == 5] = 4
        logits[:, 5] = -1
        logits[:, 3] = -1  # occurs, and is never predicted
    if case == "some images ignored":
        truth[3:7] = 0
    if case == "one sample":
        truth, logits = truth[:1], logits[:1]
    if case == "one class":
        truth[:] = 2
    return logits, truth


@pytest.mark.parametrize("case", MULTI_LABEL)
def test_average_precision_is_that_of_torchmetrics(case):
    scores, targets = map(torch.tensor, multi_label(case))
    ours = average_precision(scores, targets)
    occur = targets.any(dim=0)
    micro = float(binary_average_precision(scores.flatten(), targets.flatten()))
    each = torch.full((5,), torch.nan)
    for c in occur.nonzero()[:, 0]:
        each[c] = binary_average_precision(scores[:, c], targets[:, c])
    assert ours["map_micro"] == pytest.approx(100 * micro, abs=1e-3)
    assert ours["map_macro"] == pytest.approx(100 * float(each.nanmean()), abs=1e-3)
    found = class_precisions(scores, targets)
    np.testing.assert_allclose(found, 100 * each, atol=1e-3)


def test_precision_where_nothing_occurs_is_zero_pooled_and_no_number_by_class():
    ours = average_precision(torch.rand(4, 3), torch.zeros(4, 3))
    assert ours["map_micro"] == 0
    assert np.isnan(ours["map_macro"])


@pytest.mark.parametrize("case", MAPS)
def test_segmentation_scores_are_those_of_scikit_learn(case):
    logits, truth = maps(case)
    counts = confusion_matrix(torch.tensor(logits), torch.tensor(truth), ignore=0)
    seen = truth > 0
    predicted, true = logits.argmax(axis=1)[seen], truth[seen]
    np.testing.assert_array_equal(counts, sk.confusion_matrix(true, predicted, labels=range(6)))
    everything = [torch.tensor(x) for x in (logits.argmax(axis=1), truth)]
    torch.testing.assert_close(multiclass_confusion_matrix(*everything, 6, ignore_index=0), counts)
    scores, occur = segmentation_scores(counts, ignore=0), sorted({*true, *predicted} - {0})
    ious = sk.jaccard_score(true, predicted, labels=occur, average=None)
    recalls = sk.recall_score(true, predicted, labels=np.unique(true), average=None)
    assert scores["miou"] == pytest.approx(100 * ious.mean())
    assert scores["accuracy"] == pytest.approx(100 * sk.accuracy_score(true, predicted))
    assert scores["mean_accuracy"] == pytest.approx(100 * recalls.mean())
    assert scores["classes"] == len(occur)
    each = class_ious(counts, ignore=0).numpy()
    np.testing.assert_allclose(each[occur], ious)
    assert np.isnan(np.delete(each, occur)).all()


def test_scores_of_ignored_images_alone_are_no_numbers():
    logits = torch.rand(2, 4, 8, 8)
    counts = confusion_matrix(logits, torch.zeros(2, 8, 8), ignore=0)
    scores = segmentation_scores(counts, ignore=0)
    assert scores.pop("classes") == 0
    assert all(np.isnan(score) for score in scores.values())


def test_classes_that_neither_occur_nor_are_predicted_do_not_count():
    counts = torch.zeros(4, 4)
    counts[1, 1] = 3
    scores = segmentation_scores(counts, ignore=0)
    assert (scores["miou"], scores["classes"]) == (100, 1)


def tally(logits, targets, ignore=None):
    found = Tally(ignore)
    for batch in zip(logits.split(BATCH), targets.split(BATCH), strict=True):
        found.add(*batch)
    return found.scores()


@pytest.mark.parametrize("count", [1, BATCH - 1, 2 * BATCH, 2 * BATCH + 7])
def test_the_authors_precision_is_the_mean_over_whole_batches_of_64(count):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 4, generator=rng, dtype=torch.double)
    targets = (torch.rand(count, 4, generator=rng) < 0.4).float()
    targets[0, 0] = 1
    whole = max(count // BATCH, 1)
    parts = list(zip(logits.split(BATCH), targets.long().split(BATCH), strict=True))[:whole]
    expected = [multilabel_average_precision(x.sigmoid(), t, 4, average="micro") for x, t in parts]
    found = tally(logits, targets).metrics
    assert found["map_micro_per_batch"] == pytest.approx(100 * np.mean(expected), abs=1e-3)
    assert (found["map_micro_per_batch"] == pytest.approx(found["map_micro"])) == (count < BATCH)


@pytest.mark.parametrize("count", [1, 2 * BATCH, 2 * BATCH + 7])
def test_the_authors_iou_is_the_mean_over_whole_batches_of_64(count):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 5, 4, 4, generator=rng)
    targets = torch.randint(0, 5, (count, 4, 4), generator=rng)
    targets[BATCH:][targets[BATCH:] == 3] = 1
    whole = max(count // BATCH, 1)
    parts = list(zip(logits.split(BATCH), targets.split(BATCH), strict=True))[:whole]
    expected = [multiclass_jaccard_index(x, t, 5, "macro", ignore_index=0) for x, t in parts]
    found = tally(logits, targets, ignore=0)
    assert found.metrics["miou_per_batch"] == pytest.approx(100 * np.mean(expected), abs=1e-3)
    counts = confusion_matrix(logits, targets, ignore=0)
    assert found.metrics["miou"] == segmentation_scores(counts, ignore=0)["miou"]
    assert np.isnan(found.per_class[0])
    assert np.nanmean(found.per_class) == pytest.approx(found.metrics["miou"])


@pytest.mark.parametrize("worst", [np.nan, np.inf])
def test_predictions_that_are_no_numbers_are_refused(worst):
    logits = torch.zeros(3, 4)
    logits[1, 2] = worst
    with pytest.raises(DecurError, match=r"not finite because its training diverged; lower .* lr"):
        Tally(None).add(logits, torch.zeros(3, 4))


def test_batches_of_ignored_images_do_not_count_in_the_authors_iou():
    logits, targets = torch.randn(2 * BATCH, 3, 4, 4), torch.ones(2 * BATCH, 4, 4).long()
    targets[BATCH:] = 255
    found = tally(logits, targets, ignore=255).metrics
    assert found["miou_per_batch"] == pytest.approx(found["miou"])
