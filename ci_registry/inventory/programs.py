"""Looks into an ELF file of a layer for a list of packages, piece by piece: Go programs and audited Rust ones."""

import json
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.inventory.elf import HEAD_BYTES, Elf, parse_elf
from ci_registry.inventory.go_build_info import GoSearch
from ci_registry.inventory.interest import GO_BINARY, RUST_BINARY, Interest
from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.sums import Sums

WINDOW_BYTES = 24 * MIB
"""How much of the end of a program is at hand when all of it has gone by."""
_SYSTEM_FOLDERS = ("usr/", "bin/", "sbin/", "lib/", "lib64/")
_RUST_SECTION = b".dep-v0"
_MOST_AUDIT_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that names its packages."""

    interest: Interest
    content: bytes = b""
    """Go: JSON list of its version of Go and the text about its modules. Rust: the JSON in it."""
    sums: tuple[tuple[str, str], ...] = ()
    problem: str = ""


class _Window:
    """The pieces at the end of what has gone by."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self.start = 0

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        while self._held_bytes - len(self._pieces[0]) >= WINDOW_BYTES:
            dropped = self._pieces.popleft()
            self._held_bytes -= len(dropped)
            self.start += len(dropped)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def reader(self) -> "_Reader":
        return _Reader(list(self._pieces), self.start)


class _Reader:
    """Reads anywhere in the held pieces."""

    def __init__(self, pieces: list[bytes], start: int) -> None:
        self._pieces = pieces
        self._starts: list[int] = []
        for piece in pieces:
            self._starts.append(start)
            start += len(piece)

    def __call__(self, offset: int, size: int) -> bytes:
        """Return bytes of the file, fewer at its end, none when its begin is not held."""
        at = bisect_right(self._starts, offset) - 1
        if at < 0 or size <= 0:
            return b""
        found = self._pieces[at][offset - self._starts[at] :][:size]
        while len(found) < size and (at := at + 1) < len(self._pieces):
            found += self._pieces[at][: size - len(found)]
        return found


def may_be_of_the_system(path: str) -> bool:
    """Whether an OS package may bring a program at this path, so that its checksum is of interest."""
    return path.startswith(_SYSTEM_FOLDERS) and not path.startswith("usr/local/")


def look_into(pieces: Iterator[bytes], *, with_sums: bool = True) -> Program | None:
    """Return what an ELF file says about packages; None when it says nothing.

    Args:
        pieces: all of the file.
        with_sums: whether its checksums are wanted; they cost more than all the rest.
    """
    first = next(pieces, b"")
    while len(first) < HEAD_BYTES and (more := next(pieces, b"")):
        first += more
    elf = parse_elf(first[:HEAD_BYTES])
    if elf is None:
        return None
    search, window = GoSearch(elf, first[:HEAD_BYTES]), _Window()
    sums = Sums() if search.is_go and with_sums else None
    for piece in _with(first, pieces):
        search.feed(piece)
        if not search.is_go:
            window.add(piece)
        if sums is not None:
            sums.update(piece)
    program = _go(search) or _rust(elf, window)
    if program is None:
        return None
    if sums is None and with_sums and not window.start:
        sums = Sums()
        for piece in window:
            sums.update(piece)
    return Program(
        interest=program.interest,
        content=program.content,
        problem=program.problem,
        sums=sums.taken() if sums is not None else (),
    )


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _go(search: GoSearch) -> Program | None:
    try:
        found = search.found()
    except UnreadableError as error:
        return Program(interest=GO_BINARY, problem=error.message)
    if found is None:
        return None
    return Program(interest=GO_BINARY, content=json.dumps(found).encode())


def _rust(elf: Elf, window: _Window) -> Program | None:
    read = window.reader()
    place = elf.section(_RUST_SECTION, read)
    if place is None:
        return None
    offset, size = place
    if size > WINDOW_BYTES or len(packed := read(offset, size)) < size:
        problem = "its audit section is too large, or too far from its end"
        return Program(interest=RUST_BINARY, problem=problem)
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, _MOST_AUDIT_BYTES)
    except zlib.error as error:
        return Program(interest=RUST_BINARY, problem=f"damaged audit section: {error}")
    if not inflater.eof:
        problem = (
            f"its audit section is cut short, or inflates to more than {_MOST_AUDIT_BYTES} bytes"
        )
        return Program(interest=RUST_BINARY, problem=problem)
    return Program(interest=RUST_BINARY, content=content)
