"""Compare two methods on the same seeds: how far apart they are, and how certain that is.

Seeds are few, so Student's interval decides: it is wide with three of them, and exact if the
differences are normal. Three values have only ten different bootstrap samples; their interval is
the range of the values, which misses the mean in one of four cases. It stands beside Student's, as
it needs no normality where there are more seeds. All functions here are pure.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3
"""The least seeds with which a claim is judged."""

EXACT = 8
"""The most values of which all bootstrap samples are enumerated: 6,435 different ones."""

RESAMPLES = 10_000
"""Bootstrap samples that are drawn from more values, with a fixed seed."""


class Interval(NamedTuple):
    """A confidence interval of a mean."""

    low: float
    high: float


UNBOUNDED = Interval(-math.inf, math.inf)
"""The interval from fewer than two values, which leave the mean open."""


@dataclass(frozen=True)
class Difference:
    """The difference of one method from another over n seeds; the first wins on `wins` of them."""

    n: int
    mean: float
    student: Interval
    bootstrap: Interval
    wins: int


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Difference:
    """Compare arrays (seeds,) in the same order: `a` minus `b`; the mean of none is NaN.

    Raises:
        ValueError: they differ in length.
    """
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"arrays of equal length expected, got {first.shape} and {second.shape}")
    differences = first - second
    return Difference(
        n=len(differences),
        mean=float(differences.mean()) if len(differences) else math.nan,
        student=student_interval(differences, confidence),
        bootstrap=bootstrap_interval(differences, confidence),
        wins=int((differences > 0).sum()),
    )


def student_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of (n,) values; unbounded for fewer than two."""
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return UNBOUNDED
    standard = np.array(stats.t.interval(confidence, len(sample) - 1))
    low, high = sample.mean() + stats.sem(sample) * standard
    return Interval(float(low), float(high))


def bootstrap_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of the means of samples with replacement of (n,) values.

    Of up to `EXACT` values all n^n samples count, of more the seeded ones. It is unbounded for
    fewer than two.
    """
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return UNBOUNDED
    # scipy.stats.bootstrap only draws at random: of few values its interval depends on the seed.
    means, weights = _all_means(sample) if len(sample) <= EXACT else _drawn_means(sample)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], weights=weights, method="inverted_cdf")
    return Interval(float(low), float(high))


def _all_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The means of all different samples, and the probability of each."""
    n = len(values)
    samples = np.array(list(itertools.combinations_with_replacement(range(n), n)))
    counts = (samples[:, :, None] == np.arange(n)).sum(axis=1)
    return values[samples].mean(axis=1), stats.multinomial.pmf(counts, n, np.full(n, 1 / n))


def _drawn_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], None]:
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    return drawn.mean(axis=1), None


def verdict(differences: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> str:
    """Judge a claim about several cells by the paired differences (seeds,) in each.

    `holds`: in every cell the interval lies above zero. All must, so there is nothing to correct
    for their number. `does not hold`: in some cell it lies below zero, at a confidence raised for
    the number of cells (Bonferroni), since one false alarm of many would do. `not enough seeds`: a
    cell has fewer than `ENOUGH_SEEDS`, or the intervals leave it open. `not measured`: no cell has
    any.
    """
    counts = [len(of_cell) for of_cell in differences]
    if not any(counts):
        return "not measured"
    if min(counts) < ENOUGH_SEEDS:
        return "not enough seeds"
    if all(student_interval(of_cell, confidence).low > 0 for of_cell in differences):
        return "holds"
    raised = 1 - (1 - confidence) / len(counts)
    if any(student_interval(of_cell, raised).high < 0 for of_cell in differences):
        return "does not hold"
    return "not enough seeds"
