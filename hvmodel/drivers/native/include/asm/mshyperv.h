/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for asm/mshyperv.h, asm-generic/mshyperv.h, hyperv/hvgdk_mini.h and hvhdk_mini.h. Layouts as in the mail "[PATCH V1 09/13]
 * mshv: Import data structs around device passthru from hyperv headers"; they are checked against hvmodel.hypervisor.abi by a test. */
#ifndef HVM_ASM_MSHYPERV_H
#define HVM_ASM_MSHYPERV_H

#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#ifndef CONFIG_X86
#define CONFIG_X86 1
#endif
#ifndef CONFIG_X86_64
#define CONFIG_X86_64 1
#endif
#ifndef CONFIG_HYPERV
#define CONFIG_HYPERV 1
#endif

#define HV_HYP_PAGE_SHIFT 12
#define HV_HYP_PAGE_SIZE BIT(HV_HYP_PAGE_SHIFT)
#define HV_HYP_PAGE_MASK (~(HV_HYP_PAGE_SIZE - 1))
#define HV_PARTITION_ID_INVALID ((u64)0)
#define HV_PARTITION_ID_SELF ((u64)-1)

#define HV_DEVICE_DOMAIN_AVAILABLE BIT(24)
#define HV_S1_DEVICE_DOMAIN_AVAILABLE BIT(25)

#define HVCALL_DEPOSIT_MEMORY 0x0048
#define HVCALL_WITHDRAW_MEMORY 0x0049
#define HVCALL_ATTACH_DEVICE 0x0082
#define HVCALL_DETACH_DEVICE 0x0083
#define HVCALL_CREATE_DEVICE_DOMAIN 0x00b1
#define HVCALL_ATTACH_DEVICE_DOMAIN 0x00b2
#define HVCALL_MAP_DEVICE_GPA_PAGES 0x00b3
#define HVCALL_UNMAP_DEVICE_GPA_PAGES 0x00b4
#define HVCALL_DETACH_DEVICE_DOMAIN 0x00c4
#define HVCALL_DELETE_DEVICE_DOMAIN 0x00c5
#define HVCALL_GET_IOMMU_CAPABILITIES 0x0125

#define HV_HYPERCALL_RESULT_MASK GENMASK_ULL(15, 0)
#define HV_HYPERCALL_FAST_BIT BIT(16)
#define HV_HYPERCALL_VARHEAD_OFFSET 17
#define HV_HYPERCALL_REP_COMP_OFFSET 32
#define HV_HYPERCALL_REP_COMP_MASK GENMASK_ULL(43, 32)
#define HV_HYPERCALL_REP_START_OFFSET 48
#define HV_HYPERCALL_REP_START_MASK GENMASK_ULL(59, 48)
#define HV_REP_COUNT_MAX 4095UL

#define HV_STATUS_SUCCESS 0x0
#define HV_STATUS_INVALID_HYPERCALL_CODE 0x2
#define HV_STATUS_INVALID_HYPERCALL_INPUT 0x3
#define HV_STATUS_INVALID_ALIGNMENT 0x4
#define HV_STATUS_INVALID_PARAMETER 0x5
#define HV_STATUS_ACCESS_DENIED 0x6
#define HV_STATUS_INVALID_PARTITION_STATE 0x7
#define HV_STATUS_OPERATION_DENIED 0x8
#define HV_STATUS_UNKNOWN_PROPERTY 0x9
#define HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE 0xA
#define HV_STATUS_INSUFFICIENT_MEMORY 0xB
#define HV_STATUS_INVALID_PARTITION_ID 0xD
#define HV_STATUS_INVALID_VP_INDEX 0xE
#define HV_STATUS_NOT_FOUND 0x10
#define HV_STATUS_INVALID_PORT_ID 0x11
#define HV_STATUS_INVALID_CONNECTION_ID 0x12
#define HV_STATUS_INSUFFICIENT_BUFFERS 0x13
#define HV_STATUS_NOT_ACKNOWLEDGED 0x14
#define HV_STATUS_INVALID_VP_STATE 0x15
#define HV_STATUS_OBJECT_IN_USE 0x19
#define HV_STATUS_NO_RESOURCES 0x1D
#define HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED 0x20
#define HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS 0x38
#define HV_STATUS_INVALID_LP_INDEX 0x41
#define HV_STATUS_INVALID_REGISTER_VALUE 0x50
#define HV_STATUS_INVALID_DEVICE_ID 0x57
#define HV_STATUS_INVALID_DEVICE_STATE 0x58
#define HV_STATUS_PENDING_PAGE_REQUESTS 0x59
#define HV_STATUS_KEY_ALREADY_EXISTS 0x65
#define HV_STATUS_DEVICE_ALREADY_IN_DOMAIN 0x66
#define HV_STATUS_OPERATION_FAILED 0x71
#define HV_STATUS_INSUFFICIENT_ROOT_MEMORY 0x73
#define HV_STATUS_INSUFFICIENT_CONTIGUOUS_MEMORY 0x75
#define HV_STATUS_TIME_OUT 0x78
#define HV_STATUS_CALL_PENDING 0x79
#define HV_STATUS_INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY 0x83
#define HV_STATUS_VTL_ALREADY_ENABLED 0x86

