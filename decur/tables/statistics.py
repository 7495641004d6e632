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


class Evidence(NamedTuple):
    """How well paired differences agree with a claim about several cells, and with its contrary.

    Both are two-sided p-values: `holds` that not every cell is above zero, `fails` that no cell is
    below.
    """

    holds: float
    fails: float


def evidence(differences: Sequence[ArrayLike]) -> Evidence:
    """The evidence of paired differences (seeds,) in each of some cells.

    A claim holds if it does in every cell, so the largest p-value counts. One cell that contradicts
    is enough against it, so the smallest counts there, times the number of cells (Bonferroni).
    """
    tested = [(np.asarray(of_cell, float).mean(), p_value(of_cell)) for of_cell in differences]
    above = [p if mean > 0 else 1.0 for mean, p in tested]
    below = [p if mean < 0 else 1.0 for mean, p in tested]
    return Evidence(max(above), min(1.0, len(below) * min(below)))


def p_value(values: ArrayLike) -> float:
    """The two-sided p-value of Student's test that (n,) values have the mean zero, n > 1."""
    sample = np.asarray(values, float)
    mean, error = sample.mean(), stats.sem(sample)
    if error == 0:
        return float(mean == 0)
    return float(2 * stats.t.sf(abs(mean) / error, len(sample) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's method, in the given order."""
    count, corrected, highest = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


class Verdict(NamedTuple):
    """The judgement of a claim, and its p-value, corrected for the number of claims.

    `holds`, `does not hold`, `undecided`; `not enough seeds`: a cell has fewer than `ENOUGH_SEEDS`;
    `not measured`: no cell has any. The last two have no p-value (NaN).
    """

    said: str
    p: float = math.nan


def verdicts(
    claims: Sequence[Sequence[Sequence[float]]], confidence: float = CONFIDENCE
) -> list[Verdict]:
    """Judge claims by the paired differences (seeds,) in each of their cells, all together.

    Each claim is tested in the direction that its evidence favours. The claims with enough seeds
    are corrected for their number by Holm's method: with 95 % confidence no verdict that a claim
    holds, or does not hold, is wrong.
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
