"""Random hypercalls against the hypervisor model alone: is the yardstick itself straight?

Worlds of a few thousand calls each, every world with its own answers to the open questions. Most calls are valid and
name what exists; some are refused, some are broken on purpose. After every call the cheap rules are checked (status and
reps, first and last element took effect, a simple call that failed changed nothing), and often ``Hypervisor.check``.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from hvmodel.hypervisor import IN_DEFAULT, IN_NULL, QUESTIONS, Device, Hypervisor, Policies, Refusal, abi

WORLD_CALLS = 2000
CHECK_EVERY = 8
OWNED_STATUSES = sorted(value for value in abi.STATUS_NAMES if value)
ROOT_KEYS = [abi.device_id(abi.HV_DEVICE_TYPE_PCI, bdf) for bdf in (8, 16, 24, 32)]
L1VH_KEYS = [abi.device_id(abi.HV_DEVICE_TYPE_LOGICAL, number) for number in (5, 6, 7, 8)]
EDGES = [0, 1, 255, 510, 512, 1024, 4096, (1 << 18) - 2, 1 << 20, (1 << 27) - 3, (1 << 27) + 512, (1 << 36) - 600]
COUNTS = [1, 1, 1, 2, 2, 3, 5, 8, 16, 64, 256, 506, 507]
DEPOSITED = 1 << 24
SELF = abi.HV_PARTITION_ID_SELF

Statuses = Counter[tuple[int, int]]


def policies(rng: Random) -> Policies:
    """Answers for one world: the defaults, a few changed, or all drawn; adversarial ones are rare."""
    share = rng.choice([0.0, 0.1, 0.3, 1.0])
    hostile = rng.random() < 0.05
    answers = {
        name: rng.choice([a for a in question.alternatives if hostile or a not in question.adversarial])
        for name, question in QUESTIONS.items()
        if rng.random() < share
    }
    return Policies(**answers)


class World:
    """One hypervisor under random calls. ``statuses`` counts what it answered by itself, by (call code, status)."""

    def __init__(self, seed: str, statuses: Statuses) -> None:
        rng = self.rng = Random(seed)
        self.statuses = statuses
        self.policies = policies(rng)
        self.l1vh = rng.random() < 0.1
        self.keys = L1VH_KEYS if self.l1vh else ROOT_KEYS
        devices = [Device(key, reserved=((key & 0xFF, (key & 0xFF) + 4),)) for key in self.keys]
        devices[-1].owned = True
        self.hv = Hypervisor(
            self.policies,
            devices=devices,
            l1vh=self.l1vh,
            capabilities=rng.random() < 0.8,
            root_pool=rng.choice([0, 3, 40, 1 << 20]),
            domain_limit=rng.choice([0, 0, 2, 5]),
        )
        self.guests = [self.hv.create_partition()]
        self.page = bytearray(abi.PAGE_SIZE)
        self.output = bytearray(abi.PAGE_SIZE)
        self.next_deposit = DEPOSITED
        self.spots: list[tuple[int, int, int]] = [(1, 0, 1)]
        self.honest_attach = self.policies.failed_attach == "unchanged"
        self.short = 0
        if self.policies.short_success != "never":
            self.short = int(self.policies.short_success.removeprefix("every-"))
        domains = 1 if self.l1vh else 10  # an L1VH has no domain calls: they are only tried now and then
        weighted: list[tuple[int, Callable[[], None]]] = [
            (3 * domains, self.map),
            (2 * domains, self.unmap),
            (domains, self.attach),
            (4, self.detach),
            (4, self.create),
            (2, self.delete),
            (6, self.direct_attach),
            (6, self.direct_detach),
            (3, self.deposit),
            (2, self.withdraw),
            (1, self.capabilities),
            (4, self.noise),
        ]
        self.steps = [step for weight, step in weighted for _ in range(weight)]

    def step(self) -> None:
        """One hypercall, and now and then something in the life of a guest."""
        rng = self.rng
        if rng.random() < 0.01:
            self.guest_life()
        self.steps[int(rng.random() * len(self.steps))]()

    # --- what a call may name -------------------------------------------------------------------------------------

    def owner(self) -> int:
        return SELF if self.rng.random() < 0.97 else self.rng.choice([self.hv.ROOT_ID, 0, self.guest(), 0x99])

    def domain(self) -> int:
        """Mostly a created domain that exists."""
        choice = self.rng.random()
        if choice < 0.85 and len(self.hv.domains) > 2:
            created = list(self.hv.domains)[2:]
            return created[int(choice * 1000) % len(created)]
        return (1, 2, 3, 4, 5, IN_DEFAULT.id, IN_NULL.id, IN_NULL.id)[int(choice * 1000) % 8]

    def key(self) -> int:
        choice = self.rng.random()
        if choice < 0.97:
            return self.keys[int(choice * 1000) % 4]
        return self.rng.choice([*ROOT_KEYS, *L1VH_KEYS, 1 << 63])

    def guest(self) -> int:
        """Mostly an active guest."""
        guest = self.guests[int(self.rng.random() * len(self.guests))]
        live = self.hv.partitions.get(guest)
        if live is not None and live.state == "active":
            return guest
        return self.guests[int(self.rng.random() * len(self.guests))]

    def refusal(self) -> Refusal | None:
        if self.rng.random() >= 0.04:
            return None
        return Refusal(self.rng.choice(OWNED_STATUSES), self.rng.choice([0, 0, 1, 3, 100, 5000]))

    def spot(self) -> tuple[int, int, int]:
        """A domain, first page and page count: an edge, or around something mapped before."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.5:
            spots = self.spots
            ident, first, count = spots[int(rng.random() * len(spots))]
            if choice < 0.25 and ident in self.hv.domains:
                return ident, first, count
            ident = self.domain() if ident not in self.hv.domains else ident
            first = max(0, first + (-1, 0, 1, count - 1, count)[int(choice * 1000) % 5])
            return ident, first, COUNTS[int(rng.random() * len(COUNTS))]
        first = EDGES[int(rng.random() * len(EDGES))]
        return self.domain(), first, COUNTS[int(rng.random() * len(COUNTS))]

    def rep_start(self, count: int) -> int:
        return 0 if self.rng.random() < 0.93 else int(self.rng.random() * (count + 1))

    # --- the calls --------------------------------------------------------------------------------------------------

    def map(self) -> None:
        rng, page = self.rng, self.page
        ident, first, count = self.spot()
        count = min(count, abi.MAP_LIST_MAX)
        start = self.rep_start(count)
        flags = 3 if rng.random() < 0.98 else rng.choice([0, 1, 2, 7, 0x10003, 0x8003, 0x40])
        base = first << abi.PAGE_SHIFT | (rng.random() < 0.01)
        frame = first if rng.random() < 0.8 else int(rng.random() * 4096)
        if rng.random() < 0.02:
            frame = DEPOSITED - 2
        raw = abi.encode_consecutive(frame, count)
        if rng.random() < 0.1:
            half = count >> 1
            raw = raw[: 8 * half] + abi.encode_consecutive(9000 + half, count - half)
        abi.MAP_DEVICE_GPA_PAGES.pack_into(page, 0, self.owner(), 0, 0, ident, 0, flags, base)
        page[abi.MAP_DEVICE_GPA_PAGES.size : abi.MAP_DEVICE_GPA_PAGES.size + 8 * count] = raw
        _, done = self.rep(abi.HVCALL_MAP_DEVICE_GPA_PAGES, count, start)
        if done > start:
            if len(self.spots) < 24:
                self.spots.append((ident, first, count))
            else:
                self.spots[int(rng.random() * 24)] = (ident, first, count)
            table = self.hv.domains[ident].table
            for i in (start, done - 1):
                wanted = int.from_bytes(raw[8 * i : 8 * i + 8], "little")
                assert table.frame(first + i) == wanted, f"element {i} of a map is not in the table"

    def unmap(self) -> None:
        ident, first, count = self.spot()
        if self.rng.random() < 0.05:
            count = self.rng.choice([1024, 4095])
        start = self.rep_start(count)
        values = (self.owner(), 0, 0, ident, first << abi.PAGE_SHIFT)
        abi.UNMAP_DEVICE_GPA_PAGES.pack_into(self.page, 0, *values)
        before = self.hv.domains[ident].table.pages if ident in self.hv.domains else 0
        _, done = self.rep(abi.HVCALL_UNMAP_DEVICE_GPA_PAGES, count, start)
        if done > start:
            table = self.hv.domains[ident].table
            assert not table.meets(first + start, first + done), "an unmapped page is still in the table"
            assert before - table.pages <= done - start, "an unmap took more pages than it said"

    def attach(self) -> None:
        abi.ATTACH_DEVICE_DOMAIN.pack_into(self.page, 0, self.owner(), 0, 0, self.domain(), self.key())
        self.simple(abi.HVCALL_ATTACH_DEVICE_DOMAIN)

    def detach(self) -> None:
        abi.DETACH_DEVICE_DOMAIN.pack_into(self.page, 0, self.owner(), self.key())
        self.simple(abi.HVCALL_DETACH_DEVICE_DOMAIN)

    def create(self) -> None:
        kind, flags = (0, 1) if self.rng.random() < 0.95 else self.rng.choice([(1, 1), (16, 1), (0, 0), (0, 5)])
        ident = 1 + int(self.rng.random() * 5) if self.rng.random() < 0.9 else self.domain()
        abi.CREATE_DEVICE_DOMAIN.pack_into(self.page, 0, self.owner(), 0, kind, ident, flags)
        self.simple(abi.HVCALL_CREATE_DEVICE_DOMAIN)

    def delete(self) -> None:
        abi.DELETE_DEVICE_DOMAIN.pack_into(self.page, 0, self.owner(), 0, 0, self.domain())
        self.simple(abi.HVCALL_DELETE_DEVICE_DOMAIN)

    def direct_attach(self) -> None:
        flags = 1 if self.rng.random() < 0.97 else self.rng.choice([0, 3, 0x101])
        logical = 0x100 + int(self.rng.random() * 4)
        abi.ATTACH_DEVICE.pack_into(self.page, 0, self.guest(), self.key(), flags, 0, 0, 0, logical, 0, 0, 0)
        self.simple(abi.HVCALL_ATTACH_DEVICE)

    def direct_detach(self) -> None:
        logical = 0x100 + int(self.rng.random() * 4)
        guest = self.guest() if self.rng.random() < 0.9 else self.rng.choice([0, self.hv.ROOT_ID, 0x99])
        if self.hv.logical and self.rng.random() < 0.8:
            logical, device = next(iter(self.hv.logical.items()))
            guest = device.place.id
        abi.DETACH_DEVICE.pack_into(self.page, 0, guest, logical)
        self.simple(abi.HVCALL_DETACH_DEVICE)

    def deposit(self) -> None:
        count = self.rng.choice([1, 1, 8, 256, 511])
        frame = self.next_deposit
        self.next_deposit += count + 8
        if self.rng.random() < 0.1:
            frame = self.rng.choice([0, 9000, 512, DEPOSITED, frame - 12])
        abi.DEPOSIT_MEMORY.pack_into(self.page, 0, self.account())
        self.page[8 : 8 + 8 * count] = abi.encode_consecutive(frame, count)
        self.rep(abi.HVCALL_DEPOSIT_MEMORY, count, self.rep_start(count))

    def withdraw(self) -> None:
        count = self.rng.choice([1, 8, 512, 513])
        account = self.account()
        abi.WITHDRAW_MEMORY.pack_into(self.page, 0, account, 0)
        start = self.rep_start(count)
        pools = self.hv.partitions
        before = sum(len(partition.pool.frames) for partition in pools.values())
        _, done = self.rep(abi.HVCALL_WITHDRAW_MEMORY, count, start)
        back = before - sum(len(partition.pool.frames) for partition in pools.values())
        assert back == max(0, done - start), "a withdraw gave more or fewer frames than it said"

    def account(self) -> int:
        choice = self.rng.random()
        return SELF if choice < 0.5 else self.guest() if choice < 0.97 else 0x99

    def capabilities(self) -> None:
        abi.GET_IOMMU_CAPABILITIES.pack_into(self.page, 0, self.owner(), 0)
        self.simple(abi.HVCALL_GET_IOMMU_CAPABILITIES)

    def noise(self) -> None:
        """A call that is broken somewhere: header bytes, control bits, counts, codes."""
        rng, page = self.rng, self.page
        code = rng.choice([*abi.CALL_NAMES, *abi.CALL_NAMES, 0x999])
        header = abi.LAYOUTS[code][0].size if code in abi.LAYOUTS else 40
        page[:header] = rng.randbytes(header)
        for offset, good in ((0, SELF.to_bytes(8, "little")), (8, bytes(16))):
            if rng.random() < 0.7:
                page[offset : offset + len(good)] = good
        count = rng.choice([0, 1, 3, 507, 508, 4095, 4096, 5000]) if code in abi.REP_CALLS else rng.random() < 0.2
        control = abi.control_word(code, int(count), self.rep_start(4))
        if rng.random() < 0.3:
            control ^= 1 << rng.choice([16, 17, 26, 27, 30, 44, 47, 60, 63])
        self.call(code, control)

    # --- what must hold after each ------------------------------------------------------------------------------------

    def rep(self, code: int, count: int, start: int) -> tuple[int, int]:
        return self.call(code, abi.control_word(code, count, start))

    def simple(self, code: int) -> tuple[int, int]:
        return self.call(code, code)

    def call(self, code: int, control: int) -> tuple[int, int]:
        """Do it, hold the answer against the rules of TLFS "Hypercall Interface", count it; (status, completed)."""
        hv, refusal, chosen = self.hv, self.refusal(), self.policies
        is_rep = code in abi.REP_CALLS
        before = None if is_rep else self.fingerprint()
        hv.effects.clear()
        word = hv.hypercall(control, self.page, self.output, refusal)
        status, done = word & abi.STATUS_MASK, word >> abi.REP_COUNT_SHIFT & abi.REP_MASK
        if not hv.refused:
            self.statuses[code, status] += 1
        else:
            assert refusal is not None, "refused without a refusal"
            assert status == refusal.status, "another status than the one refused with"
        if word & ~0xFFF_0000_FFFF:
            assert chosen.status_garbage == "garbage", "ignored status bits are set"
        if is_rep:
            count, start = control >> abi.REP_COUNT_SHIFT & abi.REP_MASK, control >> abi.REP_START_SHIFT & abi.REP_MASK
            if status:
                assert not done or start <= done < count, "an error that completed all, or less than before"
            elif chosen.zero_progress == "always":
                assert done == start, "progress where there should be none"
            elif self.short and refusal is None:
                assert done == min(count, start + self.short), "a chunk of another size"
            else:
                assert done == count, "success with fewer reps"
            if hv.refused and refusal is not None:
                assert done <= max(start, refusal.done), "a refusal came too late"
            assert status or refusal is None or chosen.zero_progress == "always", "a refusal was swallowed"
            return status, done
        assert not done or chosen.simple_reps == "garbage", "a simple call completed reps"
        assert status or refusal is None, "a refusal was swallowed"
        if status and (self.honest_attach or not hv.refused):
            assert before == self.fingerprint(), "a simple call failed and changed something"
            assert not hv.effects, "a simple call failed and told of effects"
        return status, done

    def fingerprint(self) -> object:
        """What a simple call could change, cheaply: places, owners, sizes of tables and of pools."""
        hv = self.hv
        return (
            [(device.place, device.logical, device.pages_used) for device in hv.devices.values()],
            [(ident, domain.table.pages, len(domain.devices)) for ident, domain in hv.domains.items()],
            [(partition.pool.free, partition.pool.used) for partition in hv.partitions.values()],
            len(hv.logical),
        )

    def guest_life(self) -> None:
        """A guest is created, ends, or is deleted; a device is unplugged."""
        rng, hv = self.rng, self.hv
        choice = rng.random()
        if choice < 0.1:
            hv.unplug(rng.choice(self.keys))
        elif choice < 0.3 or len(self.guests) < 2:
            if len(self.guests) < 5:
                self.guests.append(hv.create_partition(initialized=rng.random() < 0.8))
        elif choice < 0.6:
            hv.initialize_partition(rng.choice(self.guests))
        elif choice < 0.75:
            hv.finalize_partition(self.guest())
        elif not hv.delete_partition(guest := rng.choice(self.guests)) and rng.random() < 0.8:
            self.guests.remove(guest)


