"""Reads a tar archive from a stream, strictly: what two programs could read differently is refused.

The yardstick is Go's `archive/tar`, which unpacks layers in Docker and containerd. Where other readers
differ from it (global pax headers, data behind the end, a lone zero block), the archive is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ci_registry.errors import IntegrityError
from ci_registry.inventory.limits import MIB, Limits

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_SPECIAL_BYTES = MIB
"""Largest extended header; Go's limit."""


class Kind(Enum):
    """What a tar entry makes in the file system."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    DIRECTORY = "directory"
    DEVICE = "device"
    """Character or block device or named pipe: recorded, never created."""


_KINDS = {
    b"\0": Kind.FILE,
    b"0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.DEVICE,
    b"4": Kind.DEVICE,
    b"6": Kind.DEVICE,
    b"5": Kind.DIRECTORY,
}


@dataclass(slots=True)
class Header:
    """One entry; `path` is normalised and empty for the root folder."""

    path: str
    kind: Kind
    size_bytes: int
    """Bytes in the archive, which for a sparse file is not its real size."""
    link: str = ""
    """Target: a normalised path for a hard link, as written for a symbolic link."""
    sparse: bool = False


class _Source:
    """Hands out exact numbers of bytes from pieces of any size."""

    __slots__ = ("_at", "_piece", "_pieces")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def _next_piece(self) -> bool:
        for piece in self._pieces:
            if piece:
                self._piece, self._at = piece, 0
                return True
        self._piece, self._at = b"", 0
        return False

    def take(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the stream."""
        end = self._at + size
        if end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
            return data
        return b"".join(self.pieces(size))

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them, fewer at the end of the stream."""
        if len(self._piece) - self._at < size:
            left = self._piece[self._at :]
            if self._next_piece():
                self._piece = left + self._piece
            else:
                self._piece = left
            self._at = 0
        return self._piece[self._at : self._at + size]

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes in pieces, fewer at the end of the stream."""
        while size > 0:
            if self._at >= len(self._piece) and not self._next_piece():
                return
            data = self._piece[self._at : self._at + size]
            self._at += len(data)
            size -= len(data)
            yield data

    def skip(self, size: int) -> int:
        """Drop `size` bytes and return how many were missing."""
        while size > 0:
            left = len(self._piece) - self._at
            if left >= size:
                self._at += size
                return 0
            size -= left
            self._at += left
            if not self._next_piece():
                return size
        return 0


def parse_number(field: bytes, what: str) -> int:
    """Return the number in a header field, octal or binary; 0 for an empty one.

    Raises:
        IntegrityError: it is neither.
    """
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise IntegrityError(f"tar: negative or huge {what}")
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise IntegrityError(f"tar: {what} is not a number: {field!r}")
    return int(text, 8)


def _check_sum(block: bytes) -> None:
    claimed = parse_number(block[148:156], "checksum")
    head, tail = block[:148], block[156:]
    if claimed == sum(head) + 256 + sum(tail):
        return
    signed = 256 + sum(b - 256 if b > 127 else b for b in head + tail)
    if claimed != signed:
        raise IntegrityError("tar: wrong checksum in a header, this is no tar archive or damaged")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Parse the records of an extended header; the last of several equal keys counts, as in Go.

    Raises:
        IntegrityError: a record has the wrong length or no key.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise IntegrityError("tar: malformed pax header")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise IntegrityError("tar: malformed pax record")
        if not key or b"\0" in key or (key in (b"path", b"linkpath") and b"\0" in value):
            raise IntegrityError("tar: malformed pax record")
        records[key] = value
        at = end
    return records


