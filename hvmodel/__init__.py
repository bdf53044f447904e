"""hvmodel: a stateful model-checking harness for the Linux Hyper-V root virtual IOMMU driver."""

__version__ = "0.1.0"
