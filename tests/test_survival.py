"""The statistics against published and hand-computed examples, and against what must hold for all samples."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmodel.jobs.survival import LogRank, Observation, holm, kaplan_meier, log_rank, quantile


def sample(text: str) -> list[Observation]:
    """``"6 6 9+ 10"``: values, with a plus where the event was not seen."""
    return [Observation(float(word.rstrip("+")), not word.endswith("+")) for word in text.split()]


TREATED = sample("6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+")
PLACEBO = sample("1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23")
"""Weeks of remission of leukaemia under 6-MP and placebo, Freireich et al. 1963: the example of most textbooks."""

SAMPLES = st.lists(st.builds(Observation, st.integers(0, 12).map(float), st.booleans()), min_size=1, max_size=12)


# --- Kaplan-Meier -----------------------------------------------------------------------------------------------------


def test_the_textbook_curve() -> None:
    """Protects the picture: the curve of the 6-MP patients as Kleinbaum and Klein, Survival Analysis, table 2.2, have it."""
    steps = [(step.value, step.at_risk, round(step.survival, 4)) for step in kaplan_meier(TREATED)]
    assert steps == [(6, 21, 0.8571), (7, 17, 0.8067), (10, 15, 0.7529), (13, 12, 0.6902), (16, 11, 0.6275), (22, 7, 0.5378),
                     (23, 6, 0.4482)]  # fmt: skip


def test_a_curve_by_hand() -> None:
    """Protects the order at ties: what ends without event at the value of an event is still at risk there."""
    steps = [(step.value, step.at_risk, step.survival) for step in kaplan_meier(sample("1 2 2+ 3+ 4"))]
    assert steps == [(1, 5, pytest.approx(4 / 5)), (2, 4, pytest.approx(4 / 5 * 3 / 4)), (4, 1, 0.0)]
    assert kaplan_meier([]) == kaplan_meier(sample("5+ 7+")) == []


@given(SAMPLES)
def test_without_censoring_the_curve_is_the_share_left(observations: list[Observation]) -> None:
    """Protects against a biased estimate: where every event was seen, the curve counts what is left; it never rises."""
    seen = [Observation(item.value, True) for item in observations]
    for step in kaplan_meier(seen):
        assert step.survival == pytest.approx(sum(item.value > step.value for item in seen) / len(seen))
    shares = [1.0, *(step.survival for step in kaplan_meier(observations))]
    assert shares == sorted(shares, reverse=True)
    assert min(shares) >= -1e-12


# --- quantiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "percent", "value", "exact"),
    [
        ("1 2 3 4 5 6 7 8 9 10", 50, 5, True),
        ("1 2 3 4 5 6 7 8 9 10", 90, 9, True),
        ("10 9 8 7 6 5 4 3 2 1", 91, 10, True),
        ("7", 50, 7, True),
        ("1 2 9+", 50, 2, True),
        ("1 2 9+", 90, 9, False),
        ("1 9+ 9+", 50, 9, False),
        ("9+ 8+ 7+", 50, 8, False),
        ("5+ 9 9 9", 50, 9, True),
        ("5+ 6+ 9 9", 90, 9, False),
    ],
)
def test_quantiles(text: str, percent: int, value: float, exact: bool) -> None:
    """Protects honesty: a percentile that falls among trials that did not find is a bound and says so."""
    assert quantile(sample(text), percent) == (value, exact)


def test_no_quantile_of_nothing() -> None:
    """Protects against a figure out of thin air."""
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 50)


@given(SAMPLES, st.lists(st.integers(0, 9), min_size=12, max_size=12), st.integers(1, 100))
def test_a_bound_is_a_bound(observations: list[Observation], later: list[int], percent: int) -> None:
    """Protects the sign ``>``: whenever the missing events would have come, the quantile would not have been below the bound."""
    told = quantile(observations, percent)
    true = [Observation(item.value + (0 if item.seen else more), True) for item, more in zip(observations, later, strict=False)]
    if not told.exact:
        assert quantile(true, percent).value >= told.value


# --- the log-rank test ------------------------------------------------------------------------------------------------


def test_the_textbook_test() -> None:
    """Protects the verdict: 9 events against 19.25 expected, chi-square 16.79 (Collett; Kleinbaum and Klein, chapter 2)."""
    test = log_rank(TREATED, PLACEBO)
    assert (test.seen, round(test.expected, 2), round(test.variance, 3)) == (9, 19.25, 6.257)
    assert test.z**2 == pytest.approx(16.793, abs=0.001)
    assert test.p_later == pytest.approx(4.17e-5 / 2, rel=0.01)
    assert test.p_sooner == pytest.approx(1 - 4.17e-5 / 2, rel=0.01)


def test_a_test_by_hand() -> None:
    """Protects the sums: two against two, value by value. 1: 2 of 4 at risk; 2: 1 of 3; 4: 1 of 2; 5: the last one, no variance."""
    test = log_rank(sample("1 4"), sample("2 5"))
    assert test.seen == 2
    assert test.expected == pytest.approx(2 / 4 + 1 / 3 + 1 / 2 + 0)
    assert test.variance == pytest.approx(1 / 4 + 2 / 9 + 1 / 4)
    tied = log_rank(sample("3 3"), sample("3 9+"))
    assert tied.seen == 2
    assert tied.expected == pytest.approx(3 * 2 / 4)
    assert tied.variance == pytest.approx(3 * (1 / 4) * (4 - 3) / (4 - 1))


def test_nothing_to_compare_says_nothing() -> None:
    """Protects against a verdict without events, and against a division by zero."""
    for first, second in (("", ""), ("5+", "9+"), ("4", ""), ("", "4"), ("4", "4")):
        test = log_rank(sample(first), sample(second))
        assert (test.z, test.p_later, test.p_sooner) == (0, 0.5, 0.5)


@given(SAMPLES)
def test_equal_samples_are_alike(observations: list[Observation]) -> None:
    """Protects a run against itself: no lag, no lead."""
    assert log_rank(observations, observations).p_later == pytest.approx(0.5)


@given(SAMPLES, SAMPLES)
def test_the_test_is_symmetric(first: list[Observation], second: list[Observation]) -> None:
    """Protects the direction: exchanging the groups exchanges lag and lead, and only ranks count."""
    test, exchanged = log_rank(first, second), log_rank(second, first)
    assert test.z == pytest.approx(-exchanged.z)
    assert test.p_later == pytest.approx(exchanged.p_sooner)
    stretched = [[Observation(item.value**3 + 7, item.seen) for item in group] for group in (first, second)]
    assert log_rank(*stretched).z == pytest.approx(test.z)


@given(SAMPLES, SAMPLES, st.integers(0, 20))
def test_later_events_are_no_sign_of_speed(first: list[Observation], second: list[Observation], by: int) -> None:
    """Protects the direction: events that come later are never fewer than expected to a smaller degree."""
    later = [Observation(item.value + by, True) for item in first]
    test, shifted = log_rank([Observation(item.value, True) for item in first], second), log_rank(later, second)
    assert shifted.seen - shifted.expected <= test.seen - test.expected + 1e-9


def test_a_clear_lag_is_seen() -> None:
    """Protects the purpose: ten that needed ten times as long are a loss even among eighty comparisons, and not a gain."""
    then = sample("10 12 15 20 22 30 31 40 44 50")
    now = [Observation(item.value * 10, True) for item in then]
    test = log_rank(now, then)
    assert holm([test.p_later] + [0.5] * 79)[0] < 0.001 < test.p_sooner
    assert log_rank(sample("60+ " * 10), then).p_later < 1e-5


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Protects CI from crying wolf: among 1,500 comparisons of equal power, each of 12 strata of 5 and 5 trials with a limit, about
    5 in 100 are below 0.05 and next to none is below 0.001."""
    random = Random(1)

    def trials(scale: float) -> list[Observation]:
        values = [random.expovariate(1 / scale) for _ in range(5)]
        return [Observation(min(value, 100.0), value <= 100) for value in values]

    chances = []
    for _ in range(1500):
        strata = [log_rank(trials(scale), trials(scale)) for scale in (1, 3, 10, 30, 60, 80, 100, 150, 200, 300, 500, 1000)]
        chances.append(sum(strata, LogRank()).p_later)
    assert 0.03 < sum(p < 0.05 for p in chances) / len(chances) < 0.07
    assert sum(p < 0.001 for p in chances) <= 6


# --- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Protects single verdicts: the smallest of n counts n times, the next n - 1 times, none less than one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_is_stricter_than_none_and_laxer_than_bonferroni(probabilities: list[float]) -> None:
    """Protects against a correction that corrects the wrong way."""
    for raw, adjusted in zip(probabilities, holm(probabilities), strict=True):
        assert raw <= adjusted <= 1
    if probabilities:
        assert min(holm(probabilities)) == pytest.approx(min(1, len(probabilities) * min(probabilities)))
