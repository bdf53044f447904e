"""Sections and symbols of a 64-bit little-endian ELF file (``elf.h``), as far as an image needs them."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

_HEADER = Struct("<16xHHIQQQIHHHHHH")
_SECTION = Struct("<IIQQQQIIQQ")
_SYMBOL = Struct("<IBBHQQ")


class Section(NamedTuple):
    """One section: its place in memory (address, size in bytes) and its bytes in the file."""

    name: str
    address: int
    size: int
    content: bytes


class Elf:
    """A file, read at once. Raises ValueError if it is not what this class reads."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        fields = _HEADER.unpack_from(data)
        table, size, count, names = fields[5], fields[10], fields[11], fields[12]
        raw = [_SECTION.unpack_from(data, table + index * size) for index in range(count)]
        strings = raw[names]
        self.sections: dict[str, Section] = {}
        for name, kind, _flags, address, offset, length, *_rest in raw:
            at = strings[4] + name
            text = data[at : data.index(b"\0", at)].decode()
            content = b"" if kind == 8 else data[offset : offset + length]  # SHT_NOBITS
            self.sections.setdefault(text, Section(text, address, length, content))

    def content(self, name: str) -> bytes:
        """A section's bytes; empty if there is none of that name."""
        section = self.sections.get(name)
        return section.content if section is not None else b""

    def symbols(self) -> dict[str, int]:
        """Address of each named symbol that is defined."""
        names, table = self.content(".strtab"), self.content(".symtab")
        found: dict[str, int] = {}
        for at in range(0, len(table) - _SYMBOL.size + 1, _SYMBOL.size):
            name, _info, _other, index, value, _size = _SYMBOL.unpack_from(table, at)
            if name and index:
                found.setdefault(names[name : names.index(b"\0", name)].decode(), value)
        return found

    def writable(self) -> tuple[int, int]:
        """Where .data and .bss lie: (address, bytes)."""
        parts = [self.sections[name] for name in (".data", ".bss") if name in self.sections]
        low = min((part.address for part in parts), default=0)
        return low, max((part.address + part.size for part in parts), default=0) - low
