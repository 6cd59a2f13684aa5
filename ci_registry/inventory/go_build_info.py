"""Finds the build information in a Go program while its bytes go by (Go's `debug/buildinfo`).

Since Go 1.18 the texts stand behind the mark. Before, the mark is followed by two addresses of string
headers, which lead to texts that have gone by already: those are remembered when they look like it.
"""

import re
import struct
from dataclasses import dataclass, field

from ci_registry.inventory.elf import Elf
from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import UnreadableError

_MARK = b"\xff Go buildinf:"
_ALIGNMENT = 16
_HEAD_BYTES = 32
_MODULES_START = bytes.fromhex("3077af0c9274080241e1c107e6d618e6")
_NOTE = re.compile(rb"\x04\0\0\0.{4}\x04\0\0\0Go\0\0|\0\0\0\x04.{4}\0\0\0\x04Go\0\0", re.DOTALL)
"""The note with the build id, in both byte orders."""
_VERSION = b"go1."
_VERSION_BYTES = 128
_TAIL_BYTES = _VERSION_BYTES - 1
_MOST_INFO_BYTES = 4 * MIB
_MOST_CAPTURES = 8
_MOST_VERSIONS = 20_000


def has_go_note(head: bytes) -> bool:
    """Whether the first bytes of an ELF file have the note of Go's linker."""
    return _NOTE.search(head) is not None


@dataclass(slots=True)
class _Capture:
    """Bytes of the file from an offset on."""

    start: int
    most_bytes: int
    data: bytearray = field(default_factory=bytearray)

    def feed(self, window: bytes, base: int) -> None:
        at = self.start + len(self.data) - base
        if 0 <= at < len(window) and len(self.data) < self.most_bytes:
            self.data += window[at : at + self.most_bytes - len(self.data)]


class GoSearch:
    """Looks through one ELF file."""

    def __init__(self, elf: Elf, head: bytes) -> None:
        """Start in front of the first byte; `head` are the first bytes of the file."""
        self.is_go = has_go_note(head)
        self._elf = elf
        self._seen = 0
        self._tail = b""
        self._marks: dict[int, _Capture] = {}
        self._headers: dict[int, tuple[_Capture, _Capture]] = {}
        self._modules: dict[int, _Capture] = {}
        self._versions: dict[int, bytes] = {}
        self._texts: tuple[bytes, bytes] | None = None

    def feed(self, piece: bytes) -> None:
        """Take in the next bytes."""
        if self._texts is not None:
            return
        base = self._seen - len(self._tail)
        window = self._tail + piece
        self._search(window, base)
        for capture in self._captures():
            capture.feed(window, base)
        self._texts = next(filter(None, map(_inline, self._marks.values())), None)
        self._seen += len(piece)
        self._tail = window[-_TAIL_BYTES:]

    def _captures(self) -> list[_Capture]:
        pairs = [capture for pair in self._headers.values() for capture in pair]
        return [*self._marks.values(), *self._modules.values(), *pairs]

    def _search(self, window: bytes, base: int) -> None:
        at = window.find(_MARK)
        while at >= 0:
            self._marked(window, base, at)
            at = window.find(_MARK, at + 1)
        if not self.is_go:
            return
        at = window.find(_MODULES_START)
        while at >= 0 and len(self._modules) < _MOST_CAPTURES:
            self._modules.setdefault(base + at, _Capture(base + at, _MOST_INFO_BYTES))
            at = window.find(_MODULES_START, at + 1)
        at = window.find(_VERSION)
        while at >= 0 and len(self._versions) < _MOST_VERSIONS:
            self._versions[base + at] = window[at : at + _VERSION_BYTES]
            at = window.find(_VERSION, at + 1)

    def _marked(self, window: bytes, base: int, at: int) -> None:
        start = base + at
        if start % _ALIGNMENT or start in self._marks or len(self._marks) >= _MOST_CAPTURES:
            return
        head = window[at : at + _HEAD_BYTES]
        if len(head) < _HEAD_BYTES:
            return  # comes again, in the next window
        self._marks[start] = _Capture(start, _MOST_INFO_BYTES)
        pointer_bytes, flags = head[14], head[15]
        if not flags & 2 and pointer_bytes in (4, 8):
            form = (">" if flags & 1 else "<") + ("2Q" if pointer_bytes == 8 else "2I")
            version, modules = struct.unpack_from(form, head, _ALIGNMENT)
            offsets = (self._elf.offset_of(version), self._elf.offset_of(modules))
            first, second = (_Capture(offset, 2 * pointer_bytes) for offset in offsets)
            self._headers[start] = (first, second)

    def found(self) -> tuple[str, str] | None:
        """Return (version of Go, module information), None when this is no Go program.

        Raises:
            UnreadableError: it is one, and its information is missing or damaged.
        """
        if self._texts is None:
            texts = (self._by_address(start, m.data) for start, m in sorted(self._marks.items()))
            self._texts = next(filter(None, texts), None)
        if self._texts is not None:
            return _decoded(*self._texts)
        if self._marks or self.is_go:
            raise UnreadableError(
                "Go program without readable build information: made before Go 1.13,"
                " or it was taken out"
            )
        return None

    def _by_address(self, start: int, raw: bytearray) -> tuple[bytes, bytes] | None:
        if start not in self._headers or len(raw) < _HEAD_BYTES:
            return None
        form = (">" if raw[15] & 1 else "<") + ("2Q" if raw[14] == 8 else "2I")
        texts = []
        for header in self._headers[start]:
            if len(header.data) < struct.calcsize(form):
                return None
            address, size = struct.unpack(form, header.data)
            texts.append(self._text(self._elf.offset_of(address), size) if size else b"")
        return (texts[0], texts[1]) if _is_version(texts[0]) else None

    def _text(self, offset: int, size: int) -> bytes:
        """Return a text that has gone by; empty when it was not remembered."""
        modules = self._modules.get(offset)
        known = bytes(modules.data) if modules is not None else self._versions.get(offset, b"")
        return known[:size] if size <= len(known) else b""


def _inline(mark: _Capture) -> tuple[bytes, bytes] | None:
    """Return the texts that stand behind a mark; None when they don't, or have not gone by."""
    raw = mark.data
    if len(raw) < _HEAD_BYTES or not raw[15] & 2:
        return None
    version, at = _sized(raw, _HEAD_BYTES)
    modules, _ = _sized(raw, at)
    if version is None or modules is None or not _is_version(version):
        return None
    return version, modules


def _sized(raw: bytearray, at: int) -> tuple[bytes | None, int]:
    """Return a text with its length as a varint in front, and where it ends; None when it does not fit."""
    size = 0
    for number, byte in enumerate(raw[at : at + 5]):
        size |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            start = at + number + 1
            end = start + size
            return (bytes(raw[start:end]), end) if end <= len(raw) else (None, end)
    return None, at


def _is_version(text: bytes) -> bool:
    return text.startswith((b"go1", b"go2", b"devel ")) and len(text) <= _VERSION_BYTES


def _decoded(version: bytes, modules: bytes) -> tuple[str, str]:
    """Take the marks off the module information, which is empty for a program without modules."""
    modules = modules[16:-16] if len(modules) >= 33 and modules[-17:-16] == b"\n" else b""
    return version.decode("utf-8", "replace"), modules.decode("utf-8", "replace")
