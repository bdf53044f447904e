"""What the trials say: how soon each gear finds each driver's defect, how gears compare, and whether power was lost since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hvmodel.drivers import REGISTRY
from hvmodel.jobs.detect import Detection
from hvmodel.jobs.survival import LogRank, Observation, Quantile, holm, log_rank, quantile
from hvmodel.jobs.trials import GEARS, Trial
from hvmodel.properties.catalogue import PROPERTIES

LOSS = 0.001
"""A loss of power is reported below this probability of seeing one where there is none."""

BASELINE, MEASURED = "uniform", "walk"
"""The gears whose operations are held against each other."""


def by_operations(trials: Sequence[Trial]) -> list[Observation]:
    """When the trials found, in operations, which do not depend on the machine's speed."""
    return [Observation(trial.operations, trial.found) for trial in trials]


def by_seconds(trials: Sequence[Trial]) -> list[Observation]:
    """When the trials found, in seconds of processor time."""
    return [Observation(trial.seconds, trial.found) for trial in trials]


@dataclass(frozen=True, slots=True)
class Row:
    """One driver under one gear. ``operations`` and ``seconds`` are the median and the 90th percentile."""

    driver: str
    gear: str
    trials: int
    found: int
    operations: tuple[Quantile, Quantile]
    seconds: tuple[Quantile, Quantile]
    lengths: list[int]
    """Operations of the minimised traces, ascending."""
    properties: Counter[str]
    """In how many trials each property failed at the first violation."""


def rows(detection: Detection) -> list[Row]:
    """A row for each driver and gear that has trials."""
    found = []
    for driver in detection.options.drivers:
        for gear in detection.options.gears:
            trials = detection.of(driver, gear)
            if trials:
                found.append(_row(driver, gear, trials))
    return found


def _row(driver: str, gear: str, trials: list[Trial]) -> Row:
    operations, seconds = by_operations(trials), by_seconds(trials)
    return Row(
        driver,
        gear,
        len(trials),
        sum(trial.found for trial in trials),
        (quantile(operations, 50), quantile(operations, 90)),
        (quantile(seconds, 50), quantile(seconds, 90)),
        sorted(trial.minimised for trial in trials if trial.minimised is not None),
        Counter(name for trial in trials for name in trial.properties),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times the walk's median the baseline's is. ``relation`` is "=", ">=" (the baseline's median is among trials that
    did not find), "<=" (the walk's is) or "?" (both are, and ``value`` says nothing)."""

    driver: str
    value: float
    relation: str


def ratios(table: Sequence[Row], seconds: bool = False) -> dict[str, Ratio]:
    """The ratio of operations, or of seconds, of each driver that has trials of both gears."""
    medians = {(row.driver, row.gear): (row.seconds if seconds else row.operations)[0] for row in table}
    found = {}
    for driver, gear in medians:
        if gear == MEASURED and (driver, BASELINE) in medians:
            mine, base = medians[driver, MEASURED], medians[driver, BASELINE]
            relation = {(True, True): "=", (True, False): ">=", (False, True): "<="}.get((mine.exact, base.exact), "?")
            found[driver] = Ratio(driver, base.value / max(mine.value, 1e-4), relation)
    return found


@dataclass(frozen=True, slots=True)
class Overall:
    """The median of ratios: of how many, how many of them are lower bounds, and how many say nothing from below and count as 0."""

    value: float
    count: int
    bounds: int
    unknown: int


def overall(found: Sequence[Ratio]) -> Overall | None:
    """The median of the ratios, itself at least as large as shown; None without ratios."""
    if not found:
        return None
    values = [ratio.value if ratio.relation in ("=", ">=") else 0.0 for ratio in found]
    relations = Counter(ratio.relation for ratio in found)
    return Overall(median(values), len(values), relations[">="], relations["<="] + relations["?"])


def is_catalogued(driver: str) -> bool:
    """Whether a driver is a variant with a defect of the posted driver, as the catalogue has it."""
    return REGISTRY[driver].defect.startswith("D")


def incomplete(table: Sequence[Row]) -> list[Row]:
    """The rows in which not every trial found."""
    return [row for row in table if row.found < row.trials]


def never_shown(detection: Detection) -> list[str]:
    """The properties that failed in no trial at the first violation."""
    shown = {name for trial in detection.trials for name in trial.properties}
    return [name for name in PROPERTIES if name not in shown]


@dataclass(frozen=True, slots=True)
class Change:
    """One comparison with the stored run. ``p_later`` is the one-sided probability of so late findings if nothing changed; for a
    single driver it is corrected for the number of drivers. ``driver`` is "" for all together, of which there are ``drivers``."""

    gear: str
    driver: str
    drivers: int
    p_later: float
    p_sooner: float

    @property
    def is_loss(self) -> bool:
        """Whether findings come significantly later than in the stored run."""
        return self.p_later < LOSS

    @property
    def is_gain(self) -> bool:
        """Whether they come significantly sooner."""
        return self.p_sooner < LOSS


def comparable(stored: Sequence[Trial], drivers: Sequence[str], gears: Sequence[str], level: str) -> list[Trial]:
    """The trials of a stored run that are of some drivers and gears, and of one level."""
    return [trial for trial in stored if trial.driver in drivers and trial.gear in gears and trial.level == level]


def compare(trials: Sequence[Trial], stored: Sequence[Trial]) -> list[Change]:
    """All that both runs measured, first each gear over all drivers (log-rank test, one stratum a driver), then single drivers
    (Holm's correction over all of them). Operations are compared, so that the speed of the machines does not matter."""
    tests: dict[tuple[str, str], LogRank] = {}
    now, then = _grouped(trials), _grouped(stored)
    for key in now:
        if key in then:
            tests[key] = log_rank(now[key], then[key])
    changes = []
    for gear in GEARS:
        strata = [test for key, test in tests.items() if key[0] == gear]
        if strata:
            total = sum(strata, LogRank())
            changes.append(Change(gear, "", len(strata), total.p_later, total.p_sooner))
    later = holm([test.p_later for test in tests.values()])
    sooner = holm([test.p_sooner for test in tests.values()])
    for (gear, driver), p_later, p_sooner in zip(tests, later, sooner, strict=True):
        changes.append(Change(gear, driver, 1, p_later, p_sooner))
    return changes


def _grouped(trials: Sequence[Trial]) -> dict[tuple[str, str], list[Observation]]:
    found: dict[tuple[str, str], list[Observation]] = {}
    for trial in trials:
        found.setdefault((trial.gear, trial.driver), []).append(Observation(trial.operations, trial.found))
    return found
