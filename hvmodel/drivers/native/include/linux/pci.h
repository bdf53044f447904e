/* SPDX-License-Identifier: GPL-2.0-only */
/* Stand-in for include/linux/device.h and pci.h: what a PCI function looks like to an IOMMU driver. */
#ifndef HVM_LINUX_PCI_H
#define HVM_LINUX_PCI_H

#include <linux/kernel.h>

struct dev_iommu;
struct device {
	const char *init_name;
	void *iommu_priv; /* dev->iommu->priv in the kernel; use dev_iommu_priv_get() */
	void *iommu_group_data;
	struct device *parent;
	struct dev_iommu *iommu;
	u64 dma_mask;
	u32 number;
	bool is_pci;
};

struct pci_bus {
	int domain_nr;
	unsigned char number;
};

struct pci_dev {
	struct pci_bus *bus;
	unsigned int devfn;
	unsigned short vendor, device;
	struct device dev;
	struct pci_bus own_bus;
	u32 requester, requester_own; /* segment << 16 | bus << 8 | devfn: that its DMA carries, and its own */
	char name[32];
};

struct iommu_group;
#define to_pci_dev(d) container_of(d, struct pci_dev, dev)
#define dev_is_pci(d) ((d)->is_pci)
#define dev_name(d) ((d)->init_name)
#define pci_name(p) dev_name(&(p)->dev)
#define pci_domain_nr(b) ((b)->domain_nr)
#define PCI_DEVFN(slot, func) ((((slot)&0x1f) << 3) | ((func)&0x07))
#define PCI_SLOT(devfn) (((devfn) >> 3) & 0x1f)
#define PCI_FUNC(devfn) ((devfn)&0x07)
#define PCI_DEVID(bus, devfn) ((((u16)(bus)) << 8) | (devfn))
#define PCI_BUS_NUM(x) (((x) >> 8) & 0xff)
#define pci_dev_id(p) PCI_DEVID((p)->bus->number, (p)->devfn)

struct iommu_group *hvm_group(struct device *dev);
#define pci_device_group(dev) hvm_group(dev)
#define generic_device_group(dev) hvm_group(dev)
#define generic_single_device_group(dev) hvm_group(dev)
#define pci_request_acs() ((void)0)
#define pci_ats_supported(pdev) 0
#define get_device(dev) (dev)
#define put_device(dev) ((void)(dev))
#define pci_dev_get(pdev) (pdev)
#define pci_dev_put(pdev) ((void)(pdev))

#endif