#define HV_MAP_GPA_PERMISSIONS_NONE 0x0
#define HV_MAP_GPA_READABLE 0x1
#define HV_MAP_GPA_WRITABLE 0x2
#define HV_MAP_GPA_KERNEL_EXECUTABLE 0x4
#define HV_MAP_GPA_USER_EXECUTABLE 0x8
#define HV_MAP_GPA_EXECUTABLE 0xC

#define HV_DEVICE_DOMAIN_TYPE_S2 0
#define HV_DEVICE_DOMAIN_TYPE_S1 1
#define HV_DEVICE_DOMAIN_TYPE_SOC 2
#define HV_DEVICE_DOMAIN_ID_S2_DEFAULT 0
#define HV_DEVICE_DOMAIN_ID_S2_NULL 0xFFFFFFFFULL

enum hv_device_type {
	HV_DEVICE_TYPE_LOGICAL = 0,
	HV_DEVICE_TYPE_PCI = 1,
	HV_DEVICE_TYPE_IOAPIC = 2,
	HV_DEVICE_TYPE_ACPI = 3,
};

typedef u16 hv_pci_rid;
typedef u16 hv_pci_segment;
typedef u64 hv_logical_device_id;

union hv_pci_bdf {
	u16 as_uint16;
	struct {
		u8 function : 3;
		u8 device : 5;
		u8 bus;
	};
} __packed;

union hv_pci_bus_range {
	u16 as_uint16;
	struct {
		u8 subordinate_bus;
		u8 secondary_bus;
	};
} __packed;

union hv_device_id {
	u64 as_uint64;
	struct {
		u64 reserved0 : 62;
		u64 device_type : 2;
	};
	struct {
		u64 id : 62;
		u64 device_type : 2;
	} logical;
	struct {
		union {
			hv_pci_rid rid;
			union hv_pci_bdf bdf;
		};
		hv_pci_segment segment;
		union hv_pci_bus_range shadow_bus_range;
		u16 phantom_function_bits : 2;
		u16 source_shadow : 1;
		u16 rsvdz0 : 11;
		u16 device_type : 2;
	} pci;
	struct {
		u8 ioapic_id;
		u8 rsvdz0;
		u16 rsvdz1;
		u16 rsvdz2;
		u16 rsvdz3 : 14;
		u16 device_type : 2;
	} ioapic;
	struct {
		u32 input_mapping_base;
		u32 input_mapping_count : 30;
		u32 device_type : 2;
	} acpi;
} __packed;

union hv_input_vtl {
	u8 as_uint8;
	struct {
		u8 target_vtl : 4;
		u8 use_target_vtl : 1;
		u8 reserved_z : 3;
	};
} __packed;

union hv_device_domain_id {
	u64 as_uint64;
	struct {
		u32 type : 4;
		u32 reserved : 28;
		u32 id;
	};
} __packed;

struct hv_input_device_domain {
	u64 partition_id;
	union hv_input_vtl owner_vtl;
	u8 padding[7];
	union hv_device_domain_id domain_id;
} __packed;

union hv_create_device_domain_flags {
	u32 as_uint32;
	struct {
		u32 forward_progress_required : 1;
		u32 inherit_owning_vtl : 1;
		u32 reserved : 30;
	} __packed;
} __packed;

struct hv_input_create_device_domain {
	struct hv_input_device_domain device_domain;
	union hv_create_device_domain_flags create_device_domain_flags;
} __packed;

struct hv_input_delete_device_domain {
	struct hv_input_device_domain device_domain;
} __packed;

struct hv_input_attach_device_domain {
	struct hv_input_device_domain device_domain;
	union hv_device_id device_id;
} __packed;

struct hv_input_detach_device_domain {
	u64 partition_id;
	union hv_device_id device_id;
} __packed;

struct hv_input_map_device_gpa_pages {
	struct hv_input_device_domain device_domain;
	union hv_input_vtl target_vtl;
	u8 padding[3];
	u32 map_flags;
	u64 target_device_va_base;
	u64 gpa_page_list[];
} __packed;

