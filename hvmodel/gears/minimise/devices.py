"""Plainer devices: those that a trace names become the first ones, and those that it does not name go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hvmodel import operations as ops
from hvmodel.configuration import DEVICES, PciFunction
from hvmodel.gears.minimise.trial import Case

_SHARED = 2
"""The group of :data:`DEVICES` that has two devices; it begins with the device of the same number."""


def _renamed(case: Case, groups: dict[int, int], devices: dict[int, int], functions: tuple[PciFunction, ...]) -> Case:
    def change(operation: ops.Operation) -> ops.Operation:
        changes: dict[str, Any] = {}
        if hasattr(operation, "group"):
            changes["group"] = groups.get(operation.group, operation.group)
        if hasattr(operation, "device"):
            changes["device"] = devices.get(operation.device, operation.device)
        return replace(operation, **changes) if changes else operation

    config = case.config
    left = tuple((devices.get(number, number), ident) for number, ident in config.left_devices)
    left = tuple(pair for pair in left if pair[0] < len(functions))
    return Case(replace(config, devices=functions, left_devices=left), tuple(map(change, case.operations)))


def lowest(case: Case) -> Case:
    """The case with its devices and groups renamed to the first ones of :data:`DEVICES`, in order of appearance, and no others;
    as it is if its devices have a peculiarity that those have not."""
    functions = case.config.devices
    if any(function.alias is not None or function.owned or function.reserved or function.segment for function in functions):
        return case
    groups: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for operation in case.operations:
        device = getattr(operation, "device", None)
        if device is not None and device < len(functions):
            group = functions[device].group
            if device not in members.setdefault(group, []):
                members[group].append(device)
        else:
            group = getattr(operation, "group", None)
        if group is not None and group not in groups:
            groups[group] = len(groups)
    if len(groups) > _SHARED or any(len(found) > 1 for found in members.values()):
        return case
    devices = {device: groups[group] for group, found in members.items() for device in found}
    return _renamed(case, groups, devices, DEVICES[: max(len(groups), 1)])


def plainer_devices(case: Case) -> Iterator[Case]:
    """One device for all; the lowest ones; the usual ones; the first ones only."""
    functions = case.config.devices
    everything = {function.group: 0 for function in functions}
    yield _renamed(case, everything, dict.fromkeys(range(len(functions)), 0), DEVICES[:1])
    yield lowest(case)
    for count in range(1, len(functions)):
        yield _renamed(case, {}, {}, functions[:count])
    if functions[: len(DEVICES)] != DEVICES[: len(functions)]:
        for count in range(1, len(DEVICES) + 1):
            yield _renamed(case, {}, {}, DEVICES[:count])
    for index, operation in enumerate(case.operations):
        for name in ("device", "group"):
            for value in range(getattr(operation, name, 0)):
                changed = replace(operation, **{name: value})  # type: ignore[arg-type]
                yield Case(case.config, (*case.operations[:index], changed, *case.operations[index + 1 :]))


__all__ = ["lowest", "plainer_devices"]
