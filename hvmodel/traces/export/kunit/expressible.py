"""Which properties a KUnit test can put to the test, and where it cannot, why."""

from __future__ import annotations

from hvmodel.faults import ALLOC_PAGES, KERNEL_SITES, KZALLOC
from hvmodel.traces.export.case import Case
from hvmodel.traces.verdict import FAILS, UNDETERMINED

_EVERYWHERE = {
    "no-stale-mapping": "hvm_no_stale_mapping",
    "no-lost-mapping": "hvm_no_lost_mapping",
    "tree-matches-hypervisor": "hvm_tree_matches_hypervisor",
    "lookup-matches-caller": "hvm_lookup_matches_caller",
    "map-result": "hvm_map_result",
    "unmap-honest": "hvm_unmap_honest",
    "unmap-total": "hvm_unmap_total",
    "permissions-match": "hvm_permissions_match",
    "input-page-bounds": "hvm_input_page_bounds",
    "control-word-valid": "hvm_control_word_valid",
    "every-call-ends": "hvm_every_call_ends",
    "no-sleep-in-atomic": "hvm_no_sleep_in_atomic",
    "context-is-balanced": "hvm_context_is_balanced",
    "blocked-is-blocked": "hvm_blocked_is_blocked",
    "replace-has-no-gap": "hvm_replace_has_no_gap",
    "ids-are-unique": "hvm_ids_are_unique",
    "advertised-is-true": "hvm_advertised_is_true",
    "no-use-after-free": "hvm_no_use_after_free",
    "no-out-of-bounds": "hvm_no_out_of_bounds",
    "no-null-dereference": "hvm_no_null_dereference",
}
"""The C object of each property that a test can look at in every step (``checks_*.c``)."""

_DECIDED = {
    "names-existing-things": "hvm_names_existing_things",
    "touches-only-its-own": "hvm_touches_only_its_own",
    "shortage-is-survivable": "hvm_shortage_is_survivable",
    "failed-attach-keeps-old": "hvm_failed_attach_keeps_old",
    "static-domains-always-attach": "hvm_static_domains_always_attach",
    "no-foreign-attach": "hvm_no_foreign_attach",
    "release-parks": "hvm_release_parks",
    "count-matches": "hvm_count_matches",
    "pointer-matches": "hvm_pointer_matches",
    "legal-requests-work": "hvm_legal_requests_work",
    "errors-say-what": "hvm_errors_say_what",
    "allocation-recovers": "hvm_allocation_recovers",
    "free-frees-all": "hvm_free_frees_all",
    "nothing-is-left": "hvm_nothing_left",
    "options-are-honoured": "hvm_options_are_honoured",
}
"""Those with excuses that a test does not know: it looks where they failed in the record, and nowhere else."""

_PARTLY = ("context-is-balanced", "no-sleep-in-atomic")
"""Properties of which a test sees less than lockdep and might_sleep() do."""

CHECKS = _EVERYWHERE | _DECIDED
"""All that can be expressed."""

KASAN = ("no-use-after-free", "no-out-of-bounds")
"""Properties that a test puts to the test where KASAN is there."""

NEVER = {
    "device-names-are-unique": "the ids are made by hv_build_devid_oftype(), which the test replaces",
    "gfp-is-used": "a test does not see which gfp flags kzalloc() is called with",
    "no-uninitialised-read": "only KMSAN sees it, and KMSAN does not tell KUnit",
    "ready-before-visible": "hv_iommu_init() registers with the real IOMMU core, which a test must not",
    "failure-is-visible": "a test does not see the log",
    "page-given-back": "a test calls the driver, and pins no memory",
    "mapping-ends-with-its-page": "a test calls the driver, and pins no memory",
}
"""Why the other properties cannot."""


def why_not(case: Case) -> str:
    """Why a KUnit test cannot put a case to the test, in one line; nothing if it can."""
    found = case.verdict
    name = found.property
    if name is None:
        return "the trace names no property, and none fails"
    if name not in CHECKS:
        return f"{name} cannot be seen by KUnit: {NEVER.get(name, 'no check is written for it')}"
    if found.state == UNDETERMINED:
        return f"{name} is undetermined: {found.reason}"
    if found.state != FAILS and name in _DECIDED:
        return f"{name} held when this was recorded, and a test knows only how to look where it failed"
    if found.state != FAILS and name in _PARTLY:
        return f"{name} held when this was recorded, and a test sees only a part of it"
    return _shape(case) or _rubbish(case) or _faults(case)


def _shape(case: Case) -> str:
    """Ways of failing that a test does not see, of properties that it otherwise does."""
    violation = case.verdict.violation
    if violation is None:
        return ""
    name, shape = violation.property, violation.shape
    first = str(shape[0]) if shape else ""
    if name == "tree-matches-hypervisor" and first == "inverted":
        return "a node that ends before it begins is seen in the driver's tree only, which a test does not walk"
    if name == "context-is-balanced" and first in ("probe-lock", "lock"):
        return "who holds which lock is lockdep's to see, and lockdep does not tell KUnit"
    if name == "no-sleep-in-atomic" and "hv_call_deposit_pages" not in violation.detail:
        return "only a sleeping deposit is seen by a test"
    if name == "every-call-ends" and first not in ("hypercalls", "deposits"):
        return "the kernel would stop at a BUG_ON()"
    if name == "free-frees-all" and first != "domain":
        return "objects that are never freed are kmemleak's to see, and kmemleak does not tell KUnit"
    if name == "release-parks" and first == "pointer":
        return "after release the core frees what held the private pointer"
    if name == "nothing-is-left" and violation.subject not in ("domains", "devices"):
        return "objects, locks and pages that are left are not seen by a test"
    return ""


def _rubbish(case: Case) -> str:
    """Whether the driver broke on the way what makes the rest of its run worth nothing."""
    last = case.verdict.step or len(case.steps)
    for step in case.steps[:last]:
        for violation in step.outcome.violations:
            name = violation.property
            if name in _UNSTEADY and name != case.verdict.property:
                return f"the driver breaks {name} on the way, and what it does then is another thing in every kernel"
            if name == "input-page-bounds" and step.number < last:
                return f"the driver breaks {name} on the way, in step {step.number}: what comes of that is set aside"
    return ""


_UNSTEADY = ("no-use-after-free", "no-out-of-bounds", "no-null-dereference", "no-uninitialised-read")
"""Properties after whose failing a run is not the same in every kernel."""


def _faults(case: Case) -> str:
    """Refusals of the record that a test cannot bring about."""
    for step in case.steps[: case.verdict.step or len(case.steps)]:
        for fault in step.outcome.fired:
            if fault.site not in KERNEL_SITES or fault.site == ALLOC_PAGES or _before_init(case):
                continue
            alone = sum(other.site == KZALLOC for other in step.outcome.fired) == 1
            if fault.site != KZALLOC or fault.times != 1 or not alone:  # one kzalloc() a step can fail: CONFIG_FAILSLAB
                return f"a test cannot make {fault.site}() fail like that"
    return ""


def _before_init(case: Case) -> bool:
    """Whether the property fails before the driver's init function runs: boot options."""
    return case.verdict.violation is not None and case.verdict.violation.call == "setup"


__all__ = ["CHECKS", "KASAN", "NEVER", "why_not"]
