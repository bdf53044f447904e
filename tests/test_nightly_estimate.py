"""What another night would find: the estimators against their formulas and against populations that are known."""

from __future__ import annotations

import random
from collections import Counter
from math import exp, inf, log1p, sqrt

import pytest

from hvmodel.jobs.nightly.estimate import Counts, another, counts_of, discovery, poisson_interval, unseen


def test_counts() -> None:
    """Protects what all estimates start from: how many were met at all, once and twice."""
    assert counts_of({"a": 1, "b": 2, "c": 2, "d": 7, "e": 0}, 9) == Counts(9, 4, 1, 2)
    assert counts_of({}, 0) == Counts(0, 0, 0, 0)


def test_unseen_is_chao2() -> None:
    """Protects the formula (Chao 1987): with 20 once and 8 twice in 100 samples, (t-1)/t * 20^2 / (2 * 8); with nothing met twice
    the bias-corrected form; the interval is log-normal, lies above 0 and holds the estimate."""
    found = unseen(Counts(100, 60, 20, 8))
    assert found.value == pytest.approx(0.99 * 400 / 16)
    ratio = 2.5
    variance = 8 * (0.99 * ratio**2 / 2 + 0.99**2 * ratio**3 + 0.99**2 * ratio**4 / 4)
    spread = exp(1.959964 * sqrt(log1p(variance / found.value**2)))
    assert (found.low, found.high) == pytest.approx((found.value / spread, found.value * spread))
    assert unseen(Counts(100, 60, 5, 0)).value == pytest.approx(0.99 * 5 * 4 / 2)
    assert unseen(Counts(100, 60, 0, 8)).value == 0
    assert unseen(Counts(100, 60, 1, 0)).high >= 3
    assert unseen(Counts(1, 5, 5, 0)).high == inf


def test_discovery_is_good_turing() -> None:
    """Protects the formula (Good 1953): what the next run meets for the first time is what was met once, a run, less Chao's
    correction; nothing met once leaves room for what chance may have hidden."""
    assert discovery(Counts(100, 60, 20, 8)).value == pytest.approx(20 / 100 * 99 * 20 / (99 * 20 + 16))
    none = discovery(Counts(100, 60, 0, 8))
    assert (none.value, none.low) == (0, 0)
    assert 0.03 < none.high < 0.04
    assert discovery(Counts(1, 1, 1, 0)).high == 1


def test_another_night_follows_from_both() -> None:
    """Protects the extrapolation (Chao et al. 2014, equation 18): one run more finds what Good and Turing say, infinitely many find
    all that is unseen, and more runs never find less."""
    counts = Counts(100, 60, 20, 8)
    assert another(counts, 1).value == pytest.approx(discovery(counts).value, rel=0.01)
    assert another(counts, 10**9).value == pytest.approx(unseen(counts).value)
    values = [another(counts, more).value for more in (1, 10, 100, 1000)]
    assert values == sorted(values)
    for more in (1, 10, 100, 1000):
        found = another(counts, more)
        assert 0 <= found.low <= found.value <= found.high
        assert (found.low, found.high) == (int(found.low), int(found.high)), "species are whole"
    assert another(counts, 0).value == 0
    assert another(Counts(0, 0, 0, 0), 5).high == inf


def test_poisson_interval() -> None:
    """Protects the approximation against Garwood's exact limits."""
    for count, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (20, 12.217, 30.888), (100, 81.36, 121.63)):
        found = poisson_interval(count)
        assert found[0] == pytest.approx(low, abs=0.02)
        assert found[1] == pytest.approx(high, rel=0.01)


def nights(seed: int, species: int, runs: int) -> tuple[Counter[int], int]:
    """Two nights of so many runs in a population where the number k is met in a run with probability 0.3 / (k + 1): what the first
    night met how often, and how many the second one met that the first had not."""
    generator = random.Random(seed)
    chances = [0.3 / (number + 1) for number in range(species)]
    first: Counter[int] = Counter()
    second: set[int] = set()
    for run in range(2 * runs):
        met = [number for number, chance in enumerate(chances) if generator.random() < chance]
        if run < runs:
            first.update(met)
        else:
            second.update(met)
    return first, len(second - set(first))


def test_estimates_hold_in_known_populations() -> None:
    """Protects the claim of the report: over forty populations with a long tail the number of new ones in another night lies within
    the interval nearly always and around the estimate on average, and what is unseen is not overstated on average."""
    inside = expected = came = 0.0
    missing = estimated = 0.0
    for seed in range(40):
        first, new = nights(seed, 120, 60)
        counts = counts_of(dict(first.items()), 60)  # type: ignore[arg-type]
        forecast = another(counts, 60)
        inside += forecast.low <= new <= forecast.high
        expected += forecast.value
        came += new
        missing += 120 - counts.seen
        estimated += unseen(counts).value
    assert inside >= 36
    assert expected == pytest.approx(came, rel=0.15)
    assert estimated <= missing, "a lower bound"
    assert estimated >= 0.3 * missing
