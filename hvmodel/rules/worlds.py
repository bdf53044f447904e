"""Which world a run starts in: hardware, options, profile and what a previous kernel left; and the run's taste (swarm)."""

from __future__ import annotations

from dataclasses import replace

from hvmodel.callers.levels import KERNEL, LEVELS
from hvmodel.configuration import DEVICES, Configuration, PciFunction
from hvmodel.hypervisor.policies import PROFILES, QUESTIONS
from hvmodel.rules.chooser import Chooser
from hvmodel.rules.rules import RULES, Rule, Scene
from hvmodel.world import World

VARIATIONS = "variations"
"""Not a profile but a family: ``default`` with one answer to one open question changed, another one in each world."""

PROFILE_NAMES = (*PROFILES, VARIATIONS)

ALIASES = (
    PciFunction(slot=1, group=0),
    PciFunction(bus=4, slot=0, group=1),
    PciFunction(bus=4, slot=1, group=1, alias=1),
)
FAR = (
    PciFunction(bus=0x3A, slot=0x1F, function=7, group=0),
    PciFunction(bus=0x10, slot=0x10, group=1),
    PciFunction(slot=16, group=2),
)
"""Addresses in which decimal and hexadecimal differ."""
BEHIND_VMD = (PciFunction(slot=1, group=0), PciFunction(segment=0x10000, slot=1, group=1))
"""The PCI segment of the second has more bits than a hypervisor's id has for it."""
OWNED = (PciFunction(slot=1, group=0), PciFunction(slot=2, group=1), PciFunction(slot=5, group=3, owned=True))


OTHER_ANSWERS: tuple[tuple[str, str], ...] = tuple(
    (name, answer)
    for name, question in QUESTIONS.items()
    for answer in question.alternatives[1:]
    if answer not in question.adversarial
)
"""Every answer but the default ones and the adversarial ones: (field of Policies, answer)."""


def draw_configuration(choose: Chooser, profile: str, variation: int | None = None) -> Configuration:
    """A start for one run under a profile. Under :data:`VARIATIONS` the answer with the number ``variation`` (modulo their
    count) is the changed one; without a number it is drawn."""
    config = Configuration.of_profile("default" if profile == VARIATIONS else profile)
    if profile == VARIATIONS:
        if variation is None:
            variation = choose.below(len(OTHER_ANSWERS))
        name, answer = OTHER_ANSWERS[variation % len(OTHER_ANSWERS)]
        config = replace(config, policies=replace(config.policies, **{name: answer}), profile=VARIATIONS)
    roll = choose.below(20)
    devices: tuple[PciFunction, ...] = DEVICES
    if roll < 6:
        devices = DEVICES[:2]
    elif roll < 9:
        devices = ALIASES
    elif roll == 9:
        devices = FAR
    elif roll == 10:
        devices = choose.pick((OWNED, BEHIND_VMD))
    changes: dict[str, object] = {"devices": devices, "iova_width": choose.pick((48, 64, 64))}
    if choose.below(6) == 0:
        changes["no_attdev"] = True
    if choose.below(6) == 0:
        changes["skip"] = _skip_list(choose, devices)
    if choose.below(12) == 0:
        changes["mshv"] = False
    if choose.below(12) == 0:
        changes["unique_id"] = 0xFFFFFFFF - choose.below(3)
    if not config.l1vh and choose.below(10) == 0:
        left = tuple(range(1, 2 + choose.below(2)))
        changes["left_domains"] = left
        if choose.below(2):
            changes["left_devices"] = ((0, 1),)
    if choose.below(16) == 0:
        changes["left_deposit"] = 256
    return replace(config, **changes)  # type: ignore[arg-type]


def _skip_list(choose: Chooser, devices: tuple[PciFunction, ...]) -> str:
    entries = []
    for _ in range(1 + choose.below(3)):
        device = choose.pick(devices)
        entries.append(f"({device.segment:x}:{device.bus:x}:{device.slot:x}.{device.function})")
    if choose.below(4) == 0:
        entries.insert(choose.below(len(entries) + 1), choose.pick(("(bad)", "(0:1:2.3", " ", "x", "(0000:00:1f.7)")))
    return choose.pick(("", " ")).join(entries)


FULL = 16
_MIXES = ((FULL, 0), (FULL, 0), (FULL, 0), (FULL, FULL // 2), (FULL // 8, FULL))
"""How much of a run are requests of the core that something else than user space makes, and how much comes from user space."""


def draw_scene(choose: Chooser, world: World, level: int) -> tuple[Scene, list[Rule], list[int]]:
    """The run's taste: which rules, how often, how large, how faulty. Returns the scene, its rules and their cumulative weights."""
    scene = Scene(
        world,
        level=level,
        scale=choose.pick((0, 1, 1, 1, 2, 2, 3)),
        vms=choose.pick((0, 1, 1, 2, 3)),
        faults=choose.pick((0, 5, 15, 30, 50)),
        room=choose.pick((1, 2, 3, 4, 6)),
    )
    drop = choose.pick((0, 0, 10, 25))
    core, user = choose.pick(_MIXES if level > KERNEL else _MIXES[-3:])
    rules: list[Rule] = []
    weights: list[int] = []
    total = 0
    for rule in RULES.values():
        needed = rule.name in ("alloc_domain", "map_fresh", "attach_domain")
        if rule.level > level or (not needed and choose.chance(drop)):
            continue
        weight = rule.weight * choose.pick((1, 2, 2, 4)) * (user if rule.subject == "user" else core) // FULL
        if not weight and not needed:
            continue
        total += max(weight, 1)
        rules.append(rule)
        weights.append(total)
    return scene, rules, weights


__all__ = ["LEVELS", "PROFILE_NAMES", "VARIATIONS", "draw_configuration", "draw_scene"]
