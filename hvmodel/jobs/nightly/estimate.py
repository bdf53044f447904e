"""What another night would find: species-richness estimates over what was met once, twice, often.

A *species* is whatever can be met (a finding's signature, an abstract state), a *sample* is one run, and what is counted is in how
many runs each species was met. Sources: Chao 1984 and 1987 (the estimate of what was never met, and its log-normal interval);
Good 1953 (the probability that the next run meets something new); Chao et al. 2014, *Ecological Monographs* 84 (extrapolation);
Böhme 2018, *STADS: Software testing as species discovery* (what that means for a fuzzer).

Assumptions: runs are independent draws from one population, that is the driver, the rules and the mix of profiles stay as they are
and seeds are fresh. Chao's estimate of what was never met is a lower bound; a species that needs a new rule is beyond all of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, exp, expm1, floor, hypot, inf, log1p, sqrt

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Counts:
    """Incidence counts in short: ``samples`` runs met ``seen`` species, ``once`` of them in exactly one run, ``twice`` in two."""

    samples: int
    seen: int
    once: int
    twice: int


def counts_of(incidence: Mapping[str, int], samples: int) -> Counts:
    """Sum up in how many runs each species was met."""
    values = list(incidence.values())
    return Counts(samples, sum(value > 0 for value in values), values.count(1), values.count(2))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with a 95 % interval."""

    value: float
    low: float
    high: float


def unseen(counts: Counts) -> Interval:
    """How many species exist and were never met: Chao2, bias-corrected where no species was met exactly twice.

    The interval is Chao's log-normal one (1987). Without singletons the estimate is 0; the upper end then allows for the three
    singletons that could have been missed by chance at most.
    """
    t, once, twice = counts.samples, counts.once, counts.twice
    if t < 2:
        return Interval(0.0, 0.0, inf)
    k = (t - 1) / t
    if once == 0:
        return Interval(0.0, 0.0, 3.0)
    if twice:
        ratio = once / twice
        value = k * once * ratio / 2
        variance = twice * (k * ratio**2 / 2 + k**2 * ratio**3 + k**2 * ratio**4 / 4)
    else:
        value = k * once * (once - 1) / 2
        total = counts.seen + value
        variance = k * once * (once - 1) / 2 + k**2 * once * (2 * once - 1) ** 2 / 4 - k**2 * once**4 / (4 * total)
    if value <= 0:  # one singleton, no doubleton: nothing is left to estimate from
        return Interval(0.0, 0.0, 3.0)
    spread = exp(Z95 * sqrt(log1p(max(variance, 0.0) / value**2)))
    return Interval(value, value / spread, value * spread)


def discovery(counts: Counts) -> Interval:
    """How probable it is that the next run meets something new (Good-Turing, with Chao's correction); per run, so it may exceed 1
    only where a run meets many new species at once. The interval is that of a Poisson count of singletons."""
    t, once, twice = counts.samples, counts.once, counts.twice
    if t < 2:
        return Interval(1.0, 0.0, 1.0)
    weight = (t - 1) * once
    factor = weight / (weight + 2 * twice) if weight else 0.0
    low, high = poisson_interval(once)
    return Interval(once / t * factor, low / t * factor, high / t)


def poisson_interval(count: int) -> tuple[float, float]:
    """A 95 % interval for the mean of a Poisson count (Garwood 1936, in the approximation of Byar)."""
    if count == 0:
        return 0.0, 3.689
    low = count * (1 - 1 / (9 * count) - Z95 / (3 * sqrt(count))) ** 3
    above = count + 1
    return max(low, 0.0), above * (1 - 1 / (9 * above) + Z95 / (3 * sqrt(above))) ** 3


def another(counts: Counts, more: int) -> Interval:
    """How many species that were never met another ``more`` runs will meet: Chao et al. 2014, equation 18.

    The interval adds up, as independent errors do, what chance did to the number of singletons, how little is known of how many are
    unseen, and the chance of the night itself (Poisson).
    """
    if counts.samples < 2 or more <= 0:
        return Interval(0.0, 0.0, inf if more > 0 else 0.0)
    t, left = counts.samples, unseen(counts)
    low_once, high_once = poisson_interval(counts.once)
    value = _extrapolated(t, counts.once, left.value, more)
    below = hypot(
        value - _extrapolated(t, low_once, left.value, more),
        value - _extrapolated(t, counts.once, left.low, more),
        value - _quantile(value, 0.025),
    )
    above = hypot(
        _extrapolated(t, high_once, max(left.value, high_once), more) - value,
        _extrapolated(t, counts.once, left.high, more) - value,
        _quantile(value, 0.975) - value,
    )
    return Interval(value, float(max(0, floor(value - below))), float(ceil(value + above)))


def _extrapolated(samples: int, once: float, left: float, more: int) -> float:
    if left <= 0 or once <= 0:
        return 0.0
    if left == inf:
        return once * more / samples
    return -left * expm1(more * log1p(-once / (samples * left + once)))


def _quantile(mean: float, share: float) -> int:
    """The smallest number that a Poisson variable stays at or below with this probability."""
    if mean > 500:
        return max(0, round(mean + (Z95 if share > 0.5 else -Z95) * sqrt(mean)))
    number, term = 0, exp(-mean)
    total = term
    while total < share and number < 10_000:
        number += 1
        term *= mean / number
        total += term
    return number
