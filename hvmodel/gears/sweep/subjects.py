"""What is swept: the scenarios that come with the package under their profiles, and traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hvmodel.configuration import Configuration
from hvmodel.gears.sweep.play import Subject, without_repeats
from hvmodel.hypervisor.policies import PROFILES
from hvmodel.operations import Operation
from hvmodel.scenarios import SCENARIOS

_ORDER = sorted(PROFILES, key=lambda name: not PROFILES[name].l1vh)
"""L1VHs first: there is little that can be done on one, so it is done in seconds."""


def of_scenario(name: str, profile: str | None = None) -> list[Subject]:
    """A scenario under each of its profiles, or under one; of profiles that are the same hypervisor only under the first. Raises
    KeyError for an unknown scenario."""
    scenario = SCENARIOS[name]
    found: dict[Configuration, Subject] = {}
    for each in scenario.profiles:
        if profile in (None, each):
            config = scenario.configuration(each)
            found.setdefault(replace(config, profile=""), Subject(name, config, tuple(scenario.operations)))
    return list(found.values())


def of_trace(name: str, config: Configuration, operations: Iterable[Operation]) -> Subject:
    """A trace without its refusals and without recovery."""
    done = tuple(replace(operation, faults=()) for operation in operations if operation.kind != "recover")
    return Subject(name, config, done)


def in_order(subjects: Sequence[Subject]) -> list[Subject]:
    """Profile by profile, without what would be the same twice."""

    def rank(subject: Subject) -> int:
        profile = subject.config.profile
        return _ORDER.index(profile) if profile in _ORDER else len(_ORDER)

    return without_repeats(list(dict.fromkeys(sorted(subjects, key=rank))))


def shipped(profiles: Sequence[str] = tuple(PROFILES)) -> list[Subject]:
    """All scenarios under their profiles, as far as they are among these, in order."""
    return in_order([subject for name in SCENARIOS for subject in of_scenario(name) if subject.config.profile in profiles])


__all__ = ["in_order", "of_scenario", "of_trace", "shipped"]
