"""The Hypothesis state machines: they choose the next operation."""

from machines.attachment import AttachmentMachine
from machines.everything import EverythingMachine
from machines.machine import Machine, PropertyFailed, drive
from machines.mapping import MappingMachine
from machines.probing import ProbingMachine

MACHINES: dict[str, type[Machine]] = {
    "attachment": AttachmentMachine,
    "mapping": MappingMachine,
    "probing": ProbingMachine,
    "everything": EverythingMachine,
}
"""The machines by name."""

__all__ = ["MACHINES", "Machine", "PropertyFailed", "drive"]
