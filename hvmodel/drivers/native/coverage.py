"""Which code of a driver file has run in this process: blocks (between two branches) and lines.

The compiler calls ``__sanitizer_cov_trace_pc`` at the start of each block; where those calls are, is read from the code itself, so
that what never ran is known, too.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from hvmodel.drivers.native.image import Image

_CALL = 0xE8
"""x86-64: call with a 32-bit displacement."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Blocks that ran and all blocks; lines with code, and those of them that never ran; functions of which nothing ran."""

    ran: int
    blocks: int
    lines: frozenset[int]
    never: tuple[int, ...]
    idle: tuple[str, ...]

    def __str__(self) -> str:
        hit = len(self.lines) - len(self.never)
        return f"{self.ran} of {self.blocks} blocks, {hit} of {len(self.lines)} lines"


def coverage_of(image: Image) -> Coverage | None:
    """The coverage since the image was loaded; None on machines whose code is not read here."""
    sites = _sites(image)
    if not sites:
        return None
    hit = image.coverage()
    seen: set[int] = set()
    every: set[int] = set()
    own = [function for function in image.dwarf.functions if image.dwarf.at(function.low)[1] == image.build.name]
    idle = {function.name for function in own if any(function.low <= at < function.high for at in sites)}
    for row in image.dwarf.lines:
        if row.file != image.build.name or not row.line:
            continue
        index = bisect_right(sites, row.address + 8) - 1  # the call itself belongs to the block that it begins
        if index < 0:
            continue
        every.add(row.line)
        if sites[index] in hit:
            seen.add(row.line)
            idle.discard(image.dwarf.at(sites[index] - 1)[0])
    ran = sum(site in hit for site in sites)
    return Coverage(ran, len(sites), frozenset(every), tuple(sorted(every - seen)), tuple(sorted(idle)))


def _sites(image: Image) -> list[int]:
    """The return addresses of all calls that mark a block, within the file's functions."""
    target = image.elf.symbols().get("__sanitizer_cov_trace_pc")
    text = image.elf.sections.get(".text")
    if target is None or text is None:
        return []
    found: list[int] = []
    for function in image.dwarf.functions:
        code = text.content[function.low - text.address : function.high - text.address]
        at = code.find(_CALL)
        while at >= 0:
            after = function.low + at + 5
            if after + int.from_bytes(code[at + 1 : at + 5], "little", signed=True) == target:
                found.append(after)
                at += 4
            at = code.find(_CALL, at + 1)
    return sorted(found)


__all__ = ["Coverage", "coverage_of"]
