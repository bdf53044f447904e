"""The fuzz job on the hypervisor model: clean as it stands, and able to notice a fault that is planted in the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from hvmodel.hypervisor import Hypervisor, abi
from hvmodel.hypervisor.objects import Domain, Pool
from hvmodel.jobs import fuzz_hypervisor
from hvmodel.ranges import RangeMap


def test_20000_calls_find_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The model keeps its own rules; one summary line says what was done and what was never reached."""
    assert fuzz_hypervisor.run(20_000, seed=1) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert out.startswith("fuzz-hypervisor: 20,000 calls in 10 worlds")
    assert "calls that never succeeded: none;" in out
    assert err == "", "no progress line unless stderr is a terminal"


def test_the_same_seed_gives_the_same_answers() -> None:
    """A run is a function of its seed."""

    def played(seed: int) -> Counter[tuple[int, int]]:
        statuses: Counter[tuple[int, int]] = Counter()
        for number in range(3):
            assert fuzz_hypervisor.play(seed, number, 500, 50, statuses) is None
        return statuses

    assert played(7) == played(7) != played(8)


def test_what_is_never_reached_is_said() -> None:
    """The summary names calls that never succeeded and statuses that never came."""
    line = fuzz_hypervisor.summary(Counter({(0xB1, 0): 3, (0xB2, 0x57): 1}), 4, 1, 2.0)
    assert "4 calls in 1 worlds, 2 calls/s; seen: SUCCESS 3, INVALID_DEVICE_ID 1;" in line
    assert "ATTACH_DEVICE_DOMAIN" in line.split("never succeeded:")[1]
    assert "CREATE_DEVICE_DOMAIN" not in line
    assert "TIME_OUT" in line.split("never answered:")[1]


Fault = Callable[[pytest.MonkeyPatch], None]


def unmap_misses_the_last_page(patch: pytest.MonkeyPatch) -> None:
    honest = RangeMap.clear
    patch.setattr(RangeMap, "clear", lambda self, start, end: honest(self, start, end - 1))


def map_shifts_a_second_run(patch: pytest.MonkeyPatch) -> None:
    honest = abi.decode_runs
    patch.setattr(abi, "decode_runs", lambda raw, n: [(f + (i > 0), c) for i, (f, c) in enumerate(honest(raw, n))])


def pages_are_never_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "give", lambda self, count: None)


def a_deposit_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    honest = Pool.deposit

    def deposit(self: Pool, start: int, end: int) -> None:
        honest(self, start, end)
        self.free += 1

    patch.setattr(Pool, "deposit", deposit)


def deposited_frames_can_be_mapped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hypervisor, "_not_owned", lambda self, frame, end: end)


def mapped_frames_can_be_deposited(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hypervisor, "_mapped", lambda self, frame, end: end)


def a_refused_attach_moves_the_device(patch: pytest.MonkeyPatch) -> None:
    honest = Hypervisor._attach_domain
    patch.setattr(
        Hypervisor,
        "_attach_domain",
        lambda self, page, out, refusal: honest(self, page, out, None) or (self._refuse(refusal) if refusal else 0),
    )


def a_refused_create_leaves_the_domain(patch: pytest.MonkeyPatch) -> None:
    def refuse(self: Hypervisor, refusal: Any) -> int:
        self.refused = True
        self.domains.setdefault(77, Domain(77))
        status: int = refusal.status
        return status

    patch.setattr(Hypervisor, "_refuse", refuse)


def an_error_reports_one_element_too_many(patch: pytest.MonkeyPatch) -> None:
    honest = Hypervisor._bounds

    def bounds(self: Hypervisor, first: int, start: int, limit: int, refusal: Any) -> tuple[int, int, bool]:
        stop, status, refused = honest(self, first, start, limit, refusal)
        return (min(stop + 1, limit) if status else stop), status, refused

    patch.setattr(Hypervisor, "_bounds", bounds)


def a_refusal_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    honest = Hypervisor._bounds

    def bounds(self: Hypervisor, first: int, start: int, limit: int, refusal: Any) -> tuple[int, int, bool]:
        return honest(self, first, start, limit, None)

    patch.setattr(Hypervisor, "_bounds", bounds)


def a_guest_keeps_the_logical_id(patch: pytest.MonkeyPatch) -> None:
    honest = Hypervisor._leave_guest

    def leave(self: Hypervisor, device: Any, place: Any) -> None:
        logical = device.logical
        honest(self, device, place)
        self.logical[logical] = device

    patch.setattr(Hypervisor, "_leave_guest", leave)


def a_domain_forgets_who_left(patch: pytest.MonkeyPatch) -> None:
    def put(self: Hypervisor, device: Any, place: Any) -> None:
        device.place = place
        if place.kind == "domain":
            self.domains[place.id].devices.add(device.key)

    patch.setattr(Hypervisor, "_put", put)


def shrinking_leaves_upper_tables(patch: pytest.MonkeyPatch) -> None:
    honest = Hypervisor._shrink

    def shrink(self: Hypervisor, domain: Domain, start: int, end: int) -> None:
        upper = [set(level) for level in domain.tables[1:]]
        honest(self, domain, start, end)
        for level, before in zip(domain.tables[1:], upper, strict=True):
            level |= before

    patch.setattr(Hypervisor, "_shrink", shrink)


FAULTS: list[Fault] = [
    unmap_misses_the_last_page,
    map_shifts_a_second_run,
    pages_are_never_given_back,
    a_deposit_is_counted_twice,
    deposited_frames_can_be_mapped,
    mapped_frames_can_be_deposited,
    a_refused_attach_moves_the_device,
    a_refused_create_leaves_the_domain,
    an_error_reports_one_element_too_many,
    a_refusal_is_forgotten,
    a_guest_keeps_the_logical_id,
    a_domain_forgets_who_left,
    shrinking_leaves_upper_tables,
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_a_planted_fault_is_noticed(
    fault: Fault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, and one line with the seed and the call at which the model first broke its rules."""
    fault(monkeypatch)
    assert fuzz_hypervisor.run(60_000, seed=3) == 1
    assert "seed 3, call " in capsys.readouterr().out
