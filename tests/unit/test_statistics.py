import itertools
import math

import numpy as np
import pytest
from scipy import stats

from decur.tables.statistics import (
    EXACT,
    bootstrap_interval,
    paired_difference,
    student_interval,
    verdict,
)

THREE = [1.0, 2.5, 3.1]


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_students_interval_is_that_of_scipy(n, confidence):
    values = np.random.default_rng(n).normal(2, 3, n)
    wanted = stats.t.interval(confidence, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert student_interval(values, confidence) == pytest.approx(wanted)


@pytest.mark.slow
def test_students_interval_of_three_normal_values_holds_the_mean_19_times_in_20():
    draws = np.random.default_rng(0).normal(5, 2, (4000, 3))
    hits = [low <= 5 <= high for low, high in map(student_interval, draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_the_bootstrap_looks_at_every_sample_with_replacement(n):
    values = np.random.default_rng(n).normal(size=n)
    means = [np.mean(sample) for sample in itertools.product(values, repeat=n)]
    wanted = np.quantile(means, [0.05, 0.95], method="inverted_cdf")
    assert bootstrap_interval(values, 0.9) == pytest.approx(wanted)


def test_the_bootstrap_of_three_values_is_their_range():
    assert bootstrap_interval(THREE) == pytest.approx((1.0, 3.1))
    student = student_interval(THREE)
    assert student.low < 1.0 and student.high > 3.1


def test_the_bootstrap_of_many_values_is_seeded_and_near_students():
    values = np.random.default_rng(1).normal(3, 1, 200)
    first, again = bootstrap_interval(values), bootstrap_interval(values)
    assert first == again
    assert first == pytest.approx(student_interval(values), abs=0.02)
    assert len(values) > EXACT


@pytest.mark.parametrize("interval", [student_interval, bootstrap_interval])
def test_one_value_or_none_says_nothing_of_the_mean(interval):
    assert interval([4.0]) == interval([]) == (-math.inf, math.inf)


def test_a_difference_is_paired_and_counts_who_is_ahead():
    found = paired_difference([5, 7, 9], [4, 8, 6])
    assert (found.n, found.mean, found.wins) == (3, 1.0, 2)
    assert found.student == student_interval([1, -1, 3])
    assert found.bootstrap == bootstrap_interval([1, -1, 3])
    assert paired_difference([5, 6], [4, 6]).wins == 1  # a tie is not ahead
    apart = paired_difference([10, 20, 30], [9, 19, 29])
    assert apart.student == pytest.approx((1, 1))  # what the seeds share cancels
    assert math.isnan(paired_difference([], []).mean)
    with pytest.raises(ValueError, match="equal length"):
        paired_difference([1, 2], [1])


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([[2.0, 2.1, 2.2], [1.0, 1.1, 1.2]], "holds"),
        ([[2.0, 2.1, 2.2], [-1.0, 0.5, 3.0]], "not enough seeds"),
        ([[2.0, 2.1, 2.2], [-2.0, -2.1, -2.2]], "does not hold"),
        ([[2.0, 2.1], [1.0, 1.1, 1.2]], "not enough seeds"),
        ([[2.0, 2.1, 2.2], []], "not enough seeds"),
        ([[0.0, 0.0, 0.0]], "not enough seeds"),
        ([[], []], "not measured"),
        ([], "not measured"),
    ],
)
def test_a_claim_holds_if_every_interval_is_above_zero(differences, said):
    assert verdict(differences) == said


def test_one_low_cell_of_many_must_be_lower_to_refute_a_claim():
    low, open_cell = [-1.0, -1.4, -0.8], [1.0, -1.0, 0.5]
    assert student_interval(low).high < 0
    assert verdict([low]) == "does not hold"
    assert verdict([low, *[open_cell] * 9]) == "not enough seeds"
