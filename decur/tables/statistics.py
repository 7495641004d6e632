"""Compare two methods on the same seeds: their difference, and its uncertainty.

There are few seeds, so Student's interval decides: it is wide with three seeds, and exact if the
differences are normal. Three values have only ten different bootstrap samples, so their bootstrap
interval is the range of the values, which misses the mean in one of four cases. It is reported next
to Student's, because it needs no normality with more seeds. All functions here are pure.
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
"""The minimum number of seeds for a verdict."""

EXACT = 8
"""Most values for which all bootstrap samples are enumerated: 6,435 different ones."""

RESAMPLES = 10_000
"""Number of bootstrap samples drawn from more values, with a fixed seed."""


class Interval(NamedTuple):
    """A confidence interval of a mean."""

    low: float
    high: float


UNBOUNDED = Interval(-math.inf, math.inf)
"""The interval of the mean of fewer than two values, which is unknown."""


@dataclass(frozen=True)
class Difference:
    """The difference between two methods over n seeds; the first is better on `wins` of them."""

    n: int
    mean: float
    student: Interval
    bootstrap: Interval
    wins: int


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Difference:
    """Compute `a` minus `b` for arrays (seeds,) in the same order; the mean of no seeds is NaN.

    Raises:
        ValueError: the arrays differ in length.
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
    """Compute Student's interval of the mean of (n,) values; unbounded for fewer than two."""
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return UNBOUNDED
    standard = np.array(stats.t.interval(confidence, len(sample) - 1))
    low, high = sample.mean() + stats.sem(sample) * standard
    return Interval(float(low), float(high))


def bootstrap_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Compute the percentile bootstrap interval of the mean of (n,) values.

    Up to `EXACT` values, all n^n samples count; for more values, samples are drawn with a fixed
    seed. The interval is unbounded for fewer than two values.
    """
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return UNBOUNDED
    # scipy.stats.bootstrap only draws at random: with few values, its interval depends on the seed.
    means, weights = _all_means(sample) if len(sample) <= EXACT else _drawn_means(sample)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], weights=weights, method="inverted_cdf")
    return Interval(float(low), float(high))


def _all_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the means of all different samples, and the probability of each."""
    n = len(values)
    samples = np.array(list(itertools.combinations_with_replacement(range(n), n)))
    counts = (samples[:, :, None] == np.arange(n)).sum(axis=1)
    return values[samples].mean(axis=1), stats.multinomial.pmf(counts, n, np.full(n, 1 / n))


def _drawn_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], None]:
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    return drawn.mean(axis=1), None


class Evidence(NamedTuple):
    """The p-values for a claim about several cells, and for its opposite.

    Both are two-sided. The null hypothesis of `holds` is that not every cell is above zero, and
    that of `fails` is that no cell is below zero.
    """

    holds: float
    fails: float


def evidence(differences: Sequence[ArrayLike]) -> Evidence:
    """Compute the evidence of paired differences (seeds,) in each cell.

    A claim must hold in every cell, so the largest p-value counts. One contradicting cell is enough
    against it, so there the smallest counts, times the number of cells (Bonferroni).
    """
    tested = [(np.asarray(of_cell, float).mean(), p_value(of_cell)) for of_cell in differences]
    above = [p if mean > 0 else 1.0 for mean, p in tested]
    below = [p if mean < 0 else 1.0 for mean, p in tested]
    return Evidence(max(above), min(1.0, len(below) * min(below)))


def p_value(values: ArrayLike) -> float:
    """Compute the two-sided p-value of Student's test that (n,) values have mean zero, n > 1."""
    sample = np.asarray(values, float)
    mean, error = sample.mean(), stats.sem(sample)
    if error == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / error, len(sample) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number with Holm's method, in the given order."""
    count, corrected, highest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


class Verdict(NamedTuple):
    """The verdict on a claim, and its p-value, corrected for the number of claims.

    Verdicts are `holds`, `does not hold`, `undecided`, `not enough seeds` (a cell has fewer than
    `ENOUGH_SEEDS`) and `not measured` (no cell has any). The last two have no p-value (NaN).
    """

    said: str
    p: float = math.nan


def verdicts(
    claims: Sequence[Sequence[Sequence[float]]], confidence: float = CONFIDENCE
) -> list[Verdict]:
    """Judge claims together, by the paired differences (seeds,) in each of their cells.

    Each claim is tested in the direction that its evidence favours. The claims with enough seeds
    are corrected for their number with Holm's method. With 95 % confidence, no verdict `holds` or
    `does not hold` is wrong.
    """
    judged = [number for number, cells in enumerate(claims) if _least(cells) >= ENOUGH_SEEDS]
    found = {number: evidence(claims[number]) for number in judged}
    corrected = dict(zip(judged, holm([min(found[number]) for number in judged]), strict=True))
    verdicts = []
    for number, cells in enumerate(claims):
        if number in found:
            said = "holds" if found[number].holds <= found[number].fails else "does not hold"
            p = corrected[number]
            verdicts.append(Verdict(said if p < 1 - confidence else "undecided", p))
        else:
            measured = any(len(of_cell) for of_cell in cells)
            verdicts.append(Verdict("not enough seeds" if measured else "not measured"))
    return verdicts


def _least(cells: Sequence[Sequence[float]]) -> int:
    return min((len(of_cell) for of_cell in cells), default=0)
