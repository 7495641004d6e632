"""Two methods on the same seeds: how far apart they are, and how sure that is. Pure functions.

Seeds are few, so the interval that decides is Student's: wide with three of them, and exact if the
differences are normal. A bootstrap of three values knows ten different samples only; its interval
is their range, which misses the mean every fourth time. It is told beside Student's, for it needs
no normality where there are more seeds.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3
"""Seeds below which no claim is judged."""

EXACT = 8
"""Values of which all bootstrap samples are looked at: 6,435 different ones."""

RESAMPLES = 10_000
"""Bootstrap samples drawn of more values, always the same ones."""


class Interval(NamedTuple):
    """Where a mean lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What one method has more than another over n seeds.

    `wins` is how many of the seeds it is ahead on.
    """

    n: int
    mean: float
    student: Interval
    bootstrap: Interval
    wins: int


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Difference:
    """How much more `a` has than `b`, arrays (seeds,) in the same order; without any, NaN.

    Raises:
        ValueError: they differ in length.
    """
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"arrays of equal length expected, got {first.shape} and {second.shape}")
    found = first - second
    return Difference(
        n=len(found),
        mean=float(found.mean()) if len(found) else math.nan,
        student=student_interval(found, confidence),
        bootstrap=bootstrap_interval(found, confidence),
        wins=int((found > 0).sum()),
    )


def student_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the mean of (n,) values, exact if they are normal; of one value, any mean."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return Interval(-math.inf, math.inf)
    quantile = float(stdtrit(len(found) - 1, (1 + confidence) / 2))
    half = quantile * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(float(found.mean()) - half, float(found.mean()) + half)


def bootstrap_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of the means of all samples with replacement of (n,) values.

    Up to `EXACT` values it is that of all n^n samples, for more that of seeded ones. Nothing is
    known from fewer than two.
    """
    found = np.asarray(values, float)
    if len(found) < 2:
        return Interval(-math.inf, math.inf)
    means, weights = _exact(found) if len(found) <= EXACT else _drawn(found)
    order = np.argsort(means, kind="stable")
    total = np.cumsum(weights[order])
    share = (1 - confidence) / 2
    low = np.searchsorted(total, share * total[-1] * (1 - 1e-9))
    high = np.searchsorted(total, (1 - share) * total[-1] * (1 - 1e-9))
    return Interval(float(means[order][low]), float(means[order][high]))


def _exact(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The means of all different samples, and how many of the n^n samples each stands for."""
    n = len(values)
    samples = np.array(list(itertools.combinations_with_replacement(range(n), n)))
    counts = (samples[:, :, None] == np.arange(n)).sum(axis=1)
    factorials = np.array([math.factorial(i) for i in range(n + 1)], float)
    return values[samples].mean(axis=1), factorials[n] / factorials[counts].prod(axis=1)


def _drawn(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    return drawn.mean(axis=1), np.ones(RESAMPLES)


def verdict(differences: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> str:
    """Whether a claim about several cells holds, from the paired differences (seeds,) in each.

    `holds`: in every cell the interval lies above zero. All must, so there is nothing to correct
    for their number. `does not hold`: in some cell it lies below zero, at a confidence raised for
    the number of cells (Bonferroni), since one false alarm of many would do. `not enough seeds`: a
    cell has fewer than `ENOUGH_SEEDS`, or the intervals leave it open. `not measured`: no cell has
    any.
    """
    counts = [len(found) for found in differences]
    if not any(counts):
        return "not measured"
    if min(counts) < ENOUGH_SEEDS:
        return "not enough seeds"
    if all(student_interval(found, confidence).low > 0 for found in differences):
        return "holds"
    raised = 1 - (1 - confidence) / len(counts)
    if any(student_interval(found, raised).high < 0 for found in differences):
        return "does not hold"
    return "not enough seeds"
