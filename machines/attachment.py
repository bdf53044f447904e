"""Attachment and lifetime: claims, allocations, attaches, frees, VMs that come and go."""

from machines.machine import machine

AttachmentMachine = machine("AttachmentMachine", __doc__, ("attachment", "lifetime"))