def normalise_path(raw: str, limits: Limits) -> str:
    """Return a path relative to the image's root, `""` for the root itself.

    Raises:
        IntegrityError: it leads out of the root, is too long, or holds a NUL.
    """
    if not raw or "\0" in raw or len(raw) > limits.path_bytes:
        raise IntegrityError(f"tar: bad path {raw[:80]!r}")
    if raw[0] not in "./" and "//" not in raw and "/." not in raw:
        return raw.removesuffix("/")
    parts = [part for part in raw.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise IntegrityError(f"tar: the path {raw[:200]!r} leads out of the image")
    return "/".join(parts)


class _Extended:
    """What the special headers in front of an entry say about it."""

    __slots__ = ("long_link", "long_name", "pax")

    def __init__(self) -> None:
        self.pax: dict[bytes, bytes] = {}
        self.long_name = b""
        self.long_link = b""

    def text(self, key: bytes, long: bytes) -> bytes:
        value = self.pax.get(key, b"")
        if value and long:
            raise IntegrityError(f"tar: two different extended headers give the {key.decode()}")
        return value or long

    @property
    def is_sparse(self) -> bool:
        sparse = [key for key in self.pax if key.startswith(b"GNU.sparse.")]
        if not sparse:
            return False
        version = (self.pax.get(b"GNU.sparse.major"), self.pax.get(b"GNU.sparse.minor"))
        old = b"GNU.sparse.map" in self.pax or b"GNU.sparse.offset" in self.pax
        if version in ((b"1", b"0"), (b"0", b"0"), (b"0", b"1")) or (
            version == (None, None) and old
        ):
            return True
        raise IntegrityError("tar: unknown kind of sparse file")


class TarStream:
    """Walks through the entries of one archive; content that is not asked for is skipped."""

    def __init__(self, pieces: Iterator[bytes], limits: Limits) -> None:
        self._source = _Source(pieces)
        self._limits = limits
        self._left = 0
        self._padding = 0
        self.entries_count = 0
        self.block = b""
        """The header block of the current entry, for those who want mode and owner too."""
        self.pax: dict[bytes, bytes] = {}
        """The records of its extended header."""

    def next_entry(self) -> Header | None:
        """Return the next entry, None at the end; then the rest of the stream was seen to be zeros.

        Raises:
            IntegrityError: damaged, cut short, ambiguous, or a path that leads out of the image.
        """
        extended = _Extended()
        while True:
            self._finish_entry()
            block = self._header_block()
            if block is None:
                if extended.pax or extended.long_name or extended.long_link:
                    raise IntegrityError("tar: ends behind an extended header")
                return None
            flag = block[156:157]
            if flag in _KINDS:
                return self._entry(block, flag, extended)
            self._special(block, flag, extended)

    def peek(self, size: int) -> bytes:
        """Return the first bytes of the current entry, which is at least as long."""
        return self._source.peek(size)

    def content(self) -> bytes:
        """Return the whole content of the current entry; the caller has looked at its size."""
        data = self._source.take(self._left)
        if len(data) < self._left:
            raise IntegrityError("tar: cut short in the content of a file")
        self._left = 0
        return data

    def pieces(self) -> Iterator[bytes]:
        """Yield the content of the current entry in pieces."""
        for piece in self._source.pieces(self._left):
            self._left -= len(piece)
            yield piece
        if self._left:
            raise IntegrityError("tar: cut short in the content of a file")

    def _finish_entry(self) -> None:
        if self._source.skip(self._left + self._padding):
            raise IntegrityError("tar: cut short in the content of a file")
        self._left = self._padding = 0

    def _begin(self, size: int) -> None:
        self._left, self._padding = size, -size % _BLOCK

    def _header_block(self) -> bytes | None:
        block = self._source.take(_BLOCK)
        if not block:
            return None
        if len(block) < _BLOCK:
            raise IntegrityError("tar: cut short in a header")
        if block == _ZEROS:
            self._check_end()
            return None
        _check_sum(block)
        self.entries_count += 1
        if self.entries_count > self._limits.entries_count:
            raise IntegrityError(f"tar: more than {self._limits.entries_count} entries")
        return block

    def _check_end(self) -> None:
        """Behind the first zero block there may be zeros only; anything else is read by some programs."""
        while data := self._source.take(64 * 1024):
            if data.count(0) != len(data):
                raise IntegrityError("tar: data behind the end of the archive")

    def _special(self, block: bytes, flag: bytes, extended: _Extended) -> None:
        if flag not in (b"x", b"g", b"L", b"K"):
            raise IntegrityError(f"tar: unsupported type of entry {flag!r}")
        size = parse_number(block[124:136], "size")
        if size > _SPECIAL_BYTES:
            raise IntegrityError(f"tar: extended header of {size} bytes")
        self._begin(size)
        data = self.content()
        if flag == b"g":
            if any(k in (b"path", b"linkpath", b"size") or b"sparse" in k for k in parse_pax(data)):
                raise IntegrityError("tar: a global header renames or resizes entries")
        elif flag == b"x":
            if extended.pax:
                raise IntegrityError("tar: two pax headers in front of one entry")
            extended.pax = parse_pax(data)
        elif flag == b"L":
            extended.long_name = _string(data)
        else:
            extended.long_link = _string(data)

    def _name(self, block: bytes) -> bytes:
        name = _string(block[:100])
        if block[257:263] == b"ustar\0":
            is_star = block[508:512] == b"tar\0"
            prefix = _string(block[345:476] if is_star else block[345:500])
            return prefix + b"/" + name if prefix else name
        return name

    def _entry(self, block: bytes, flag: bytes, extended: _Extended) -> Header:
        kind, sparse = _KINDS[flag], flag == b"S"
        self.block, self.pax = block, extended.pax
        size = parse_number(block[124:136], "size")
        raw = link = b""
        if extended.pax or extended.long_name or extended.long_link:
            sparse = sparse or extended.is_sparse
            raw = extended.text(b"path", extended.long_name)
            raw = (extended.pax.get(b"GNU.sparse.name") if sparse else b"") or raw
            link = extended.text(b"linkpath", extended.long_link)
            size = self._pax_size(extended.pax, size)
        raw = raw or self._name(block)
        if flag == b"\0" and raw.endswith(b"/"):
            kind = Kind.DIRECTORY
        if flag == b"S":
            self._skip_sparse_map(block)
        if kind is not Kind.FILE:
            size = 0  # as Go: these have no content, whatever the header says
        self._begin(size)
        target = ""
        if kind in (Kind.HARD_LINK, Kind.SYMLINK):
            target = self._target(_decode(link or _string(block[157:257])), kind)
        path = normalise_path(_decode(raw), self._limits)
        if not path and kind is not Kind.DIRECTORY:
            raise IntegrityError(f"tar: the root of the image is a {kind.value}")
        return Header(path, kind, size, target, sparse)

    def _target(self, link: str, kind: Kind) -> str:
        if kind is Kind.HARD_LINK:
            return normalise_path(link, self._limits)
        if not link or "\0" in link or len(link) > self._limits.path_bytes:
            raise IntegrityError(f"tar: bad target of a symbolic link {link[:80]!r}")
        return link

    @staticmethod
    def _pax_size(pax: dict[bytes, bytes], size: int) -> int:
        value = pax.get(b"size")
        if not value:
            return size
        if not value.isdigit() or len(value) > 19:
            raise IntegrityError("tar: malformed size in a pax header")
        return int(value)

    def _skip_sparse_map(self, block: bytes) -> None:
        more = block[482] != 0
        while more:
            extension = self._source.take(_BLOCK)
            if len(extension) < _BLOCK:
                raise IntegrityError("tar: cut short in the map of a sparse file")
            more = extension[504] != 0
