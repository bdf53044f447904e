"""The properties: id, claim, severity, source. ``properties/README.md`` and ``callers/README.md`` say what they mean.

A property never knows which driver runs, and is never written for one defect.
"""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("isolation", "memory", "availability", "leak", "bookkeeping", "contract")
"""From worst to mildest: a device reaches what it must not; host memory is corrupted; something that should work does not;
something is never given back; views differ and harm comes later; a rule is broken and no harm is seen yet."""


@dataclass(frozen=True, slots=True)
class Property:
    """One claim. ``source`` says where it comes from: kernel file and function, header, TLFS chapter or mail."""

    id: str
    claim: str
    severity: str
    source: str

    @property
    def rank(self) -> int:
        """0 for the worst severity."""
        return SEVERITIES.index(self.severity)


def _table(*rows: tuple[str, str, str, str]) -> dict[str, Property]:
    return {row[0]: Property(*row) for row in rows}


PROPERTIES: dict[str, Property] = _table(
    (
        "no-stale-mapping",
        "the hypervisor maps nothing that the caller was told is gone",
        "isolation",
        "drivers/iommu/iommu.c:iommu_unmap, vfio_iommu_type1.c:vfio_unmap_unpin (unpins what is reported unmapped)",
    ),
    (
        "page-given-back",
        "no device reaches memory whose last pin is gone: it is the kernel's, which gives it to anybody",
        "isolation",
        "vfio_iommu_type1.c:vfio_unmap_unpin, iommufd/pages.c:__iopt_area_unfill_domain (must not unpin what is still DMA mapped)",
    ),
    (
        "no-foreign-attach",
        "a device is in a place that the caller's books allow, never with another guest",
        "isolation",
        "include/linux/iommu.h:iommu_domain_ops.attach_dev",
    ),
    (
        "touches-only-its-own",
        "a call changes nothing in the hypervisor but the domain, device and partition that it is about",
        "isolation",
        "include/linux/iommu.h:iommu_domain_ops",
    ),
    (
        "blocked-is-blocked",
        "a device that the caller has blocked can reach nothing but reserved regions",
        "isolation",
        "drivers/iommu/iommu.c:__iommu_group_alloc_blocking_domain, include/linux/iommu.h:IOMMU_DOMAIN_BLOCKED",
    ),
    (
        "replace-has-no-gap",
        "during a replace the device is in the old or the new domain or blocked, if the hypervisor offers such a way",
        "isolation",
        'drivers/iommu/iommu.c:__iommu_group_set_domain_internal ("no window" rule of replace)',
    ),
    (
        "ids-are-unique",
        "live domains, and domains that may still be alive, have distinct ids, none of them reserved",
        "isolation",
        "include/hyperv/hvhdk_mini.h:HV_DEVICE_DOMAIN_ID_S2_DEFAULT, _NULL",
    ),
    (
        "device-names-are-unique",
        "two devices that are not aliases never get the same hypervisor id",
        "isolation",
        "include/hyperv/hvhdk_mini.h:union hv_device_id",
    ),
    (
        "input-page-bounds",
        "no hypercall input is written beyond its page",
        "memory",
        "TLFS hypercall interface: parameter lists must not cross a page",
    ),
    (
        "no-use-after-free",
        "no freed object is read or written, nothing is freed twice",
        "memory",
        "Documentation/dev-tools/kasan.rst",
    ),
    (
        "no-out-of-bounds",
        "every access is within an object that is allocated, or within what else is the driver's",
        "memory",
        "Documentation/dev-tools/kasan.rst",
    ),
    (
        "no-null-dereference",
        "no NULL pointer is read or written through",
        "memory",
        "include/linux/iommu.h:iommu_domain_ops.map_pages",
    ),
    (
        "no-uninitialised-read",
        "no result depends on a value that was never set",
        "memory",
        "Documentation/dev-tools/kmsan.rst",
    ),
    (
        "no-lost-mapping",
        "what the caller holds is mapped, to the right address",
        "availability",
        "drivers/iommu/iommu.c:iommu_map",
    ),
    (
        "shortage-is-survivable",
        "an operation that may sleep does not fail for a memory shortage without having tried the deposit that it calls for",
        "availability",
        'drivers/hv/hv_proc.c:hv_call_deposit_pages, mail "mshv: Introduce hv_deposit_memory helper functions"',
    ),
    (
        "legal-requests-work",
        "a legal map, attach or allocation succeeds if nothing is refused, no memory is short and no limit is reached",
        "availability",
        "include/linux/iommu.h:iommu_domain_ops, iommu_ops.domain_alloc_paging",
    ),
    (
        "every-call-ends",
        "an operation ends within a bounded number of hypercalls and deposits, whatever the hypervisor answers",
        "availability",
        "TLFS hypercall interface; kernel/watchdog.c",
    ),
    (
        "allocation-recovers",
        "once the cause is gone, a failed allocation does not make later ones fail",
        "availability",
        "drivers/iommu/iommu.c:iommu_paging_domain_alloc",
    ),
    (
        "options-are-honoured",
        "a device on the skip list is not claimed, every other one is",
        "availability",
        "mail 20260120064230.3602565-13 (hv_iommu_skip=)",
    ),
    (
        "free-frees-all",
        "after free the hypervisor has no such domain, and object and nodes are given back",
        "leak",
        "include/linux/iommu.h:iommu_domain_ops.free",
    ),
    (
        "nothing-is-left",
        "when every caller is done and faults are lifted, nothing is left and the same work again deposits nothing more",
        "leak",
        "drivers/iommu/iommu.c:iommu_deinit_device, TLFS 2.0 7.1.1 (memory pools)",
    ),
    (
        "mapping-ends-with-its-page",
        "no domain maps memory whose last pin is gone, also if no device is in it: the next one that is attached reaches it",
        "bookkeeping",
        "vfio_iommu_type1.c:vfio_unmap_unpin (all domains are unmapped before the pages are unpinned)",
    ),
    (
        "tree-matches-hypervisor",
        "for a domain that the driver maps, its tree and the hypervisor's page table say the same",
        "bookkeeping",
        "mail aXeO7wh7bpacJ1Sk@skinsburskii.localdomain (review of v0)",
    ),
    (
        "lookup-matches-caller",
        "iova_to_phys answers what the caller was promised",
        "bookkeeping",
        "include/linux/iommu.h:iommu_domain_ops.iova_to_phys, vfio_iommu_type1.c:vfio_unmap_unpin",
    ),
    (
        "count-matches",
        "a driver that counts attachments counts what the hypervisor has, and never below zero",
        "bookkeeping",
        "mail aXeO7wh7bpacJ1Sk@skinsburskii.localdomain (review of v0)",
    ),
    (
        "pointer-matches",
        "the driver's idea of a device's domain is live, and is where the hypervisor has the device",
        "bookkeeping",
        "drivers/iommu/iommu.c:dev_iommu_priv_set",
    ),
    (
        "map-result",
        "success means mapped; after an error nothing beyond what mapped admits is mapped, and of the whole request nothing",
        "contract",
        "drivers/iommu/iommu.c:__iommu_map (unwind of a failed map)",
    ),
    (
        "unmap-honest",
        "what an unmap says is gone was mapped, and nothing outside the mappings that it meets changed",
        "contract",
        "drivers/iommu/iommu.c:iommu_unmap (comment on aggregated ranges)",
    ),
    (
        "unmap-total",
        "a legal unmap request in which nothing was refused gives back exactly its size",
        "contract",
        "drivers/iommu/iommufd/pages.c:iommu_unmap_nofail",
    ),
    (
        "failed-attach-keeps-old",
        "after a failed attach the device is still in the old domain, in all three views",
        "contract",
        "drivers/iommu/iommu.c:__iommu_group_set_domain_internal (no revert of the device that failed)",
    ),
    (
        "static-domains-always-attach",
        "attaching identity or blocked survives one refusal",
        "contract",
        "drivers/iommu/iommu.c:__iommu_device_set_domain (static domains cannot fail)",
    ),
    (
        "release-parks",
        "after release the device is blocked or in identity and no driver state refers to it",
        "contract",
        "drivers/iommu/iommu.c:iommu_deinit_device",
    ),
    (
        "failure-is-visible",
        "a failing hypercall leaves an error return or a log line",
        "contract",
        "mail aXeO7wh7bpacJ1Sk@skinsburskii.localdomain (review of v0)",
    ),
    (
        "control-word-valid",
        "rep count 1 to 4095 for a rep call, 0 for a simple one, no reserved bit set",
        "contract",
        "TLFS hypercall interface: hypercall inputs",
    ),
    (
        "names-existing-things",
        "a hypercall names a domain, device and partition that exist, by the right type of id, and is one that its caller may make",
        "contract",
        "include/hyperv/hvhdk_mini.h; TLFS 5.0 appendix A",
    ),
    (
        "no-sleep-in-atomic",
        "nothing that may sleep is called with a spinlock held, interrupts off, or from a caller that forbids it",
        "contract",
        "include/linux/kernel.h:might_sleep",
    ),
    (
        "gfp-is-used",
        "an allocation or deposit inside a map is neither stricter nor laxer than the caller's gfp",
        "contract",
        "include/linux/iommu.h:iommu_domain_ops.map_pages",
    ),
    (
        "context-is-balanced",
        "locks taken are released, interrupts off are on again, the probe lock is held where the core asserts it",
        "contract",
        "Documentation/locking/lockdep-design.rst, drivers/iommu/iommu.c:dev_iommu_priv_set",
    ),
    (
        "permissions-match",
        "read-only is not writable, write-only is not readable where the hypervisor can express it",
        "contract",
        "TLFS datatypes: hv_map_gpa_flags; include/linux/iommu.h:IOMMU_READ",
    ),
    (
        "advertised-is-true",
        "aperture, page sizes and reserved regions are what the hypervisor and the platform accept",
        "contract",
        "include/linux/iommu.h:iommu_domain_geometry, iommu_ops.get_resv_regions",
    ),
    (
        "errors-say-what",
        "a failing allocation or attach answers an errno of the kind of its cause",
        "contract",
        "include/linux/iommu.h:iommu_domain_ops.attach_dev (errnos)",
    ),
    (
        "ready-before-visible",
        "nothing is visible to users or to the core before it is usable, and a failed init leaves nothing behind",
        "contract",
        "mail aXeO7wh7bpacJ1Sk@skinsburskii.localdomain (review of v0)",
    ),
)

ALWAYS_JUDGED = frozenset(
    {
        "input-page-bounds",
        "no-use-after-free",
        "no-out-of-bounds",
        "no-null-dereference",
        "no-uninitialised-read",
        "every-call-ends",
        "no-sleep-in-atomic",
        "gfp-is-used",
        "control-word-valid",
    }
)
"""Properties without a precondition: the kernel services and the door check them at every step."""
