"""All rules together."""

from machines.machine import machine

EverythingMachine = machine("EverythingMachine", __doc__, ("probing", "lifetime", "attachment", "mapping", "user"))
