"""A plainer start: the default configuration if that will do, else one part of it after another; answers of policies one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hvmodel import operations as ops
from hvmodel.configuration import Configuration
from hvmodel.gears.minimise.removal import plain_start
from hvmodel.gears.minimise.trial import Case
from hvmodel.gears.minimise.weight import PLAIN
from hvmodel.hypervisor.policies import DEFAULT, QUESTIONS, differences
from hvmodel.world import World

_FIELDS = (
    "skip", "no_attdev", "mshv", "unique_id", "left_devices", "left_deposit", "iova_width", "domain_limit", "root_pool",
    "capabilities",
)  # fmt: skip


def plainer_start(case: Case) -> Iterator[Case]:
    """The case from starts that are plainer, the plainest first. Whether it is a root or an L1VH stays."""
    config = case.config
    plain = plain_start(config)
    if config == plain:
        return
    yield Case(plain, case.operations)
    natural = plain.profile
    if config.policies != DEFAULT or config.profile != natural:
        yield Case(replace(config, policies=DEFAULT, profile=natural), case.operations)
    for change in _changes(config):
        if change.problems() is None:
            yield Case(change, case.operations)


def _changes(config: Configuration) -> Iterator[Configuration]:
    for name in _FIELDS:
        if getattr(config, name) != getattr(PLAIN, name):
            yield replace(config, **{name: getattr(PLAIN, name)})
    if config.left_domains:
        yield replace(config, left_devices=(), left_domains=())
        yield replace(config, left_devices=(), left_domains=(1,))
        yield replace(config, left_domains=(1,), left_devices=tuple((number, 1) for number, _ in config.left_devices[:1]))
        for gone in config.left_domains:
            left = tuple(ident for ident in config.left_domains if ident != gone)
            yield replace(config, left_domains=left, left_devices=tuple(pair for pair in config.left_devices if pair[1] != gone))
    if config.left_devices:
        yield replace(config, left_devices=config.left_devices[:1])
    for value in (0xFFFFFFFE, 0xFFFFFFFF) if config.unique_id else ():
        yield replace(config, unique_id=value)
    if config.skip:
        first = config.devices[0].name
        for text in (f"({first})", f"(none)({first})"):
            yield replace(config, skip=text)
    for name in differences(config.policies):
        yield replace(config, policies=replace(config.policies, **{name: getattr(DEFAULT, name)}))
    for name, answer in differences(config.policies).items():
        for other in QUESTIONS[name].alternatives[1:]:
            if other == answer:
                break
            yield replace(config, policies=replace(config.policies, **{name: other}))
    natural = "l1vh" if config.l1vh else "default"
    if config.profile != natural:
        yield replace(config, profile=natural)


def fresh_start(case: Case, driver: str) -> Iterator[Case]:
    """What the last kexec finds as the start of a world, instead of the whole life of the kernel before it."""
    operations = case.operations
    last = max((index for index, op in enumerate(operations) if isinstance(op, ops.Kexec)), default=0)
    if not last:
        return
    world = World(case.config, driver)
    for operation in operations[:last]:
        world.apply(operation)
    left = tuple(sorted(set(world.hypervisor.domains) - {0, 0xFFFFFFFF}))
    inside = tuple(
        (book.device.number, place.id)
        for book in world.books.devices
        if (place := world.hypervisor.place(book.key)).kind == "domain" and place.id in left
    )
    start = replace(case.config, left_domains=left, left_devices=inside, unique_id=0)
    if start.problems() is None:
        yield Case(start, (ops.Boot(faults=operations[last].faults), *operations[last + 1 :]))


__all__ = ["fresh_start", "plainer_start"]
