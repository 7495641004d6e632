"""Estimate the share of common dimensions without the paper's grid search (§6, figure 3a).

The grid search pretrains and transfers once per share. This module needs one run whose dimensions
are all common (variant `common-100`). It measures how much of the information that two augmented
views of a modality agree on also appears in the other modality:

    share = cross / sqrt(within1 * within2),

Spearman's correction for attenuation (1904). Information that changes with the augmentation or by
chance is in no term, so it counts neither as common nor as unique. There are two estimates, with
different quantities for `cross` and `within`: the alignment of the embeddings, which the loss
raises, and the number of directions that the backbones' features share, which does not depend on
a basis.

Counting the dimensions whose alignment loss (equation 7) is below a threshold does not work: among
all rotations of an embedding with a given mean alignment, the on-diagonal loss is smallest if all
dimensions are equally aligned. Training ends near that point, so all dimensions pass or none does.

An estimate covers only information that the run has kept. The run needs its intra-modal terms:
cross-modal Barlow Twins drops unique information, so nearly all that it keeps is common. A run
whose dimensions are all common may drop unique information too; its share is then too high. A run
with unique dimensions keeps more, but its alignment cannot exceed its own share, so only its
directions are informative. A run that has not yet learned the common information gives too low a
share.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.cluster.signals import check_stop
from decur.config.explainers import Share
from decur.errors import DecurError
from decur.explain.run import Explanation
from decur.explain.subject import Subject
from decur.training.prefetch import ahead
from decur.training.views import augment_batch, read_batch

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Views = tuple[Array, Array]

PACKAGES = ()
BATCH = 256
LEAST = 8
"""Fewest samples; half of fewer is too few to estimate a correlation."""


class Estimate(NamedTuple):
    """Agreement across modalities, agreement of two views per modality, and the share in [0, 1].

    The share is NaN if the two views of a modality do not agree.
    """

    cross: float
    within1: float
    within2: float
    share: float


def _corrected(cross: float, within1: float, within2: float, least: float) -> Estimate:
    """Compute the share if the views of both modalities agree by more than `least`."""
    share = math.nan
    if min(within1, within2) > least:
        share = min(max(cross / math.sqrt(within1 * within2), 0.0), 1.0)
    return Estimate(cross, within1, within2, share)


def aligned_share(views1: Views, views2: Views) -> Estimate:
    """Estimate the share from the alignment of embeddings: two views `(N, K)` per modality.

    If the dimensions are decorrelated, rotating both embeddings does not change the mean
    correlation of corresponding dimensions. A constant dimension correlates with nothing. The share
    is NaN if the two views of a modality correlate by less than a tenth (random networks: a
    twentieth).

    Raises:
        DecurError: the shapes differ, or there are too few samples.
    """
    _check(views1, views2)
    if views1[0].shape != views2[0].shape:
        shapes = f"{views1[0].shape} and {views2[0].shape}"
        raise DecurError(f"embeddings must have the same shape, got {shapes}")
    pairs = (*zip(views1, views2, strict=True), views1, views2)
    first, second, within1, within2 = (float(_correlations(*pair).mean()) for pair in pairs)
    return _corrected((first + second) / 2, within1, within2, least=0.1)


def canonical_share(views1: Views, views2: Views, *, seed: int = 0) -> Estimate:
    """Estimate the share from the directions that features `(N, d)` and `(N, e)` have in common.

    Each modality has two views. Directions are fitted on one half of the samples and correlated on
    the other half, and vice versa. The square that is expected by chance is subtracted, so
    independent features give 0 on average. Each modality is first reduced to the number of
    principal components on which its two views agree best, so N may be below d, and features may be
    constant or of low rank. The share is NaN if the two views of a modality share less than one
    direction, as with random networks. Few samples, or views that differ as much as they agree,
    lower the share: a badly fitted direction recurs within a modality rather than across.

    Raises:
        DecurError: the numbers of samples differ, or there are too few.
    """
    _check(views1, views2)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(views1[0])), 2)
    found = [_held_out(views1, views2, *pair) for pair in (halves, halves[::-1])]
    cross, within1, within2 = (float(value) for value in np.mean(found, axis=0))
    return _corrected(cross, within1, within2, least=1.0)


def _held_out(views1: Views, views2: Views, fit: Rows, test: Rows) -> tuple[float, float, float]:
    (a1, b1), within1 = _repeated(views1, fit, test)
    (a2, b2), within2 = _repeated(views2, fit, test)
    cross = (directions(a1, a2, fit, test) + directions(b1, b2, fit, test)) / 2
    return cross, within1, within2


def _repeated(views: Views, fit: Rows, test: Rows) -> tuple[Views, float]:
    """Reduce both views to the number of principal components that share most directions.

    Returns both reduced views, and the number of directions that they share.
    """
    a, b = (_principal(x, fit) for x in views)
    most = min(a.shape[1], b.shape[1])
    ranks = [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
    repeated = [directions(a[:, :rank], b[:, :rank], fit, test) for rank in ranks]
    best = int(np.argmax(repeated))
    return (a[:, : ranks[best]], b[:, : ranks[best]]), repeated[best]


def directions(xa: Array, xb: Array, fit: Rows, test: Rows) -> float:
    """Count the directions that `(N, d)` and `(N, e)` share, at most min(d, e).

    Both must be white on the rows `fit`. The count is the sum of the squared canonical
    correlations, each adjusted for chance (Wherry, 1931).
    """
    left, _, right = np.linalg.svd(xa[fit].T @ xb[fit], full_matrices=False)
    r = _correlations(xa[test] @ left, xb[test] @ right.T)
    n = len(test)
    return float((1 - (1 - r**2) * (n - 1) / (n - 2)).sum())


def _principal(x: Array, fit: Rows) -> Array:
    """Project all rows on the principal components of the rows `fit`, whitened there: `(N, r)`."""
    scaled = (x - x[fit].mean(0)) * _inverse(x[fit].std(0))
    _, deviations, axes = np.linalg.svd(scaled[fit], full_matrices=False)
    kept = deviations > 1e-6 * deviations.max(initial=1e-30)
    return np.asarray(scaled @ axes[kept].T / deviations[kept] * math.sqrt(len(fit)))


def _correlations(a: Array, b: Array) -> Array:
    """Correlate each column of `a` with the same column of `b`; 0 if either is constant."""
    za, zb = ((x - x.mean(0)) * _inverse(x.std(0)) for x in (a, b))
    return np.asarray((za * zb).mean(0))


def _inverse(scale: Array) -> Array:
    """Compute 1 / scale, or 0 where the scale is within rounding error of 0."""
    tiny = 1e-7 * max(float(scale.max(initial=0)), 1e-30)
    return np.where(scale > tiny, 1 / np.maximum(scale, tiny), 0.0)


def _check(views1: Views, views2: Views) -> None:
    counts = [len(x) for x in (*views1, *views2)]
    if len(set(counts)) > 1 or counts[0] < LEAST:
        raise DecurError(f"samples per view: {counts}; expected equal numbers of at least {LEAST}")


def explain(subject: Subject, recipe: Share) -> Explanation:
    """Compute `estimates` from two augmented views of random samples, as in pretraining.

    Raises:
        DecurError: there are too few samples.
    """
    (rows,) = subject.batches(recipe.samples, 1)
    return Explanation(estimates(*represent(subject, rows)))


def estimates(features: tuple[Views, Views], embeddings: tuple[Views, Views]) -> pd.DataFrame:
    """Write one line per estimate: estimate, cross, within1, within2, share, shuffled.

    `shuffled` is the share of the same samples in wrong pairs, which should be 0. Arguments are
    indexed by `[modality][view]`, as `represent` returns them.
    """
    by_name = {
        "alignment": (aligned_share, embeddings),
        "canonical": (canonical_share, features),
    }
    lines = []
    for name, (estimator, (views1, views2)) in by_name.items():
        share = estimator(views1, views2)
        wrong = estimator(views1, (np.roll(views2[0], 1, axis=0), np.roll(views2[1], 1, axis=0)))
        lines.append({"estimate": name, **share._asdict(), "shuffled": wrong.share})
    return pd.DataFrame(lines)


@torch.no_grad()
def represent(subject: Subject, rows: Rows) -> tuple[tuple[Views, Views], tuple[Views, Views]]:
    """Compute features and embeddings of two augmented views per modality: `[modality][view]`."""
    model, pretrain = subject.model, subject.pretrain
    parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(4)]
    batches = enumerate(np.split(rows, range(BATCH, len(rows), BATCH)))
    for _, read in ahead(lambda at: read_batch(subject.shards, at[1], pretrain, at[0], 2), batches):
        check_stop()
        views = augment_batch(read, pretrain, subject.device)
        for i in range(4):
            branch, view = divmod(i, 2)
            features = model.backbones[branch](views[branch][view])
            parts[i].append((features, model.project(features, branch)))
    joined = [[torch.cat(z).double().cpu().numpy() for z in zip(*p, strict=True)] for p in parts]
    (f1a, z1a), (f1b, z1b), (f2a, z2a), (f2b, z2b) = joined
    return ((f1a, f1b), (f2a, f2b)), ((z1a, z1b), (z2a, z2b))
