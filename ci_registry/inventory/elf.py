"""Reads what we need of ELF headers: where segments and sections lie. Nothing in them is trusted."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ci_registry.inventory.limits import MIB

HEAD_BYTES = 4096
"""Program headers and the notes of Go's linker stand in front."""
_LOAD = 1
_MOST_SEGMENTS = 256
_MOST_SECTIONS = 4096
_MOST_NAMES_BYTES = MIB

ReadAt = Callable[[int, int], bytes]
"""(offset, size) → bytes of the file, fewer where it ends or is not at hand."""


@dataclass(frozen=True, slots=True)
class Elf:
    """The head of an ELF file."""

    order: str
    """`<` or `>`, for `struct`."""
    is_64_bit: bool
    segments: tuple[tuple[int, int, int], ...]
    """(address, offset in the file, size in the file) of what is loaded."""
    sections_at: int
    section_bytes: int
    sections_count: int
    names_index: int

    def offset_of(self, address: int) -> int:
        """Return where in the file an address of memory lies; -1 for nowhere."""
        for start, offset, size in self.segments:
            if start <= address < start + size:
                return offset + address - start
        return -1

    def section(self, wanted: bytes, read: ReadAt) -> tuple[int, int] | None:
        """Return (offset, size) of the section with this name; None without it."""
        headers = list(self._sections(read))
        if not 0 < self.names_index < len(headers):
            return None
        _, names_at, names_size = headers[self.names_index]
        names = read(names_at, min(names_size, _MOST_NAMES_BYTES))
        for name_at, offset, size in headers:
            if names[name_at : name_at + len(wanted) + 1] == wanted + b"\0":
                return offset, size
        return None

    def _sections(self, read: ReadAt) -> Iterator[tuple[int, int, int]]:
        """Yield (where its name is, offset, size) of each section."""
        wide = 64 if self.is_64_bit else 40
        if self.section_bytes != wide or self.sections_count > _MOST_SECTIONS:
            return
        table = read(self.sections_at, wide * self.sections_count)
        for at in range(0, len(table) - wide + 1, wide):
            (name,) = struct.unpack_from(f"{self.order}I", table, at)
            form, skip = ("QQ", 24) if self.is_64_bit else ("II", 16)
            offset, size = struct.unpack_from(f"{self.order}{form}", table, at + skip)
            yield name, offset, size


def parse_elf(head: bytes) -> Elf | None:
    """Read the head of a file (`HEAD_BYTES` of it); None when it is no ELF file."""
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    is_64_bit = head[4] == 2
    segments_at, sections_at = struct.unpack_from(
        order + ("QQ" if is_64_bit else "II"), head, 32 if is_64_bit else 28
    )
    size, count, section_bytes, sections_count, names_index = struct.unpack_from(
        f"{order}5H", head, 54 if is_64_bit else 42
    )
    segments = _segments(head[segments_at:], order, is_64_bit, size, min(count, _MOST_SEGMENTS))
    return Elf(
        order,
        is_64_bit,
        tuple(segments),
        sections_at,
        section_bytes,
        sections_count,
        names_index,
    )


def _segments(
    table: bytes, order: str, is_64_bit: bool, size: int, count: int
) -> Iterator[tuple[int, int, int]]:
    if size != (56 if is_64_bit else 32):
        return
    for at in range(0, min(len(table), size * count) - size + 1, size):
        if is_64_bit:
            kind, _, offset, address, _, length = struct.unpack_from(f"{order}IIQQQQ", table, at)
        else:
            kind, offset, address, _, length = struct.unpack_from(f"{order}IIIII", table, at)
        if kind == _LOAD:
            yield address, offset, length
