"""The minimiser: fewer operations, then fewer faults, a plainer start, simpler arguments; the world is run again each time.

Operations carry handles and do nothing when a handle is gone, so that any subset of a trace is a trace. What is kept is the
property that fails, in the same kind of call and in the same manner (the violation's shape), so that one defect does not turn
into another on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hvmodel import operations as ops
from hvmodel.callers.levels import BEYOND
from hvmodel.configuration import DEVICES, Configuration
from hvmodel.faults import KERNEL_SITES, Fault
from hvmodel.hypervisor.policies import DEFAULT, PROFILES, QUESTIONS
from hvmodel.properties.verdicts import Violation
from hvmodel.world import World


@dataclass(frozen=True, slots=True)
class Target:
    """What must go on failing: the property, and if they are given the driver call, the shape, and where the failing operation was
    refused (at some of ``sites`` and nowhere else; an empty set: nowhere)."""

    property: str
    call: str | None = None
    shape: tuple[object, ...] | None = None
    sites: frozenset[str] | None = None

    def matches(self, violation: Violation, fired: Sequence[Fault]) -> bool:
        """Whether this violation, after these refusals, is the one."""
        if self.sites is not None:
            here = {fault.site for fault in fired}
            if not here <= self.sites or (self.sites and not here):
                return False
        return (
            violation.property == self.property
            and (self.call is None or violation.call == self.call)
            and (self.shape is None or violation.shape == self.shape)
        )


@dataclass(slots=True)
class Minimised:
    """A trace that fails the target and from which nothing more could be taken; ``runs`` is how many worlds that took."""

    config: Configuration
    operations: list[ops.Operation]
    violation: Violation
    level: int
    runs: int = 0
    fired: list[Fault] = field(default_factory=list)


class _Search:
    def __init__(self, driver: str, target: Target, limit: int) -> None:
        self.driver, self.target, self.left = driver, target, limit
        self.runs = 0
        self.most = BEYOND
        """The highest level that a trace may need."""

    def fails(self, config: Configuration, operations: list[ops.Operation]) -> tuple[int, Violation, int] | None:
        """(index of the failing operation, violation, level) of the first violation that matches, or None."""
        self.runs += 1
        self.left -= 1
        world = World(config, self.driver)
        matches = self.target.matches
        level = 0
        for index, operation in enumerate(operations):
            outcome = world.apply(operation)
            if outcome.applied and outcome.level > level:
                level = outcome.level
            for violation in outcome.violations:
                if matches(violation, outcome.fired):
                    return (index, violation, level) if level <= self.most else None
        return None


def minimise(
    config: Configuration, operations: list[ops.Operation], driver: str, target: Target, limit: int = 1500
) -> Minimised | None:
    """The smallest trace found within ``limit`` runs, or None if the given one does not fail the target."""
    search = _Search(driver, target, limit)
    hit = search.fails(config, operations)
    if hit is None:
        return None
    search.most = hit[2]
    operations = operations[: hit[0] + 1]
    operations = _related(search, config, operations)
    config, operations = _fresh_start(search, config, operations)
    for _ in range(3):
        previous = (config, operations)
        operations = _fewer(search, config, operations)
        config = _plainer(search, config, operations)
        operations = _simpler(search, config, operations)
        if previous == (config, operations) or search.left <= 0:
            break
    operations = _renumber(search, config, operations)
    config = _unused_devices(search, config, operations)
    operations = _applied(search, config, operations)
    hit = search.fails(config, operations)
    assert hit is not None, "the minimiser lost its target"
    return Minimised(config, operations[: hit[0] + 1], hit[1], hit[2], search.runs)


# --- operations -----------------------------------------------------------------------------------------------------------


def _handles(operation: ops.Operation) -> set[tuple[str, int]]:
    names = {"domain": "domain", "group": "group", "device": "device", "vm": "vm", "by": "vm"}
    found = set()
    for name, kind in names.items():
        value = getattr(operation, name, None)
        if isinstance(value, int) and not (kind == "vm" and value == 0):
            found.add((kind, value))
    return found


def _related(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """A first guess: only what shares a handle with the failing operation, directly or through one more operation."""
    wanted = _handles(operations[-1])
    for _ in range(2):
        kept = [op for op in operations[:-1] if isinstance(op, ops.Boot) or _handles(op) & wanted] + operations[-1:]
        if len(kept) < len(operations) and search.fails(config, kept):
            return kept
        for op in kept:
            wanted |= _handles(op)
    return operations


def _fewer(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """Remove chunks of operations, large ones first (ddmin), then single faults."""
    size = max(len(operations) // 2, 1)
    while search.left > 0:
        at, removed = len(operations) - 1 - size, False
        while at > -size and search.left > 0:
            low = max(at, 0)
            fewer = operations[:low] + operations[at + size :]
            if len(fewer) < len(operations) and fewer:
                hit = search.fails(config, fewer)
                if hit is not None:
                    operations, removed = fewer[: hit[0] + 1], True
                    at = min(at, len(operations) - 1)
            at -= size
        if size == 1 and not removed:
            break
        size = max(size // 2, 1)
    for index, operation in enumerate(operations):
        for fault in operation.faults:
            without = replace(operations[index], faults=tuple(f for f in operations[index].faults if f is not fault))
            trial = [*operations[:index], without, *operations[index + 1 :]]
            if search.fails(config, trial):
                operations = trial
    return operations


def _try_each(
    search: _Search,
    config: Configuration,
    operations: list[ops.Operation],
    index: int,
    candidates: Iterator[ops.Operation],
) -> list[ops.Operation]:
    for candidate in candidates:
        if search.left <= 0:
            break
        if candidate == operations[index]:
            continue
        trial = [*operations[:index], candidate, *operations[index + 1 :]]
        hit = search.fails(config, trial)
        if hit is not None and hit[0] == len(trial) - 1:
            return trial
    return operations


_ROUND = (0x100000, 0x200000, 0)
_PADDRS = (0x40000000, 0x40001000)


def _numbers(value: int) -> list[int]:
    """Smaller numbers worth trying instead of ``value``, the smallest first, then just below it."""
    found = [n for n in (1, 2, 3, 4, 16, 256, 257, 384, 508, 512, 4096, 65536) if n < value]
    found += [value // 2, value - 1]
    return [n for n in dict.fromkeys(found) if 0 < n < value]


def _candidates(operation: ops.Operation, name: str) -> Iterator[ops.Operation]:
    """Simpler forms of one field of an operation; the first that still fails is taken."""
    value: Any = getattr(operation, name)
    default = type(operation).__dataclass_fields__[name].default
    options: list[Any] = []
    if name == "iova":
        options = [v for v in _ROUND if v != value]
        if value in _ROUND:
            options = list(_ROUND[: _ROUND.index(value)])
        if value & 0xFFF:
            options.append(value & ~0xFFF)
    elif name == "paddr":
        options = list(_PADDRS[: _PADDRS.index(value)]) if value in _PADDRS else list(_PADDRS)
        if value not in _PADDRS and hasattr(operation, "iova"):
            options.append(0x40000000 + operation.iova % 0x100000)
    elif name in ("pages", "runs", "run_pages", "stride", "pgcount"):
        options = _numbers(value)
    elif name in ("device", "group"):
        options = list(range(min(value, 3)))
    elif name in ("prot", "gfp", "by", "mapped") and value != default:
        options = [default, 1] if name == "by" and value > 1 else [default]
    for option in options:
        yield _with(operation, **{name: option})


def _plainer_kind(operation: ops.Operation) -> Iterator[ops.Operation]:
    """A scattered map as a plain one."""
    if isinstance(operation, ops.MapScattered):
        pages = operation.runs * operation.run_pages
        yield ops.Map(operation.domain, operation.iova, operation.paddr, pages, faults=operation.faults)


def _plainest(operation: ops.Operation) -> Iterator[ops.Operation]:
    """All numbers of a mapping at their plainest at once."""
    if isinstance(operation, ops.Map) and (operation.pages, operation.paddr) != (1, _PADDRS[0]):
        yield _with(operation, iova=_ROUND[0], paddr=_PADDRS[0], pages=1, prot="rw", gfp="kernel")
        yield _with(operation, paddr=_PADDRS[0], pages=1, prot="rw", gfp="kernel")


def _simpler_faults(operation: ops.Operation) -> Iterator[ops.Operation]:
    for index, fault in enumerate(operation.faults):
        trials: list[Fault] = []
        if fault.times != 1:
            trials.append(replace(fault, times=1))
        if fault.nth > 1:
            trials += [replace(fault, nth=n) for n in range(1, fault.nth)]
        if fault.site not in KERNEL_SITES and fault.status not in (0x71, 0x0B):
            trials += [replace(fault, status=0x71), replace(fault, status=0x0B)]
        elif fault.status == 0x0B:
            trials.append(replace(fault, status=0x71))
        trials += [replace(fault, done=n) for n in (0, 1, 4, 16) if n < fault.done]
        for trial in trials:
            yield replace(operation, faults=(*operation.faults[:index], trial, *operation.faults[index + 1 :]))


def _simpler(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """Simplify the arguments of each operation, field by field, and its faults; then whole mappings at once."""
    operations = _moved(search, config, operations)
    for index in range(len(operations)):
        operations = _try_each(search, config, operations, index, _plainer_kind(operations[index]))
        operations = _try_each(search, config, operations, index, _plainest(operations[index]))
        for name in ops.field_names(type(operations[index])):
            operations = _try_each(search, config, operations, index, _candidates(operations[index], name))
        before: list[ops.Operation] | None = None
        while operations is not before and search.left > 0:
            before = operations
            operations = _try_each(search, config, operations, index, _simpler_faults(operations[index]))
    return operations


def _shifted(operation: ops.Operation, shift: int) -> ops.Operation:
    """The same operation with its address lower by ``shift`` bytes, if it has one that high."""
    iova: int | None = getattr(operation, "iova", None)
    return operation if iova is None or iova < shift else _with(operation, iova=iova - shift)


def _with(operation: ops.Operation, **changes: Any) -> ops.Operation:
    return replace(operation, **changes)


def _moved(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """Shift all addresses together, and shrink a map together with the unmap of the same pages."""
    iovas = [op.iova for op in operations if isinstance(op, ops.Map | ops.MapScattered | ops.Unmap)]
    if not iovas:
        return operations
    low = min(iovas)
    for base in (0x100000, 0) if low not in (0x100000, 0) else ():
        shift = (low - base) & ~0xFFFFF if base else low
        if shift <= 0:
            continue
        trial = [_shifted(op, shift) for op in operations]
        if search.fails(config, trial):
            operations = trial
            break
    for index, op in enumerate(operations):
        if not isinstance(op, ops.Map):
            continue
        others = [
            n
            for n, other in enumerate(operations)
            if isinstance(other, ops.Unmap) and (other.iova, other.pages) == (op.iova, op.pages)
        ]
        for pages in _numbers(op.pages) if others else ():
            trial = list(operations)
            trial[index] = replace(op, pages=pages)
            for n in others:
                trial[n] = _with(trial[n], pages=pages)
            if search.fails(config, trial):
                operations = trial
                break
    return operations


def _renumber(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """Domain handles and VM numbers from 1, in order of appearance."""
    handles: dict[int, int] = {}
    vms: dict[int, int] = {0: 0}
    for operation in operations:
        if hasattr(operation, "domain"):
            handles.setdefault(operation.domain, len(handles) + 1)
        for name in ("by", "vm"):
            if hasattr(operation, name):
                vms.setdefault(getattr(operation, name), len(vms))

    def renamed(operation: ops.Operation) -> ops.Operation:
        changes: dict[str, int] = {}
        if hasattr(operation, "domain"):
            changes["domain"] = handles[operation.domain]
        for name in ("by", "vm"):
            if hasattr(operation, name):
                changes[name] = vms[getattr(operation, name)]
        return _with(operation, **changes) if changes else operation

    trial = [renamed(operation) for operation in operations]
    return trial if trial != operations and search.fails(config, trial) else operations


def _fresh_start(
    search: _Search, config: Configuration, operations: list[ops.Operation]
) -> tuple[Configuration, list[ops.Operation]]:
    """What a kexec finds as the start of a world, instead of the whole life of the kernel before it."""
    last = max((index for index, op in enumerate(operations) if isinstance(op, ops.Kexec)), default=0)
    if not last:
        return config, operations
    world = World(config, search.driver)
    for operation in operations[:last]:
        world.apply(operation)
    left = tuple(sorted(set(world.hypervisor.domains) - {0, 0xFFFFFFFF}))
    inside = tuple(
        (book.device.number, place.id)
        for book in world.books.devices
        if (place := world.hypervisor.place(book.key)).kind == "domain" and place.id in left
    )
    start = replace(config, left_domains=left, left_devices=inside, unique_id=0)
    trial = [ops.Boot(faults=operations[last].faults), *operations[last + 1 :]]
    if start.problems() is None and search.fails(start, trial):
        return start, trial
    return config, operations


# --- the start ------------------------------------------------------------------------------------------------------------


def _plainer(search: _Search, config: Configuration, operations: list[ops.Operation]) -> Configuration:
    """Move the configuration towards the default, one part at a time; policies last and one by one."""
    plain = Configuration()
    trials: list[Callable[[Configuration], Configuration]] = [
        lambda c: Configuration(devices=c.devices),
        lambda c: Configuration.of_profile(c.profile, devices=c.devices) if c.profile in PROFILES else c,
        lambda c: replace(c, devices=DEVICES[:1]),
        lambda c: replace(c, devices=DEVICES[:2]),
        lambda c: replace(c, devices=DEVICES),
        lambda c: replace(c, policies=DEFAULT, profile="default"),
    ]
    for name in (
        "skip",
        "no_attdev",
        "mshv",
        "unique_id",
        "left_devices",
        "left_deposit",
        "iova_width",
        "domain_limit",
        "root_pool",
    ):
        trials.append(lambda c, name=name: replace(c, **{name: getattr(plain, name)}))  # type: ignore[misc]
    trials.append(lambda c: replace(c, left_devices=(), left_domains=()))
    trials.append(lambda c: replace(c, left_devices=(), left_domains=(1,)) if c.left_domains else c)
    trials.append(lambda c: replace(c, capabilities=True))
    for name in QUESTIONS:
        if getattr(config.policies, name) != getattr(DEFAULT, name):
            trials.append(lambda c, name=name: replace(c, policies=replace(c.policies, **{name: getattr(DEFAULT, name)})))  # type: ignore[misc]
    for change in trials:
        trial = change(config)
        if trial != config and search.left > 0 and trial.problems() is None:
            hit = search.fails(trial, operations)
            if hit is not None and hit[0] == len(operations) - 1:
                config = trial
    if config.policies == DEFAULT and config.profile not in ("default", "l1vh"):
        trial = replace(config, profile="default")
        config = trial if search.fails(trial, operations) else config
    return config


def _applied(search: _Search, config: Configuration, operations: list[ops.Operation]) -> list[ops.Operation]:
    """Without operations that had nothing to act on."""
    world = World(config, search.driver)
    applied = [operation for operation in operations if world.apply(operation).applied]
    return applied if len(applied) < len(operations) and search.fails(config, applied) else operations


def _unused_devices(search: _Search, config: Configuration, operations: list[ops.Operation]) -> Configuration:
    for count in range(1, len(config.devices)):
        trial = replace(config, devices=config.devices[:count], left_devices=tuple(d for d in config.left_devices if d[0] < count))
        if trial.problems() is None:
            hit = search.fails(trial, operations)
            if hit is not None and hit[0] == len(operations) - 1:
                return trial
    return config


__all__ = ["Minimised", "Target", "minimise"]
