/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for include/linux/iommu.h of the 7.0 cycle, as far as a driver fills it in or asks it. The build finds out whether the
 * file's attach_dev takes the old domain (HVM_ATTACH_OLD). */
#ifndef HVM_LINUX_IOMMU_H
#define HVM_LINUX_IOMMU_H

#include <linux/list.h>
#include <linux/pci.h>
#include <linux/slab.h>

#define IOMMU_READ (1 << 0)
#define IOMMU_WRITE (1 << 1)
#define IOMMU_CACHE (1 << 2)
#define IOMMU_NOEXEC (1 << 3)
#define IOMMU_MMIO (1 << 4)
#define IOMMU_PRIV (1 << 5)

#define __IOMMU_DOMAIN_PAGING (1U << 0)
#define __IOMMU_DOMAIN_DMA_API (1U << 1)
#define __IOMMU_DOMAIN_PT (1U << 2)
#define IOMMU_DOMAIN_BLOCKED (0U)
#define IOMMU_DOMAIN_IDENTITY (__IOMMU_DOMAIN_PT)
#define IOMMU_DOMAIN_UNMANAGED (__IOMMU_DOMAIN_PAGING)
#define IOMMU_DOMAIN_DMA (__IOMMU_DOMAIN_PAGING | __IOMMU_DOMAIN_DMA_API)

struct iommu_domain;
struct iommu_iotlb_gather;
struct iommu_fwspec;
struct iommu_user_data;
struct iommufd_viommu;
struct iommufd_ctx;
struct iommu_dirty_ops;
struct of_phandle_args;

enum iommu_cap {
	IOMMU_CAP_CACHE_COHERENCY,
	IOMMU_CAP_NOEXEC,
	IOMMU_CAP_PRE_BOOT_PROTECTION,
	IOMMU_CAP_ENFORCE_CACHE_COHERENCY,
	IOMMU_CAP_DEFERRED_FLUSH,
	IOMMU_CAP_DIRTY_TRACKING,
};

enum iommu_resv_type {
	IOMMU_RESV_DIRECT,
	IOMMU_RESV_DIRECT_RELAXABLE,
	IOMMU_RESV_RESERVED,
	IOMMU_RESV_MSI,
	IOMMU_RESV_SW_MSI,
};

struct iommu_resv_region {
	struct list_head list;
	phys_addr_t start;
	size_t length;
	int prot;
	enum iommu_resv_type type;
	void (*free)(struct device *dev, struct iommu_resv_region *region);
};

struct iommu_domain_geometry {
	dma_addr_t aperture_start;
	dma_addr_t aperture_end;
	bool force_aperture;
};

struct iommu_domain_ops {
#if HVM_ATTACH_OLD
	int (*attach_dev)(struct iommu_domain *domain, struct device *dev, struct iommu_domain *old);
#else
	int (*attach_dev)(struct iommu_domain *domain, struct device *dev);
#endif
	int (*map_pages)(struct iommu_domain *domain, unsigned long iova, phys_addr_t paddr, size_t pgsize, size_t pgcount, int prot,
			 gfp_t gfp, size_t *mapped);
	size_t (*unmap_pages)(struct iommu_domain *domain, unsigned long iova, size_t pgsize, size_t pgcount,
			      struct iommu_iotlb_gather *gather);
	void (*flush_iotlb_all)(struct iommu_domain *domain);
	int (*iotlb_sync_map)(struct iommu_domain *domain, unsigned long iova, size_t size);
	void (*iotlb_sync)(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);
	phys_addr_t (*iova_to_phys)(struct iommu_domain *domain, dma_addr_t iova);
	bool (*enforce_cache_coherency)(struct iommu_domain *domain);
	void (*free)(struct iommu_domain *domain);
};

struct iommu_device {
	struct list_head list;
	const struct iommu_ops *ops;
	struct device *dev;
	u32 max_pasids;
};

struct iommu_ops {
	bool (*capable)(struct device *dev, enum iommu_cap cap);
	void *(*hw_info)(struct device *dev, u32 *length, u32 *type);
	struct iommu_domain *(*domain_alloc_identity)(struct device *dev);
	struct iommu_domain *(*domain_alloc_paging_flags)(struct device *dev, u32 flags, const struct iommu_user_data *data);
	struct iommu_domain *(*domain_alloc_paging)(struct device *dev);
	struct iommu_device *(*probe_device)(struct device *dev);
	void (*release_device)(struct device *dev);
	void (*probe_finalize)(struct device *dev);
	struct iommu_group *(*device_group)(struct device *dev);
	void (*get_resv_regions)(struct device *dev, struct list_head *list);
	bool (*is_attach_deferred)(struct device *dev);
	int (*def_domain_type)(struct device *dev);
	size_t (*get_viommu_size)(struct device *dev, u32 viommu_type);
	int (*viommu_init)(struct iommufd_viommu *viommu, struct iommu_domain *parent, const struct iommu_user_data *data);
	const struct iommu_domain_ops *default_domain_ops;
	struct module *owner;
	struct iommu_domain *identity_domain;
	struct iommu_domain *blocked_domain;
	struct iommu_domain *release_domain;
	struct iommu_domain *default_domain;
	unsigned long pgsize_bitmap;
	u8 user_pasid_table : 1;
};

struct iommu_domain {
	unsigned type;
	const struct iommu_domain_ops *ops;
	const struct iommu_dirty_ops *dirty_ops;
	const struct iommu_ops *owner;
	unsigned long pgsize_bitmap;
	struct iommu_domain_geometry geometry;
};

extern int no_iommu, iommu_detected;
void *dev_iommu_priv_get(struct device *dev);
void dev_iommu_priv_set(struct device *dev, void *priv);
struct iommu_domain *iommu_get_domain_for_dev(struct device *dev);
struct iommu_resv_region *iommu_alloc_resv_region(phys_addr_t start, size_t length, int prot, enum iommu_resv_type type, gfp_t gfp);
int iommu_device_sysfs_add(struct iommu_device *iommu, struct device *parent, const void *groups, const char *format, ...);
void iommu_device_sysfs_remove(struct iommu_device *iommu);
int hvm_iommu_device_register(struct iommu_device *iommu, const struct iommu_ops *ops);
void iommu_device_unregister(struct iommu_device *iommu);
#define iommu_device_register(iommu, ops, device) hvm_iommu_device_register(iommu, ops)
#define iommu_setup_dma_ops(...) ((void)0)
#define set_dma_ops(dev, ops) ((void)(dev))
#define iommu_dma_get_resv_regions(dev, list) ((void)(list))
#define iommu_get_dma_cookie(domain) 0
#define iommu_put_dma_cookie(domain) ((void)(domain))

#endif
