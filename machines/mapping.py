"""Mapping: domains are allocated, mapped, looked up, unmapped, freed; few attaches."""

from hvmodel.rules.rules import RULES
from machines.machine import machine

MappingMachine = machine("MappingMachine", __doc__, ("mapping",))
MappingMachine.rules_used = (*MappingMachine.rules_used, RULES["alloc_domain"], RULES["alloc_domain"], RULES["free_domain"])
