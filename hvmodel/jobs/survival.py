"""Statistics of times to an event that some never reached: Kaplan-Meier, quantiles, the log-rank test, Holm's correction.

An observation is a value and whether the event was seen there; where it was not, the value says that it had not happened until then
(it is *censored*). Values are in any unit; ties are allowed. Sources: Kaplan and Meier 1958; Mantel 1966; Collett, *Modelling
Survival Data in Medical Research*, chapters 2.1 and 2.6; Holm 1979.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import NamedTuple


class Observation(NamedTuple):
    """Seen at ``value``, or not seen until ``value``, which is not negative."""

    value: float
    seen: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a survival curve: from ``value`` on the share ``survival`` is left. ``at_risk`` had not ended before ``value``."""

    value: float
    survival: float
    at_risk: int


def kaplan_meier(observations: Iterable[Observation]) -> list[Step]:
    """The survival curve, one step for each value at which an event was seen; 1 before the first step. Cost: n log n."""
    steps: list[Step] = []
    survival = 1.0
    for value, events, at_risk in _by_value(observations):
        if events:
            survival *= 1 - events / at_risk
            steps.append(Step(value, survival, at_risk))
    return steps


def _by_value(observations: Iterable[Observation]) -> Iterator[tuple[float, int, int]]:
    """(value, events seen there, observations that had not ended before), ascending."""
    ordered = sorted(observations)
    at = 0
    while at < len(ordered):
        value, start, events = ordered[at].value, at, 0
        while at < len(ordered) and ordered[at].value == value:
            events += ordered[at].seen
            at += 1
        yield value, events, len(ordered) - start


class Quantile(NamedTuple):
    """A quantile: exactly ``value``, or, if it falls among observations without the event, somewhere above ``value``."""

    value: float
    exact: bool


def quantile(observations: Sequence[Observation], percent: int) -> Quantile:
    """The smallest value by which ``percent`` (1 to 100) of 100 observations had the event.

    What never had it counts as later than all others. If the quantile falls there, the same quantile of the values themselves
    bounds it from below. Raises ValueError without observations.
    """
    if not observations:
        raise ValueError("no quantile of nothing")
    rank = -(-len(observations) * percent // 100)
    seen = sorted(observation.value for observation in observations if observation.seen)
    if rank <= len(seen):
        return Quantile(seen[rank - 1], True)
    return Quantile(sorted(observation.value for observation in observations)[rank - 1], False)


@dataclass(frozen=True, slots=True)
class LogRank:
    """What a log-rank test of two groups counts, for the first one: events seen, events expected if the groups were alike, and the
    variance of the difference. Tests of several strata add up."""

    seen: float = 0.0
    expected: float = 0.0
    variance: float = 0.0

    def __add__(self, other: LogRank) -> LogRank:
        return LogRank(self.seen + other.seen, self.expected + other.expected, self.variance + other.variance)

    @property
    def z(self) -> float:
        """The difference in standard deviations: negative if the first group has its events later. 0 if nothing can be said."""
        return (self.seen - self.expected) / sqrt(self.variance) if self.variance > 0 else 0.0

    @property
    def p_later(self) -> float:
        """How probable a lag like the first group's, or a greater one, is if the groups are alike: 0.5 for equal groups. One-sided,
        normal approximation."""
        return 0.5 * erfc(-self.z / sqrt(2))

    @property
    def p_sooner(self) -> float:
        """The same for a lead."""
        return 0.5 * erfc(self.z / sqrt(2))


def log_rank(first: Sequence[Observation], second: Sequence[Observation]) -> LogRank:
    """Compare two groups: at each value with events, the first group expects its share of those still at risk."""
    seen = Counter(observation.value for observation in first if observation.seen)
    ended = Counter(observation.value for observation in first)
    left, total = len(first), LogRank()
    for value, events, at_risk in _by_value([*first, *second]):
        if events:
            share = left / at_risk
            variance = events * share * (1 - share) * (at_risk - events) / (at_risk - 1) if at_risk > 1 else 0.0
            total += LogRank(seen[value], events * share, variance)
        left -= ended[value]
    return total


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's correction for testing several hypotheses: each probability so that it may be held against one level for all."""
    order = sorted(range(len(probabilities)), key=lambda index: probabilities[index])
    adjusted = [0.0] * len(probabilities)
    worst = 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * probabilities[index]))
        adjusted[index] = worst
    return adjusted
