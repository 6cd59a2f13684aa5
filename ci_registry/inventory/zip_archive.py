"""Reads a zip archive from a file, by its central directory, bounded and without unpacking it.

Names inside are only ever compared and shown: nothing is written under them.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from ci_registry.inventory.limits import KIB, MIB
from ci_registry.inventory.reading import UnreadableError

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4BHHHHL2L5H2L")
_LENGTHS = struct.Struct("<3H")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_LONGEST_COMMENT = 65535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1
_MOST_16, _MOST_32 = 0xFFFF, 0xFFFFFFFF
_PIECE = 64 * KIB
_DIRECTORY_PIECE = 256 * KIB
_DIRECTORY_BYTES: Final = 64 * MIB
"""Largest central directory: about half a million entries."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the central directory."""

    name: str
    method: int
    flags: int
    crc: int
    packed_bytes: int
    size_bytes: int
    header_at: int
    """Offset of the local header in the file."""


class ZipArchive:
    """A zip archive that is a part of a file, from `start` on, `size` bytes long."""

    def __init__(self, file: BinaryIO, start: int, size: int, *, most_entries: int) -> None:
        """Find the central directory.

        Args:
            file: can be sought; it stays open and belongs to the caller.
            start: where the archive begins.
            size: its length in bytes.
            most_entries: more entries are refused.

        Raises:
            UnreadableError: it is no zip archive, damaged, or has too many entries.
        """
        self.file = file
        self._start, self._size = start, size
        self._directory_at, self._directory_bytes, self._base, count = self._find_directory()
        if count > most_entries:
            raise UnreadableError(f"a zip archive with {count} entries, more than {most_entries}")
        if self._directory_bytes > _DIRECTORY_BYTES:
            raise UnreadableError("a zip archive with an oversized directory")
        self.entries_count = count

    def _at(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at an offset in the archive."""
        if offset < 0 or offset + size > self._size:
            raise UnreadableError("a damaged zip archive: an offset leads out of it")
        self.file.seek(self._start + offset)
        data = self.file.read(size)
        if len(data) < size:
            raise UnreadableError("a damaged zip archive: cut short")
        return data

    def _find_directory(self) -> tuple[int, int, int, int]:
        """Return where the directory is, its size, what offsets are relative to, and its entries."""
        if self._size < _END.size:
            raise UnreadableError("not a zip archive")
        tail_bytes = min(self._size, _END.size + _LONGEST_COMMENT)
        tail_at = self._size - tail_bytes
        tail = self._at(tail_at, tail_bytes)
        found = tail.rfind(b"PK\5\6")
        while found >= 0 and not _end_fits(tail, found):
            found = tail.rfind(b"PK\5\6", 0, found + 3)
        if found < 0:
            raise UnreadableError("not a zip archive, or cut short")
        end_at = tail_at + found
        fields = _END.unpack_from(tail, found)
        disk, count, size, offset = fields[1], fields[4], fields[5], fields[6]
        if count == _MOST_16 or _MOST_32 in (size, offset):
            raw = self._at(max(0, end_at - _END64_LOCATOR.size), _END64_LOCATOR.size)
            if raw.startswith(b"PK\6\7"):
                end_at, disk, count, size, offset = self._end64(raw, end_at)
        if disk:
            raise UnreadableError("a part of a zip archive in several files")
        base = end_at - size - offset
        if base < 0:
            raise UnreadableError("a damaged zip archive: its directory is cut short")
        return end_at - size, size, base, count

    def _end64(self, locator: bytes, locator_ends: int) -> tuple[int, int, int, int, int]:
        offset = _END64_LOCATOR.unpack(locator)[2]
        just_before = locator_ends - _END64_LOCATOR.size - _END64.size
        for at in (just_before, offset):
            if at < 0 or at + _END64.size > self._size:
                continue
            fields = _END64.unpack(self._at(at, _END64.size))
            if fields[0] == b"PK\6\6":
                return at, fields[4], fields[7], fields[8], fields[9]
        raise UnreadableError("a damaged zip archive: no 64-bit end record")

    def members(self) -> Iterator[Member]:
        """Yield the entries in the order of the directory, folders too, duplicates too.

        Raises:
            UnreadableError: the directory is damaged.
        """
        left, at, buffer, position = self._directory_bytes, self._directory_at, b"", 0
        for _ in range(self.entries_count):
            while (end := _record_end(buffer, position)) > len(buffer):
                size = min(left, _DIRECTORY_PIECE)
                if not size:
                    raise UnreadableError("a damaged zip archive: entries are missing")
                buffer, position = buffer[position:] + self._at(at, size), 0
                at, left = at + size, left - size
            yield _member(buffer, position, self._base)
            position = end
        if left or position < len(buffer):
            raise UnreadableError("a damaged zip archive: more entries than it says")

    def begins_at(self, member: Member) -> int:
        """Return the offset in the file of a member's packed bytes.

        Raises:
            UnreadableError: the local header is missing, says something else, or it is encrypted.
        """
        if member.flags & _ENCRYPTED:
            raise UnreadableError(f"{shown(member.name)} is encrypted")
        header = _LOCAL.unpack(self._at(member.header_at, _LOCAL.size))
        if header[0] != b"PK\3\4" or header[4] != member.method:
            raise UnreadableError(
                f"{shown(member.name)}: the two headers of the zip archive differ"
            )
        begin = member.header_at + _LOCAL.size + header[-2] + header[-1]
        if begin + member.packed_bytes > self._size:
            raise UnreadableError(f"{shown(member.name)} leads out of the zip archive")
        return int(self._start + begin)

    def pieces(self, member: Member) -> Iterator[bytes]:
        """Yield the inflated content in pieces; at its end size and checksum were right.

        Raises:
            UnreadableError: damaged, encrypted, or packed in a way that Java can't read either.
        """
        begin = self.begins_at(member)
        if member.method not in (_STORED, _DEFLATED):
            raise UnreadableError(f"{shown(member.name)}: unknown compression {member.method}")
        raw = self._packed(begin, member.packed_bytes)
        size = crc = 0
        for piece in raw if member.method == _STORED else _inflated(raw, member.name):
            size += len(piece)
            crc = zlib.crc32(piece, crc)
            if size > member.size_bytes:
                break
            yield piece
        if size != member.size_bytes or crc != member.crc:
            raise UnreadableError(f"{shown(member.name)}: wrong size or checksum")

    def _packed(self, begin: int, size: int) -> Iterator[bytes]:
        while size:
            self.file.seek(begin)
            data = self.file.read(min(size, _PIECE))
            if not data:
                raise UnreadableError("a damaged zip archive: cut short")
            begin, size = begin + len(data), size - len(data)
            yield data

    def read(self, member: Member, *, most_bytes: int) -> bytes:
        """Return the whole content of a small member.

        Raises:
            UnreadableError: as for `pieces`, or more than `most_bytes`.
        """
        if member.size_bytes > most_bytes:
            raise UnreadableError(
                f"{shown(member.name)}: {member.size_bytes} bytes, more than {most_bytes}"
            )
        return b"".join(self.pieces(member))

    def head(self, member: Member, size: int) -> bytes:
        """Return the first bytes of a member, unchecked when there are more.

        Raises:
            UnreadableError: as for `pieces`.
        """
        data = b""
        for piece in self.pieces(member):
            data += piece
            if len(data) >= size:
                break
        return data[:size]


def shown(name: str) -> str:
    """Return a name from an archive as it may stand in a message."""
    text = name if len(name) <= 400 else f"{name[:400]}…"
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _end_fits(tail: bytes, at: int) -> bool:
    """Whether the end record at `at`, with the comment that it promises, ends inside the archive."""
    if at + _END.size > len(tail):
        return False
    return at + _END.size + int(_END.unpack_from(tail, at)[-1]) <= len(tail)


def _record_end(buffer: bytes, position: int) -> int:
    """Return where the record at `position` ends, as far as the buffer tells."""
    end = position + _CENTRAL.size
    if end > len(buffer):
        return end
    if buffer[position : position + 4] != b"PK\1\2":
        raise UnreadableError("a damaged zip archive: no entry where one should be")
    return end + int(sum(_LENGTHS.unpack_from(buffer, position + 28)))


def _member(buffer: bytes, position: int, base: int) -> Member:
    fields = _CENTRAL.unpack_from(buffer, position)
    flags, method, crc, packed, size = fields[5], fields[6], fields[9], fields[10], fields[11]
    name_at = position + _CENTRAL.size
    extra_at, header_at = name_at + fields[12], fields[18]
    if _MOST_32 in (packed, size, header_at):
        extra = buffer[extra_at : extra_at + fields[13]]
        size, packed, header_at = _wide(extra, size, packed, header_at)
    name = buffer[name_at:extra_at].decode("utf-8", "replace")
    return Member(name, method, flags, crc, packed, size, base + header_at)


def _wide(extra: bytes, *values: int) -> list[int]:
    """Replace the values that stand in the 64-bit extra field."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        if kind == 1:
            field = extra[4 : 4 + size]
            wanted = sum(value == _MOST_32 for value in values)
            if len(field) < 8 * wanted:
                break
            wide = iter(struct.unpack_from(f"<{wanted}Q", field))
            return [next(wide) if value == _MOST_32 else value for value in values]
        extra = extra[4 + size :]
    raise UnreadableError("a damaged zip archive: no 64-bit size")


def _inflated(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            data = machine.decompress(piece, _PIECE)
            while data:
                yield data
                data = machine.decompress(machine.unconsumed_tail, _PIECE)
            if machine.eof:
                return
        yield machine.flush(_PIECE)
    except zlib.error as error:
        raise UnreadableError(f"{shown(name)}: damaged: {error}") from error
