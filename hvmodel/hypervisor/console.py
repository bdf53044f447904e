"""Hypercalls by name, for tests and for a Python prompt. Drivers do not use this: they fill pages themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hvmodel.hypervisor import abi
from hvmodel.hypervisor.model import Hypervisor
from hvmodel.hypervisor.objects import Refusal


class Answer(NamedTuple):
    """The two fields of a status word."""

    status: int
    completed: int


class Console:
    """A caller of one hypervisor.

    >>> from hvmodel.hypervisor import Device
    >>> console = Console(Hypervisor(devices=[Device(abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8))]))
    >>> console.create(1)
    Answer(status=0, completed=0)
    >>> console.map(1, page=16, frames=[7, 8, 3])
    Answer(status=0, completed=3)
    >>> console.attach(abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8), 1).status
    0
    >>> console.hypervisor.translate(abi.device_id(abi.HV_DEVICE_TYPE_PCI, 8), 18)
    3
    >>> abi.status_name(console.create(1).status)
    'KEY_ALREADY_EXISTS'
    """

    def __init__(self, hypervisor: Hypervisor, owner: int = abi.HV_PARTITION_ID_SELF) -> None:
        self.hypervisor = hypervisor
        self.owner = owner

    def call(
        self,
        name: str,
        *values: int,
        count: int = 0,
        start: int = 0,
        tail: bytes = b"",
        refusal: Refusal | None = None,
        output: bytearray | None = None,
    ) -> Answer:
        """Any call: its header fields in the order of ``abi.LAYOUTS``, its list in ``tail``."""
        code = abi.CALL_CODES[name]
        page = abi.input_page(code, *values, tail=tail)
        word = self.hypervisor.hypercall(abi.control_word(code, count, start), page, output, refusal)
        return Answer(word & abi.STATUS_MASK, word >> abi.REP_COUNT_SHIFT & abi.REP_MASK)

    def create(
        self, ident: int, *, kind: int = abi.HV_DEVICE_DOMAIN_TYPE_S2, flags: int = 1, refusal: Refusal | None = None
    ) -> Answer:
        """CREATE_DEVICE_DOMAIN."""
        return self.call("CREATE_DEVICE_DOMAIN", self.owner, 0, kind, ident, flags, refusal=refusal)

    def delete(self, ident: int, refusal: Refusal | None = None) -> Answer:
        """DELETE_DEVICE_DOMAIN."""
        return self.call("DELETE_DEVICE_DOMAIN", self.owner, 0, 0, ident, refusal=refusal)

    def attach(self, key: int, ident: int, refusal: Refusal | None = None) -> Answer:
        """ATTACH_DEVICE_DOMAIN."""
        return self.call("ATTACH_DEVICE_DOMAIN", self.owner, 0, 0, ident, key, refusal=refusal)

    def detach(self, key: int, refusal: Refusal | None = None) -> Answer:
        """DETACH_DEVICE_DOMAIN."""
        return self.call("DETACH_DEVICE_DOMAIN", self.owner, key, refusal=refusal)

    def map(
        self,
        ident: int,
        page: int,
        frames: Iterable[int],
        *,
        flags: int = 3,
        start: int = 0,
        offset: int = 0,
        refusal: Refusal | None = None,
    ) -> Answer:
        """MAP_DEVICE_GPA_PAGES of one page per frame; ``offset`` is added to the byte address."""
        raw = b"".join(frame.to_bytes(8, "little") for frame in frames)
        base = (page << abi.PAGE_SHIFT) + offset
        values = (self.owner, 0, 0, ident, 0, flags, base)
        return self.call("MAP_DEVICE_GPA_PAGES", *values, count=len(raw) // 8, start=start, tail=raw, refusal=refusal)

    def unmap(
        self, ident: int, page: int, count: int, *, start: int = 0, offset: int = 0, refusal: Refusal | None = None
    ) -> Answer:
        """UNMAP_DEVICE_GPA_PAGES."""
        values = (self.owner, 0, 0, ident, (page << abi.PAGE_SHIFT) + offset)
        return self.call("UNMAP_DEVICE_GPA_PAGES", *values, count=count, start=start, refusal=refusal)

    def direct_attach(self, guest: int, key: int, logical: int, flags: int = 1, refusal: Refusal | None = None) -> Answer:
        """ATTACH_DEVICE; flag bit 0 says that the logical id is valid."""
        return self.call("ATTACH_DEVICE", guest, key, flags, 0, 0, 0, logical, 0, 0, 0, refusal=refusal)

    def direct_detach(self, guest: int, logical: int, refusal: Refusal | None = None) -> Answer:
        """DETACH_DEVICE."""
        return self.call("DETACH_DEVICE", guest, logical, refusal=refusal)

    def deposit(
        self, frames: Iterable[int], partition: int | None = None, start: int = 0, refusal: Refusal | None = None
    ) -> Answer:
        """DEPOSIT_MEMORY, to the caller itself unless ``partition`` is given."""
        raw = b"".join(frame.to_bytes(8, "little") for frame in frames)
        to = self.owner if partition is None else partition
        return self.call("DEPOSIT_MEMORY", to, count=len(raw) // 8, start=start, tail=raw, refusal=refusal)

    def withdraw(
        self, count: int, partition: int | None = None, start: int = 0, refusal: Refusal | None = None
    ) -> tuple[Answer, list[int]]:
        """WITHDRAW_MEMORY; also returns the frames that came back."""
        output = bytearray(abi.PAGE_SIZE)
        of = self.owner if partition is None else partition
        answer = self.call("WITHDRAW_MEMORY", of, 0, count=count, start=start, refusal=refusal, output=output)
        frames = [int.from_bytes(output[8 * i : 8 * i + 8], "little") for i in range(start, answer.completed)]
        return answer, frames