struct hv_input_unmap_device_gpa_pages {
	struct hv_input_device_domain device_domain;
	u64 target_device_va_base;
} __packed;

union hv_attdev_flags {
	struct {
		u32 logical_id : 1;
		u32 resvd0 : 1;
		u32 ats_enabled : 1;
		u32 virt_func : 1;
		u32 shared_irq_child : 1;
		u32 virt_dev : 1;
		u32 ats_supported : 1;
		u32 small_irt : 1;
		u32 resvd : 24;
	} __packed;
	u32 as_uint32;
};

union hv_dev_pci_caps {
	struct {
		u32 max_pasid_width : 5;
		u32 invalidate_qdepth : 5;
		u32 global_inval : 1;
		u32 prg_response_req : 1;
		u32 resvd : 20;
	} __packed;
	u32 as_uint32;
};

struct hv_input_attach_device {
	u64 partition_id;
	union hv_device_id device_id;
	union hv_attdev_flags attdev_flags;
	u8 attdev_vtl;
	u8 rsvd0;
	u16 rsvd1;
	u64 logical_devid;
	union hv_dev_pci_caps dev_pcicaps;
	u16 pf_pci_rid;
	u16 resvd2;
} __packed;

struct hv_input_detach_device {
	u64 partition_id;
	u64 logical_devid;
} __packed;

struct hv_input_get_iommu_capabilities {
	u64 partition_id;
	u64 reserved;
} __packed;

struct hv_output_get_iommu_capabilities {
	u32 size;
	u16 reserved;
	u8 max_iova_width;
	u8 max_pasid_width;
	u64 iommu_cap;
	u64 pgsize_bitmap;
} __packed;

struct ms_hyperv_info {
	u32 features, priv_high, ext_features, misc_features, hints, nested_features;
	u32 max_vp_index, max_lp_index;
};
extern struct ms_hyperv_info ms_hyperv;
extern void **hyperv_pcpu_input_arg, **hyperv_pcpu_output_arg;
extern u64 hv_current_partition_id;
bool hv_l1vh_partition(void);
bool hv_root_partition(void);
bool hv_parent_partition(void);
bool hv_is_hyperv_initialized(void);

u64 hv_do_hypercall(u64 control, void *input, void *output);
u64 hv_do_rep_hypercall(u16 code, u16 rep_count, u16 varhead_size, void *input, void *output);
int hv_call_deposit_pages(int node, u64 partition_id, u32 num_pages);
int hv_deposit_memory_node(int node, u64 partition_id, u64 status);
bool hv_result_needs_memory(u64 status);
#define hv_deposit_memory(partition, status) hv_deposit_memory_node(NUMA_NO_NODE, partition, status)
int hv_result_to_errno(u64 status);

static inline int hv_result(u64 status)
{
	return status & HV_HYPERCALL_RESULT_MASK;
}

static inline bool hv_result_success(u64 status)
{
	return hv_result(status) == HV_STATUS_SUCCESS;
}

static inline unsigned int hv_repcomp(u64 status)
{
	return (status & HV_HYPERCALL_REP_COMP_MASK) >> HV_HYPERCALL_REP_COMP_OFFSET;
}

__printf(4, 5) void hvm_status(enum hvm_level level, u64 status, const char *function, const char *format, ...);
#define hv_status_err(status, fmt, ...) hvm_status(HVM_ERR, status, __func__, fmt, ##__VA_ARGS__)
#define hv_status_warn(status, fmt, ...) hvm_status(HVM_WARN, status, __func__, fmt, ##__VA_ARGS__)
#define hv_status_info(status, fmt, ...) hvm_status(HVM_INFO, status, __func__, fmt, ##__VA_ARGS__)
#define hv_status_debug(status, fmt, ...) hvm_status(HVM_DEBUG, status, __func__, fmt, ##__VA_ARGS__)

u64 mshv_pid_to_partid(pid_t tgid);
u64 mshv_current_partid(void);
void *hvm_symbol_get(const char *name, void *symbol);
#define symbol_get(x) ((__typeof__(&x))hvm_symbol_get(#x, (void *)&x))
#define symbol_put(x) ((void)0)

u64 hv_build_devid_oftype(struct pci_dev *pdev, enum hv_device_type type);
u64 hv_build_devid_type_pci(struct pci_dev *pdev);
u64 hv_pci_vmbus_device_id(struct pci_dev *pdev);

struct x86_init_iommu {
	int (*iommu_init)(void);
};
struct x86_init_ops {
	struct x86_init_iommu iommu;
};
extern struct x86_init_ops x86_init;

void hv_iommu_detect(void);

#endif
