"""Scenarios: pieces of ordinary life. The sweep refuses something in them, once at each place."""

from __future__ import annotations

from hvmodel.scenarios.callers import CALLERS
from hvmodel.scenarios.hosts import HOSTS
from hvmodel.scenarios.memory import MEMORY
from hvmodel.scenarios.scenario import EVERYWHERE, L1VHS, ROOTS, Scenario
from hvmodel.scenarios.vms import VMS

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (*HOSTS, *VMS, *MEMORY, *CALLERS)}
"""All of them by name."""

__all__ = ["EVERYWHERE", "L1VHS", "ROOTS", "SCENARIOS", "Scenario"]
