import itertools
import math

import numpy as np
import pytest
from scipy import stats

from decur.tables.statistics import (
    EXACT,
    bootstrap_interval,
    holm,
    p_value,
    paired_difference,
    student_interval,
    verdicts,
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
        ([[2.0, 2.1, 2.2], [-1.0, 0.5, 3.0]], "undecided"),
        ([[2.0, 2.1, 2.2], [-2.0, -2.1, -2.2]], "does not hold"),
        ([[2.0, 2.1], [1.0, 1.1, 1.2]], "not enough seeds"),
        ([[2.0, 2.1, 2.2], []], "not enough seeds"),
        ([[0.0, 0.0, 0.0]], "undecided"),
        ([[1.0, 1.0, 1.0]], "holds"),
        ([[], []], "not measured"),
        ([], "not measured"),
    ],
)
def test_a_claim_holds_if_it_does_in_every_cell(differences, said):
    assert verdicts([differences])[0].said == said


def test_one_low_cell_of_many_must_be_lower_to_refute_a_claim():
    low, open_cell = [-1.0, -1.4, -0.8], [1.0, -1.0, 0.5]
    assert student_interval(low).high < 0
    assert verdicts([[low]])[0].said == "does not hold"
    assert verdicts([[low, *[open_cell] * 9]])[0].said == "undecided"


def test_one_claim_of_many_must_be_clearer_to_hold():
    clear, open_cell = [1.0, 1.4, 0.8], [1.0, -1.0, 0.5]
    assert student_interval(clear).low > 0
    assert verdicts([[clear]])[0].said == "holds"
    many = verdicts([[clear], *[[open_cell]] * 9])
    assert many[0] == ("undecided", pytest.approx(10 * p_value(clear)))
    # Claims that cannot be judged do not count.
    assert verdicts([[clear], [], [[]], [[1.0, 2.0]]])[0] == verdicts([[clear]])[0]


def test_the_p_value_agrees_with_the_interval_and_with_scipy():
    values = np.random.default_rng(1).normal(0.4, 1, 8)
    p = p_value(values)
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    low, _ = student_interval(values, 1 - p)
    assert low == pytest.approx(0, abs=1e-9)


def test_holms_correction_is_that_of_its_definition():
    assert holm([]) == []
    # Reject the i-th smallest as long as all before are rejected and p <= alpha / (m - i + 1).
    p = np.random.default_rng(0).uniform(0, 0.05, 12) ** 1.5
    corrected = holm(list(p))
    for alpha in np.linspace(0.001, 1, 333):
        rejected = set()
        for rank, place in enumerate(np.argsort(p)):
            if p[place] > alpha / (len(p) - rank):
                break
            rejected.add(int(place))
        assert {place for place, value in enumerate(corrected) if value <= alpha} == rejected


def test_claims_without_any_truth_are_rarely_judged():
    """Where nothing differs, at most one page in twenty has any verdict."""
    drawn = np.random.default_rng(2).normal(size=(1000, 6, 2, 4))
    wrong = sum(any(v.said != "undecided" for v in verdicts(page.tolist())) for page in drawn)
    assert wrong <= 70  # 50 expected at most, 7 is one standard deviation
