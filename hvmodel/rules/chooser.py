"""Who answers a rule's questions. A rule asks; it does not know whether a seed, Hypothesis or an enumerator answers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chooser(Protocol):
    """Makes decisions. The simplest answer is always the first: 0, the first of a sequence, no."""

    def below(self, limit: int) -> int:
        """A number in ``[0, limit)``; ``limit`` is at least 1."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, which must not be empty."""
        ...

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of 100 cases."""
        ...

    def one_in(self, cases: int) -> bool:
        """True in one of so many cases."""
        ...


class RandomChooser:
    """A seeded generator answers. The same seed gives the same answers."""

    __slots__ = ("_random",)

    def __init__(self, generator: Random) -> None:
        self._random = generator.random

    def below(self, limit: int) -> int:
        return int(self._random() * limit)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def chance(self, percent: int) -> bool:
        return self._random() * 100 < percent

    def one_in(self, cases: int) -> bool:
        return self.below(cases) == cases - 1


class IntegerChooser:
    """One number answers, taken apart digit by digit: what Hypothesis draws, and what it shrinks towards 0.

    >>> choose = IntegerChooser(5 + 10 * 2)
    >>> choose.below(10), choose.pick("abc"), choose.below(4)
    (5, 'c', 0)
    """

    __slots__ = ("_left",)

    def __init__(self, number: int) -> None:
        self._left = number

    def below(self, limit: int) -> int:
        self._left, digit = divmod(self._left, limit)
        return digit

    def pick(self, options: Sequence[T]) -> T:
        self._left, digit = divmod(self._left, len(options))
        return options[digit]

    def chance(self, percent: int) -> bool:
        self._left, digit = divmod(self._left, 100)
        return digit >= 100 - percent

    def one_in(self, cases: int) -> bool:
        return self.below(cases) == cases - 1
