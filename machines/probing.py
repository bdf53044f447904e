"""Probe and options: skip lists, hot-plug, release, kexec, boot that fails; with the attaches that make them interesting."""

from machines.machine import machine

ProbingMachine = machine("ProbingMachine", __doc__, ("probing", "lifetime", "attachment"))
