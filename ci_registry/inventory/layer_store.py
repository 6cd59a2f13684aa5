"""Keeps what was read from a layer, so that a known one is hashed but not inflated again.

An entry is found by the digest of the compressed bytes, which are compared with it in every run. It
holds everything that reading gives; a later reader, or other limits, make another entry.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ci_registry.cache import DiskCache
from ci_registry.errors import CiRegistryError
from ci_registry.inventory.interest import GO_BINARY, RUST_BINARY
from ci_registry.inventory.layer import Entry, Layer, compression_of
from ci_registry.inventory.limits import MIB, Limits
from ci_registry.inventory.tar_stream import Kind
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor

FORMAT = 2
"""Raise it when the form of an entry changes; changes of the reader are noticed by themselves."""
MAX_ENTRY_BYTES = 64 * MIB
SMALLEST_BYTES = MIB
"""Layers that inflate to less are read as fast as their entry."""
_KINDS = tuple(Kind)
_PROGRAMS = (None, GO_BINARY, RUST_BINARY)
_LENGTH_BYTES = 8


class LayerCache(Protocol):
    """Remembers layers that were read and verified."""

    def get(
        self, descriptor: Descriptor, extra_paths: frozenset[str], limits: Limits
    ) -> Layer | None:
        """Return what reading the layer in this way gave; the caller proves the bytes of the blob."""

    def put(
        self, descriptor: Descriptor, extra_paths: frozenset[str], limits: Limits, read: Layer
    ) -> None:
        """Remember a layer; never raises for a cache that can't be written."""


def code_version(folder: Path) -> str:
    """Return a hash of all code in a folder."""
    hasher = hashlib.sha256(f"format {FORMAT}\n".encode())
    for path in sorted(folder.glob("*.py")):
        hasher.update(f"{path.name}\n".encode() + path.read_bytes())
    return hasher.hexdigest()


@functools.cache
def reader_version() -> str:
    """Return a hash of the code that reads layers: what an older one read is not taken for its work.

    All of this folder counts: which files are kept, and how they are condensed, is said in many modules.
    """
    return code_version(Path(__file__).parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayers:
    """A `LayerCache` in the cache folder."""

    cache: DiskCache

    def get(
        self, descriptor: Descriptor, extra_paths: frozenset[str], limits: Limits
    ) -> Layer | None:
        """Return a layer; None when it is not there or its entry is not in order."""
        key = _key(descriptor, extra_paths, limits)
        body = self.cache.get("layers", key, max_bytes=MAX_ENTRY_BYTES)
        if body is None:
            return None
        try:
            found = decode_layer(body)
        except (ValueError, TypeError, KeyError, IndexError, CiRegistryError):
            return None
        return found if found.digest == descriptor.digest else None

    def put(
        self, descriptor: Descriptor, extra_paths: frozenset[str], limits: Limits, read: Layer
    ) -> None:
        """Store a layer, unless it is small or its entry would be too large."""
        if read.size_bytes < SMALLEST_BYTES:
            return
        body = encode_layer(read)
        if len(body) <= MAX_ENTRY_BYTES:
            self.cache.put("layers", _key(descriptor, extra_paths, limits), body)


def _key(descriptor: Descriptor, extra_paths: frozenset[str], limits: Limits) -> str:
    parts = (
        reader_version(),
        descriptor.digest,
        compression_of(descriptor, "layer"),
        repr(limits),
        repr(sorted(extra_paths)),
    )
    return "\0".join(parts)


def encode_layer(read: Layer) -> bytes:
    """Return a layer as bytes: the length of a JSON head, the head, and the contents of files behind it."""
    contents = bytearray()
    kept: list[list[object]] = []
    for number, entry in enumerate(read.entries):
        if entry.content is not None or entry.sums or entry.problem or entry.program:
            size = None if entry.content is None else len(entry.content)
            program = _PROGRAMS.index(entry.program)
            kept.append([number, size, entry.sums, entry.problem, program])
            contents += entry.content or b""
    head = {
        "digest": read.digest,
        "diff_id": read.diff_id,
        "size": read.size_bytes,
        "paths": [entry.path for entry in read.entries],
        "kinds": [_KINDS.index(entry.kind) for entry in read.entries],
        "links": [[i, entry.link] for i, entry in enumerate(read.entries) if entry.link],
        "kept": kept,
    }
    raw = json.dumps(head, separators=(",", ":")).encode()
    return len(raw).to_bytes(_LENGTH_BYTES, "big") + raw + contents


def decode_layer(body: bytes) -> Layer:
    """Return the layer that `encode_layer` was given.

    Raises:
        ValueError, TypeError, KeyError, IndexError, IntegrityError: the bytes are something else.
    """
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
    head: dict[str, Any] = json.loads(body[_LENGTH_BYTES:end])
    paths, kinds = head["paths"], [_KINDS[kind] for kind in head["kinds"]]
    entries = list(map(Entry, paths, kinds))
    if not len(paths) == len(kinds) == len(entries):
        raise ValueError("columns of different length")
    for number, link in head["links"]:
        entries[number] = Entry(paths[number], kinds[number], link)
    _fill(entries, head["kept"], body, end)
    return Layer(
        digest=Digest(head["digest"]),
        diff_id=Digest(head["diff_id"]),
        size_bytes=int(head["size"]),
        entries=tuple(entries),
    )


def _fill(entries: list[Entry], kept: Sequence[Sequence[Any]], body: bytes, at: int) -> None:
    """Put contents and findings into the entries that have some."""
    for number, size, sums, problem, program in kept:
        content = None if size is None else body[at : at + size]
        at += size or 0
        before = entries[number]
        entries[number] = Entry(
            before.path,
            before.kind,
            before.link,
            content,
            tuple((str(name), str(digits)) for name, digits in sums),
            problem,
            _PROGRAMS[program],
        )
    if at != len(body):
        raise ValueError("contents cut short, or more than the head says")
