"""The debugging information of an image (DWARF 4): structures, file-scope variables, functions, lines.

This is how the harness learns what a driver file is made of, whatever its names are: the compiler says it. Only what gcc and clang
write for C with ``-gdwarf-4`` is read ("DWARF Debugging Information Format", version 4, sections 7.5 and 6.2).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from hvmodel.drivers.native.elf import Elf

_POINTER, _STRUCTURE, _TYPEDEF, _UNION, _BASE, _SUBPROGRAM, _VARIABLE, _MEMBER = 0x0F, 0x13, 0x16, 0x17, 0x24, 0x2E, 0x34, 0x0D
_CONST, _VOLATILE, _PARAMETER, _UNIT, _ARRAY, _ENUM = 0x26, 0x35, 0x05, 0x11, 0x01, 0x04
_NAME, _SIZE, _LOW, _HIGH, _OFFSET, _DECLARATION, _LOCATION, _TYPE, _LINE, _EXTERNAL = (
    0x03,
    0x0B,
    0x11,
    0x12,
    0x38,
    0x3C,
    0x02,
    0x49,
    0x3B,
    0x3F,
)
_STMT_LIST, _ORIGIN, _BIT_SIZE = 0x10, 0x31, 0x0D


class Member(NamedTuple):
    """A member of a structure, with its offset and size in bytes; ``type`` is the name of what it is, ``pointer`` whether it
    points to such."""

    name: str
    offset: int
    size: int
    type: str
    pointer: bool


class Variable(NamedTuple):
    """A variable of the file that lives as long as the image: address in the image, size in bytes, type."""

    name: str
    address: int
    size: int
    type: str


class Function(NamedTuple):
    """A function: where its code begins and ends in the image, the line of its name, how many parameters it takes."""

    name: str
    low: int
    high: int
    line: int
    parameters: int
    external: bool


class Line(NamedTuple):
    """From this address on, the code is of this line."""

    address: int
    file: str
    line: int


@dataclass(slots=True)
class Entry:
    """One debugging entry with its attributes by number."""

    tag: int
    attributes: dict[int, int | bytes | str]
    children: list[Entry] = field(default_factory=list)

    def number(self, attribute: int) -> int:
        """A numeric attribute, 0 if it is not there."""
        value = self.attributes.get(attribute, 0)
        return value if isinstance(value, int) else 0

    @property
    def name(self) -> str:
        """Its name, or nothing."""
        value = self.attributes.get(_NAME, "")
        return value if isinstance(value, str) else ""


class _Reader:
    """Numbers and strings one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, size: int) -> int:
        value = int.from_bytes(self.data[self.at : self.at + size], "little")
        self.at += size
        return value

    def signed(self, size: int) -> int:
        value = self.number(size)
        return value - (1 << 8 * size) if value >> (8 * size - 1) else value

    def leb(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def sleb(self) -> int:
        start = self.at
        value = self.leb()
        bits = 7 * (self.at - start)
        return value - (1 << bits) if value >> (bits - 1) else value

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        value = self.data[self.at : end].decode(errors="replace")
        self.at = end + 1
        return value

    def block(self, size: int) -> bytes:
        value = self.data[self.at : self.at + size]
        self.at += size
        return value


class Dwarf:
    """What one file of an image says about itself. ``source`` is the name (without directories) of the file that is meant; raises
    ValueError if the image has no such unit."""

    def __init__(self, elf: Elf, source: str) -> None:
        self._elf = elf
        self._source = source
        self._strings = elf.content(".debug_str")
        self._by_offset: dict[int, Entry] = {}
        unit = self._unit()
        self.structures: dict[str, list[Member]] = {}
        self.sizes: dict[str, int] = {}
        self.variables: list[Variable] = []
        self.functions: list[Function] = []
        self._collect(unit)
        self.lines = self._lines(unit.number(_STMT_LIST))
        self._starts = [line.address for line in self.lines]
        self.functions.sort(key=lambda function: function.low)
        self._lows = [function.low for function in self.functions]

    # --- entries ----------------------------------------------------------------------------------------------------------

    def _unit(self) -> Entry:
        data = self._elf.content(".debug_info")
        at = 0
        while at + 11 <= len(data):
            reader = _Reader(data, at)
            end = reader.number(4) + at + 4
            version, abbreviations, _address = reader.number(2), reader.number(4), reader.number(1)
            if version == 4:
                entry = self._entries(reader, at, end, self._abbreviations(abbreviations))
                if entry.name.rsplit("/", 1)[-1] == self._source:
                    return entry
            at = end
        raise ValueError(f"the image has no debugging information for {self._source}")

    def _abbreviations(self, offset: int) -> dict[int, tuple[int, bool, list[tuple[int, int]]]]:
        reader = _Reader(self._elf.content(".debug_abbrev"), offset)
        table: dict[int, tuple[int, bool, list[tuple[int, int]]]] = {}
        while code := reader.leb():
            tag, children = reader.leb(), bool(reader.number(1))
            attributes: list[tuple[int, int]] = []
            while True:
                pair = (reader.leb(), reader.leb())
                if pair == (0, 0):
                    break
                attributes.append(pair)
            table[code] = (tag, children, attributes)
        return table

    def _entries(self, reader: _Reader, unit: int, end: int, table: dict[int, tuple[int, bool, list[tuple[int, int]]]]) -> Entry:
        top = Entry(0, {})
        stack = [top]
        while reader.at < end and stack:
            offset = reader.at
            code = reader.leb()
            if not code:
                stack.pop()
                if len(stack) == 1:
                    break
                continue
            tag, children, attributes = table[code]
            entry = Entry(tag, {name: self._value(reader, form, unit) for name, form in attributes})
            self._by_offset[offset] = entry
            stack[-1].children.append(entry)
            if children:
                stack.append(entry)
        return top.children[0]

    def _value(self, reader: _Reader, form: int, unit: int) -> int | bytes | str:
        match form:
            case 0x01 | 0x07 | 0x20:  # addr, data8, ref_sig8
                return reader.number(8)
            case 0x0B | 0x0C:  # data1, flag
                return reader.number(1)
            case 0x05:
                return reader.number(2)
            case 0x06 | 0x17:  # data4, sec_offset
                return reader.number(4)
            case 0x0D:
                return reader.sleb()
            case 0x0F:
                return reader.leb()
            case 0x08:
                return reader.text()
            case 0x0E:  # strp
                return _Reader(self._strings, reader.number(4)).text()
            case 0x13:  # ref4
                return unit + reader.number(4)
            case 0x10:  # ref_addr
                return reader.number(4)
            case 0x11:
                return unit + reader.number(1)
            case 0x12:
                return unit + reader.number(2)
            case 0x15:
                return unit + reader.leb()
            case 0x19:  # flag_present
                return 1
            case 0x18 | 0x09:  # exprloc, block
                return reader.block(reader.leb())
            case 0x0A:
                return reader.block(reader.number(1))
            case 0x03:
                return reader.block(reader.number(2))
            case 0x04:
                return reader.block(reader.number(4))
        raise ValueError(f"DWARF form {form:#x} is not read here")

    # --- what it says -----------------------------------------------------------------------------------------------------

    def _resolve(self, offset: int) -> tuple[str, int, bool]:
        """Name, size and whether it is a pointer, of a type: typedefs, const and volatile do not count."""
        pointer = False
        entry = self._by_offset.get(offset)
        size = 0
        while entry is not None:
            if entry.tag == _POINTER:
                if pointer:
                    return "*", 8, True
                pointer, size = True, 8
            elif entry.tag not in (_TYPEDEF, _CONST, _VOLATILE):
                break
            elif entry.tag == _TYPEDEF and entry.name in ("atomic_t", "spinlock_t", "refcount_t"):
                return entry.name, size or self._size(entry), pointer
            entry = self._by_offset.get(entry.number(_TYPE)) if _TYPE in entry.attributes else None
        if entry is None:
            return "void", size, pointer
        return entry.name or f"anonymous-{offset:x}", size or self._size(entry), pointer

    def _size(self, entry: Entry) -> int:
        while _SIZE not in entry.attributes and _TYPE in entry.attributes:
            if entry.tag == _ARRAY:
                return 0
            following = self._by_offset.get(entry.number(_TYPE))
            if following is None:
                return 0
            entry = following
        return entry.number(_SIZE)

    def _members(self, entry: Entry, base: int = 0) -> list[Member]:
        found: list[Member] = []
        for child in entry.children:
            if child.tag != _MEMBER:
                continue
            offset = base + child.number(_OFFSET)
            if not child.name:  # an anonymous structure: its members are the outer one's
                inner = self._by_offset.get(child.number(_TYPE))
                if inner is not None:
                    found += self._members(inner, offset)
                continue
            name, size, pointer = self._resolve(child.number(_TYPE))
            found.append(Member(child.name, offset, 0 if _BIT_SIZE in child.attributes else size, name, pointer))
        return found

    def _collect(self, unit: Entry) -> None:
        for entry in unit.children:
            if entry.tag in (_STRUCTURE, _UNION) and entry.name and _DECLARATION not in entry.attributes:
                self.structures[entry.name] = self._members(entry)
                self.sizes[entry.name] = entry.number(_SIZE)
            elif entry.tag == _VARIABLE:
                self._variable(entry)
            elif entry.tag == _SUBPROGRAM:
                self._function(entry)
                for child in entry.children:
                    if child.tag == _VARIABLE:
                        self._variable(child)

    def _variable(self, entry: Entry) -> None:
        location = entry.attributes.get(_LOCATION)
        if not isinstance(location, bytes) or len(location) != 9 or location[0] != 0x03:  # DW_OP_addr
            return
        origin = entry
        specification = entry.attributes.get(0x47)
        if isinstance(specification, int):
            origin = self._by_offset.get(specification, entry)
        name, size, pointer = self._resolve(origin.number(_TYPE))
        address = int.from_bytes(location[1:], "little")
        self.variables.append(Variable(origin.name, address, size, f"{name} *" if pointer else name))

    def _function(self, entry: Entry) -> None:
        low = entry.number(_LOW)
        if not low:
            return
        origin = self._by_offset.get(entry.number(_ORIGIN), entry) if _ORIGIN in entry.attributes else entry
        count = sum(child.tag == _PARAMETER for child in origin.children)
        high = low + entry.number(_HIGH)
        self.functions.append(Function(origin.name, low, high, origin.number(_LINE), count, bool(origin.number(_EXTERNAL))))

    # --- lines ------------------------------------------------------------------------------------------------------------

    def _lines(self, offset: int) -> list[Line]:
        reader = _Reader(self._elf.content(".debug_line"), offset)
        end = reader.number(4) + reader.at
        if reader.number(2) > 4:
            raise ValueError("the line table is not of DWARF 4")
        program = reader.number(4)
        program += reader.at
        least, _most, _default, base, spread, first = (
            reader.number(1),
            reader.number(1),
            reader.number(1),
            reader.signed(1),
            reader.number(1),
            reader.number(1),
        )
        lengths = [reader.number(1) for _ in range(first - 1)]
        while reader.text():
            pass
        files: list[str] = []
        while name := reader.text():
            files.append(name.rsplit("/", 1)[-1])
            reader.leb(), reader.leb(), reader.leb()
        reader.at = program
        return sorted(self._run(reader, end, files, least, base, spread, first, lengths), key=lambda row: row.address)

    def _run(
        self, reader: _Reader, end: int, files: list[str], least: int, base: int, spread: int, first: int, lengths: list[int]
    ) -> list[Line]:
        """The line number program (section 6.2.5)."""
        found: list[Line] = []
        address, file, line = 0, 1, 1

        def emit() -> None:
            found.append(Line(address, files[file - 1] if 0 < file <= len(files) else "", line))

        while reader.at < end:
            code = reader.number(1)
            if code >= first:
                address += (code - first) // spread * least
                line += base + (code - first) % spread
                emit()
            elif code == 0:
                size = reader.leb()
                after = reader.at + size
                extended = reader.number(1)
                if extended == 1:
                    found.append(Line(address, "", 0))
                    address, file, line = 0, 1, 1
                elif extended == 2:
                    address = reader.number(8)
                reader.at = after
            elif code == 1:
                emit()
            elif code == 2:
                address += reader.leb() * least
            elif code == 3:
                line += reader.sleb()
            elif code == 4:
                file = reader.leb()
            elif code == 8:
                address += (255 - first) // spread * least
            elif code == 9:
                address += reader.number(2)
            else:
                for _ in range(lengths[code - 1]):
                    reader.leb()
        return found

    def at(self, address: int) -> tuple[str, str, int]:
        """(function, file, line) of an address of the image; empty and 0 where nothing is known."""
        index = bisect_right(self._starts, address) - 1
        line = self.lines[index] if index >= 0 else Line(0, "", 0)
        where = bisect_right(self._lows, address) - 1
        function = self.functions[where] if where >= 0 else None
        name = function.name if function is not None and address < function.high else ""
        return name, line.file, line.line

    def holding(self, type_name: str) -> list[tuple[str, Member]]:
        """The structures that have a member of this type inside, each with that member."""
        return [(name, m) for name, members in self.structures.items() for m in members if m.type == type_name and not m.pointer]
