"""What the job itself writes down, and what a disk that is full did not take: kept in memory and tried again."""

from __future__ import annotations

from collections.abc import Callable

from hvmodel.jobs.nightly.journal import Journal, Record


class Notes:
    """The job's journal. ``said`` hears when the disk stops taking records and when it takes them again."""

    def __init__(self, journal: Journal, said: Callable[[str], None]) -> None:
        self.journal, self.said = journal, said
        self.unkept: list[Record] = []
        """What is in memory only."""
        self._troubled = False

    def write(self, record: Record) -> None:
        """Write a record down; if the disk does not take it, it waits for :meth:`retry`."""
        if not self.write_if_possible(record):
            self.unkept.append(record)

    def write_if_possible(self, record: Record) -> bool:
        """Write a record down, and answer whether the disk has it: for one that the next of its kind replaces."""
        try:
            self.journal.append(record)
        except OSError as error:
            self.trouble(f"cannot write to {error.filename or self.journal.directory}: {error.strerror}")
            return False
        return True

    def take_over(self, record: Record) -> None:
        """A worker's record that the disk did not take from the worker."""
        self.unkept.append(record)
        self.trouble(f"a worker cannot write to {self.journal.directory}")

    def retry(self) -> None:
        """Write down what the disk did not take before, as far as it does now."""
        while self.unkept:
            if not self.write_if_possible(self.unkept[0]):
                return
            self.unkept.pop(0)
            if not self.unkept:
                self._troubled = False
                self.said("the disk takes records again; all that was found is written down")

    def trouble(self, what: str) -> None:
        """Say what is wrong with the disk, once."""
        if not self._troubled:
            self._troubled = True
            self.said(f"{what}; the night goes on in memory")
