"""The kernel's ``sscanf`` (``lib/vsprintf.c:vsscanf``, ``lib/kstrtox.c``), as far as boot options need it.

It differs from the C library's: a bare ``0x`` is the number 0, there is no ``+`` sign, ``-`` is taken by ``%d``
alone, and a number that does not fit wraps.
"""

from __future__ import annotations

import re

_SPACES = re.compile("[ \t\n\v\f\r\xa0]*")
"""What the kernel's ``isspace`` takes, with the Latin-1 hard space (``lib/ctype.c``)."""

_NUMBERS = {
    # The kernel looks for one hex digit, then skips "0x" whatever follows it.
    "x": (re.compile("(?=[0-9a-fA-F])()(?:0[xX])?([0-9a-fA-F]*)"), 16),
    "X": (re.compile("(?=[0-9a-fA-F])()(?:0[xX])?([0-9a-fA-F]*)"), 16),
    "d": (re.compile("(-?)([0-9]+)"), 10),
    "u": (re.compile("()([0-9]+)"), 10),
}

_FORMAT = re.compile("(?:[^%\0]|%[xXdun])*")
"""What is modelled. No NUL, so that one in the text matches nothing and ends it."""


def _as_int(value: int) -> int:
    """What a C ``int`` holds after ``value`` was stored in it: 32 bits, two's complement."""
    return (value + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000


def sscanf(text: str, fmt: str) -> tuple[int, list[int]]:
    """Read ``text`` by ``fmt``, which may hold ``%x %X %d %u %n``, white space and literal characters.

    Returns the number of conversions, in which ``%n`` does not count, and the values assigned up to the first
    mismatch, in the order of the format and with those of ``%n`` (characters read so far, also behind the end of the
    text). Every value is what a C ``int`` at that place would hold. ``text`` has one character for each byte and ends
    at a NUL. O(length of both).

    Raises ValueError for a format with any other conversion, a width or a qualifier; the kernel has them, this
    function has not.

    >>> sscanf("(0:3:1f.0) (0:4:0.1)", " (%x:%x:%x.%x) %n")
    (4, [0, 3, 31, 0, 11])
    >>> sscanf("(0:3", " (%x:%x:%x.%x) %n")
    (2, [0, 3])
    """
    if _FORMAT.fullmatch(fmt) is None:
        raise ValueError(f"sscanf format {fmt!r}: only %x %X %d %u %n, white space and literal characters are modelled")
    count = 0
    values: list[int] = []
    at = 0  # in text
    place = 0  # in fmt
    while place < len(fmt):
        if (spaces := _spaces_end(fmt, place)) > place:
            place = spaces
            at = _spaces_end(text, at)
        elif fmt[place] != "%":
            if not text.startswith(fmt[place], at):
                break
            place += 1
            at += 1
        elif fmt[place + 1] == "n":
            values.append(_as_int(at))
            place += 2
        else:
            pattern, base = _NUMBERS[fmt[place + 1]]
            found = pattern.match(text, _spaces_end(text, at))
            if found is None:
                break
            sign, digits = found.groups()
            # The last 64 digits decide the low 64 bits in both bases; Python refuses thousands of decimal digits.
            number = int(digits[-64:], base) if digits else 0
            values.append(_as_int(-number if sign else number))
            count += 1
            place += 2
            at = found.end()
    return count, values


def _spaces_end(string: str, position: int) -> int:
    found = _SPACES.match(string, position)
    return found.end() if found else position