def play(seed: int, number: int, calls: int, every: int, statuses: Statuses) -> tuple[int, str] | None:
    """World ``number`` of this seed; None, or the call in it after which something was wrong, and what."""
    world = World(f"{seed}/{number}", statuses)
    done = 0
    try:
        while done < calls:
            done += 1
            world.step()
            if done % every == 0 or done == calls:
                world.hv.check()
    except Exception as error:
        return done, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return None


def summary(statuses: Statuses, calls: int, worlds: int, seconds: float) -> str:
    """One line: how much, how fast, what was seen, what was never reached."""
    by_status: Counter[int] = Counter()
    codes = set()
    for (code, status), times in statuses.items():
        by_status[status] += times
        if not status:
            codes.add(code)
    seen = ", ".join(f"{abi.status_name(status)} {times}" for status, times in by_status.most_common())
    known = {value for name, value in vars(abi).items() if name.startswith("HV_STATUS_")}
    calls_missing = [abi.call_name(code) for code in abi.CALL_NAMES if code not in codes]
    statuses_missing = [abi.status_name(status) for status in sorted(known - set(by_status))]
    return (
        f"fuzz-hypervisor: {calls:,} calls in {worlds:,} worlds, {calls / max(seconds, 1e-9):,.0f} calls/s; "
        f"seen: {seen}; calls that never succeeded: {', '.join(calls_missing) or 'none'}; "
        f"statuses never answered: {', '.join(statuses_missing) or 'none'}"
    )


def run(calls: int = 2_000_000, seed: int = 0, progress: bool = True) -> int:
    """Make this many random hypercalls; returns 0, or 1 after printing the seed, the call and what was wrong."""
    statuses: Statuses = Counter()
    began = time.perf_counter()
    done = worlds = 0
    show = progress and sys.stderr.isatty()
    while done < calls:
        size = min(WORLD_CALLS, calls - done)
        wrong = play(seed, worlds, size, CHECK_EVERY, statuses)
        if wrong:
            at, why = play(seed, worlds, size, 1, Counter()) or wrong  # once more, looking after every call
            if show:
                print(file=sys.stderr)
            print(f"fuzz-hypervisor: seed {seed}, call {done + at:,} (call {at} of world {worlds}): {why}")
            return 1
        done, worlds = done + size, worlds + 1
        if show and worlds % 10 == 0:
            rate = done / (time.perf_counter() - began)
            text = f"\rfuzz-hypervisor: {done:,} of {calls:,} calls, {rate:,.0f} calls/s"
            print(text, end="", file=sys.stderr, flush=True)
    if show:
        print(file=sys.stderr)
    print(summary(statuses, done, worlds, time.perf_counter() - began))
    return 0
