"""The kernel's sscanf: cases read off ``lib/vsprintf.c:vsscanf``, a round trip, the C library where the two agree."""

from __future__ import annotations

import ctypes
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmodel.kernel.sscanf import sscanf

SKIP_LIST = " (%x:%x:%x.%x) %n"
"""The format with which the driver reads one entry of its skip list: segment, bus, slot, function, length."""


@pytest.mark.parametrize(
    ("text", "count", "values"),
    [
        ("(0:3:1f.0)", 4, [0, 3, 0x1F, 0, 10]),
        ("(0000:03:1F.7)", 4, [0, 3, 0x1F, 7, 14]),
        ("(0x0:0x3:0X1f.0x0)", 4, [0, 3, 0x1F, 0, 18]),
        ("  (0:3:0.0)  (0:4:0.0)", 4, [0, 3, 0, 0, 13]),  # the space behind an entry is consumed with it
        ("(0:3:0.0)(0:4:0.0)", 4, [0, 3, 0, 0, 9]),
        ("\t\n\v\f\r\xa0(0:3:0.0)", 4, [0, 3, 0, 0, 15]),
        ("( 0: 3:\t0. 0)", 4, [0, 3, 0, 0, 13]),  # spaces before a number are skipped ...
        ("(0 :3:0.0)", 1, [0]),  # ... but those before a literal are not
        ("(0:3:0.0 )", 4, [0, 3, 0, 0]),  # all four read, no closing bracket: %n is not reached
        ("(0:3:0.0", 4, [0, 3, 0, 0]),
        ("(0:3:0.", 3, [0, 3, 0]),
        ("(0:3:0", 3, [0, 3, 0]),
        ("(0:3", 2, [0, 3]),
        ("(0:", 1, [0]),
        ("(", 0, []),
        ("", 0, []),
        ("   ", 0, []),
        ("0:3:0.0", 0, []),
        ("(0:3:0:0)", 3, [0, 3, 0]),
        ("(0,3:0.0)", 1, [0]),
        ("(g:3:0.0)", 0, []),
        ("(-1:3:0.0)", 0, []),  # no sign for %x
        ("(+1:3:0.0)", 0, []),
        ("(0x:3:0.0)", 4, [0, 3, 0, 0, 10]),  # a bare 0x is the number 0
        ("(0xg:3:0.0)", 1, [0]),
        ("(ffffffff:80000000:7fffffff.0)", 4, [-1, -(2**31), 2**31 - 1, 0, 30]),
        ("(123456789abcdef01:0:0.0)", 4, [0xABCDEF01 - 2**32, 0, 0, 0, 25]),  # wraps, the low 32 bits stay
        ("(0:3:0.0)\0(0:4:0.0)", 4, [0, 3, 0, 0, 9]),  # a C string ends here
        ("(0:3:0.0) \0 (0:4:0.0)", 4, [0, 3, 0, 0, 10]),
        ("(\u0660:3:0.0)", 0, []),  # a digit for Python, not for the kernel
    ],
)
def test_skip_list_entries(text: str, count: int, values: list[int]) -> None:
    """Protects: which devices the skip list names, and how far the driver's loop advances, malformed lists included."""
    assert sscanf(text, SKIP_LIST) == (count, values)


@pytest.mark.parametrize(
    ("text", "fmt", "count", "values"),
    [
        ("12 -7", "%u%d", 2, [12, -7]),
        ("-7", "%u", 0, []),
        ("- 7", "%d", 0, []),
        ("-", "%d", 0, []),
        ("--7", "%d", 0, []),
        ("+7", "%d", 0, []),
        ("0x10", "%d", 1, [0]),
        ("017", "%d", 1, [17]),
        ("4294967295", "%u", 1, [-1]),
        ("-2147483649", "%d", 1, [2**31 - 1]),
        ("9" * 5000, "%u", 1, [-1]),  # 10^5000 is a multiple of 2^32
        ("7", "%n%d%n", 1, [0, 7, 1]),
        ("", "%n", 0, [0]),
        ("  7", " %n%d", 1, [2, 7]),
        ("  7", "%n%d", 1, [0, 7]),
        ("ab", "a b%n", 0, [2]),  # white space in the format matches none, too
        ("a \t b", "a b%n", 0, [5]),
        ("a b", "ab%n", 0, []),
        ("FF", "%X", 1, [255]),
        ("7", "", 0, []),
    ],
)
def test_other_formats(text: str, fmt: str, count: int, values: list[int]) -> None:
    """Protects: the rules for signs, radix, wrapping, white space and %n that the entries above do not reach."""
    assert sscanf(text, fmt) == (count, values)


@pytest.mark.parametrize("fmt", ["%s", "%c", "%i", "%5x", "%lx", "%*x", "%%", "%", "%[a]", "a\0b"])
def test_formats_that_are_not_modelled_are_refused(fmt: str) -> None:
    """Protects: a driver model cannot get a silent wrong answer for a conversion that this function does not know."""
    with pytest.raises(ValueError, match="sscanf format"):
        sscanf("1", fmt)


number = st.integers(0, 2**31 - 1)
spaces = st.text(" \t\n", max_size=3)


@given(st.lists(st.tuples(st.tuples(number, number, number, number), spaces, st.sampled_from(["x", "X", "#x", "04x"]))))
def test_a_written_list_reads_back(entries: list[tuple[tuple[int, int, int, int], str, str]]) -> None:
    """Protects: advancing by %n walks a well-formed list of any length entry by entry to its end."""
    text = "".join(f"{gap}({a:{how}}:{b:{how}}:{c:{how}}.{d:{how}})" for (a, b, c, d), gap, how in entries)
    at = 0
    for bdf, _, _ in entries:
        count, (*fields, consumed) = sscanf(text[at:], SKIP_LIST)
        assert count == 4
        assert tuple(fields) == bdf
        at += consumed
    assert at == len(text)


PIECES = ["(", ":", ".", ")", " ", "\t\n", "0", "7", "1f", "C0", "0x1", "0Xab", "g", "(0:3:", "1f.0)"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls the C library's sscanf through ctypes")
@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_the_c_library_agrees_without_signs_bare_prefixes_and_overflow(text: str) -> None:
    """Protects: against a misreading shared by the code and the table above; an independent implementation decides."""
    if re.search("[0-9a-fA-F]{9}|0[xX](?![0-9a-fA-F])", text):
        return
    slots = [ctypes.c_int(-999) for _ in range(5)]
    library = ctypes.CDLL(None)
    returned = library.sscanf(text.encode(), SKIP_LIST.encode(), *(ctypes.byref(slot) for slot in slots))
    count, values = sscanf(text, SKIP_LIST)
    assert count == max(returned, 0)  # the C library says EOF (-1) where the kernel says 0
    assert values == [slot.value for slot in slots if slot.value != -999]
