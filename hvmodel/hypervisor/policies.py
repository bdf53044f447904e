"""Open questions about the real hypervisor, each with its possible answers, and named sets of answers.

No public document describes the device-domain calls. Where Linux headers, drivers and review mails leave a question
open, the model does not guess: the question is a field of :class:`Policies`, its alternatives are listed, and the
default is what today's hypervisor most likely does. A **profile** is a named set of answers. A finding that needs a
particular answer is reported with it.

The ids (G, D, A, M, P, X) are those of ``hypervisor/README.md``, which gives the evidence. An alternative that is
marked adversarial is one that no honest hypervisor should give; no profile uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple


class Question(NamedTuple):
    """One open question: its id, what is asked, and the alternatives (the first is the default)."""

    id: str
    text: str
    alternatives: tuple[str, ...]
    adversarial: frozenset[str]


def _ask(ident: str, text: str, *alternatives: str, adversarial: tuple[str, ...] = ()) -> str:
    question = Question(ident, text, alternatives, frozenset(adversarial))
    result: str = field(default=alternatives[0], metadata={"question": question})
    return result


@dataclass(frozen=True, slots=True)
class Policies:
    """One answer to each question. Status alternatives are written as the hex code that the hypervisor answers."""

    reserved_control_bits: str = _ask("G1", "reserved control bits set (rep count > 4095)", "0x3", "ignored")
    list_crosses_page: str = _ask("G2", "input list crosses the page", "0x4", "0x3")
    short_success: str = _ask("G3", "success with fewer reps is visible to the caller", "never", "every-1", "every-100")
    zero_progress: str = _ask("G4", "success with no progress", "never", "always", adversarial=("always",))
    simple_reps: str = _ask("G7", "reps completed after a simple call", "zero", "garbage")
    status_garbage: str = _ask("G8", "ignored status bits", "zero", "garbage")
    reserved_fields: str = _ask("G10", "structural reserved fields not zero", "0x5", "ignored")
    own_number_for_self: str = _ask("G12", "partition id is the caller's number instead of SELF", "same", "0xd")
    partition_zero: str = _ask("G13", "partition id 0", "0xd", "0x6")
    child_in_domain_calls: str = _ask("G14", "partition id of a child in domain calls", "0x6", "0xd")
    feature_missing: str = _ask("G15", "a call whose feature is absent", "0x2", "0x1e", "0x6")
    output_after_failure: str = _ask("G16", "output page after a failure", "untouched", "scribbled")

    create_duplicate: str = _ask("D1", "create of an id in use", "0x65", "0x19", "0x5", "alias", adversarial=("alias",))
    create_reserved: str = _ask("D2", "create of id 0 or 0xFFFFFFFF", "0x5", "0x65")
    create_other_type: str = _ask("D3", "create of another type than S2", "0x5", "0x1e", "0x2")
    create_without_progress: str = _ask("D4", "create without forward_progress_required", "accepted", "0x5")
    create_needs_memory: str = _ask("D6", "create takes a page from the owner's pool", "no", "yes")
    delete_with_mappings: str = _ask("D7", "delete of a domain with mappings", "drop", "0x19")
    delete_with_devices: str = _ask(
        "D8",
        "delete of a domain with devices",
        "0x19",
        "0x58",
        "to-default",
        "to-null",
        "dangling",
        adversarial=("dangling",),
    )
    delete_reserved: str = _ask("D9", "delete of default or NULL", "0x5", "0x6", "0x8")
    no_such_domain: str = _ask("D10", "use of a domain that does not exist", "0x5", "0x10")
    owner_vtl: str = _ask("D13", "owner VTL not zero", "0x5", "ignored")

    attach_elsewhere: str = _ask("A1", "attach while in another created domain", "move", "0x66", "0x58", "0x19")
    attach_default_again: str = _ask("A3a", "attach to default while in default", "success", "0x66")
    attach_null_again: str = _ask("A3b", "attach to NULL while in NULL", "success", "0x66")
    attach_same_again: str = _ask("A3c", "attach to the created domain that it is in", "0x66", "success")
    detach_leaves: str = _ask("A4", "where a detached device is", "default", "null", "none")
    detach_from_default: str = _ask("A6", "detach of a device in default", "success", "0x58", "none")
    detach_from_null: str = _ask("A7", "detach of a device in NULL", "default", "0x58", "stays")
    unknown_device: str = _ask("A8", "unknown device id", "0x57", "0x5", "0x10")
    wrong_id_type: str = _ask("A9", "device id of the wrong type", "0x57", "0x5")
    hypervisor_owned: str = _ask("A11", "attach of a device that the hypervisor owns", "0x6", "0x58", "0x8")
    attach_needs_memory: str = _ask("A13", "attach takes a page from the owner's pool", "no", "yes")
    failed_attach: str = _ask("A14", "state after a refused attach", "unchanged", "detached", adversarial=("detached",))
    reserved_regions: str = _ask("A17", "reserved regions reachable", "null", "null-and-created", "none")
    unplugged: str = _ask("A18", "attachment of a device that disappeared", "stays", "dropped")

    remap_same: str = _ask("M1", "remap, same frame and flags", "success", "0x65", "0x19")
    remap_other: str = _ask("M2", "remap, other frame or flags", "supersede", "0x65", "0x19")
    unmap_unmapped: str = _ask("M3", "unmap of a page that is not mapped", "success", "0x5", "0x10")
    unaligned_base: str = _ask("M4", "va base not page-aligned", "0x5", "0x4", "truncated")
    beyond_width: str = _ask("M5", "range beyond the IOVA width or past 2^64", "at-element", "whole-call")
    flags_not_readable: str = _ask("M6", "map flags without READABLE", "0x5", "accepted")
    frame_not_owned: str = _ask("M9", "frame that was deposited", "0x8", "0x5", "0x6")
    map_default: str = _ask("M10", "map or unmap on default", "0x6", "allowed", "0x5")
    map_null: str = _ask("M11", "map or unmap on NULL", "0x5", "0x6")
    page_table_cost: str = _ask("M13", "pool pages that a map takes", "exact", "none")
    shortage_at: str = _ask("M14", "where a shortage is detected", "element", "call")
    shortage_status: str = _ask("M15", "which status reports a shortage", "0xb", "0x75", "0x73", "0x83")
    deposit_suffices: str = _ask("M16", "one deposit of 256 pages lets a map go on", "yes", "several")
    unmap_frees: str = _ask("M17", "page tables go back to the pool", "delete", "at-once")

    deposit_partial: str = _ask("P1", "a refused deposit may have taken pages", "no", "yes")
    deposit_twice: str = _ask("P2", "deposit of a page that is deposited or mapped", "0x8", "0x19")

    logical_id_missing: str = _ask("X1", "direct attach without logical id", "0x5", "accepted")
    logical_id_used: str = _ask("X2", "direct attach with a logical id in use", "0x65", "0x5")
    direct_from_created: str = _ask("X3", "direct attach of a device in a created domain", "0x58", "move", "0x19")
    direct_from_guest: str = _ask("X4", "direct attach of a device that a guest has", "0x19", "0x58", "move")
    direct_detach_leaves: str = _ask("X6", "where a device is after DETACH_DEVICE (root)", "default", "null", "none")
    detach_wrong_partition: str = _ask("X7", "DETACH_DEVICE by the wrong partition", "0xd", "unique-id")
    guest_ends_attached: str = _ask("X8", "guest ends with devices attached", "default", "0x19", "null")
    direct_needs_memory: str = _ask("X9", "pages that a direct attach takes from the guest's pool", "0", "2")
    domain_from_guest: str = _ask("X10", "domain attach of a device that a guest has", "0x58", "move")
    l1vh_domain_calls: str = _ask("X11", "device-domain calls from an L1VH", "0x6", "0x2", "0x8", "0x1e")
    l1vh_idle_reach: str = _ask("X15", "what a device with no guest reaches on an L1VH", "nothing", "l1vh-memory")


QUESTIONS: dict[str, Question] = {f.name: f.metadata["question"] for f in fields(Policies)}
"""All questions by field name."""

DEFAULT = Policies()


def status_of(answer: str) -> int | None:
    """The status code in an alternative such as ``0x58``, or None if the alternative is a word."""
    return int(answer, 16) if answer.startswith("0x") else None


def differences(policies: Policies) -> dict[str, str]:
    """The answers that differ from the default, by field name."""
    return {name: getattr(policies, name) for name in QUESTIONS if getattr(policies, name) != getattr(DEFAULT, name)}


def describe(name: str, answer: str) -> str:
    """One answer in words, as a trace spells it: ``detach_leaves=none (A4: where a detached device is)``."""
    question = QUESTIONS[name]
    return f"{name}={answer} ({question.id}: {question.text})"


def assumed(policies: Policies) -> list[str]:
    """The answers that differ from the default, in words."""
    return [describe(name, answer) for name, answer in differences(policies).items()]


@dataclass(frozen=True, slots=True)
class Profile:
    """A named hypervisor: its answers, and the limits that belong to it.

    ``root_pool`` is how many pages the root's pool holds at boot, ``domain_limit`` how many created domains may exist
    (0: no limit), ``l1vh`` whether Linux runs as an L1VH, ``capabilities`` whether GET_IOMMU_CAPABILITIES exists.
    """

    name: str
    summary: str
    policies: Policies = DEFAULT
    l1vh: bool = False
    capabilities: bool = True
    root_pool: int = 1 << 20
    domain_limit: int = 0


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("default", "what today's hypervisor most likely does"),
        Profile("new-root", "attach moves atomically, same-domain attach answers 0x66, capabilities present"),
        Profile(
            "old-root",
            "attach is refused until the device is detached, no capabilities call",
            replace(DEFAULT, attach_elsewhere="0x58"),
            capabilities=False,
        ),
        Profile("l1vh", "Linux is a root inside a VM: logical ids, direct attach only", l1vh=True),
        Profile(
            "strict",
            "every tolerated irregularity is an error",
            replace(
                DEFAULT,
                remap_same="0x65",
                remap_other="0x65",
                unmap_unmapped="0x5",
                detach_from_default="0x58",
                output_after_failure="scribbled",
            ),
        ),
        Profile(
            "stress",
            "continuation in chunks, memory short everywhere, two domains at most",
            replace(
                DEFAULT,
                short_success="every-100",
                create_needs_memory="yes",
                attach_needs_memory="yes",
                direct_needs_memory="2",
                deposit_partial="yes",
                simple_reps="garbage",
                status_garbage="garbage",
            ),
            root_pool=0,
            domain_limit=2,
        ),
    )
}
"""The profiles by name."""
