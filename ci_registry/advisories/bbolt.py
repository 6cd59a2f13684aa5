"""Writes and reads bbolt files, the key-value store of trivy's database (etcd's bbolt, format version 2).

A file is made of 4 KiB pages: two meta pages, a free list, then B+tree pages. A bucket is a tree of its
own; a small one without buckets in it lies inline in its parent.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Union

from ci_registry.errors import IntegrityError
from ci_registry.files import storage_error

PAGE_BYTES = 4096
_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META, _FREE_LIST = 0x01, 0x02, 0x04, 0x10
_BUCKET_FLAG = 1
_INLINE_BYTES = PAGE_BYTES // 4
_MAX_KEY_BYTES = 32768
_MAX_VALUE_BYTES = (1 << 31) - 2
_MAX_DEPTH = 32

_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
_META_BODY = struct.Struct("<IIIIQQQQQ")  # …, root page, root sequence, free list, high water, txid
_CHECKSUM = struct.Struct("<Q")
_LEAF_ITEM = struct.Struct("<IIII")  # flags, offset, key size, value size
_BRANCH_ITEM = struct.Struct("<IIQ")  # offset, key size, page
_BUCKET = struct.Struct("<QQ")  # root page, sequence

Bucket = Mapping[bytes, Union[bytes, "Bucket"]]
"""What a bucket holds: values and buckets by key."""


def fnv1a_64(data: bytes) -> int:
    """Return the FNV-1a hash that guards a meta page."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


@dataclass(slots=True)
class _Item:
    """A leaf element (flags, value) or, in a branch, a child (page number)."""

    key: bytes
    value: bytes = b""
    flags: int = 0
    page: int = 0

    @property
    def leaf_bytes(self) -> int:
        return _LEAF_ITEM.size + len(self.key) + len(self.value)

    @property
    def branch_bytes(self) -> int:
        return _BRANCH_ITEM.size + len(self.key)


class _Writer:
    def __init__(self) -> None:
        self._pages: list[bytes] = []
        self._next = 3

    def bucket_value(self, bucket: Bucket) -> bytes:
        """Write a bucket's pages and return the value that stands for it in its parent."""
        items = self._items(bucket)
        size = _PAGE.size + sum(item.leaf_bytes for item in items)
        if size <= _INLINE_BYTES and not any(item.flags for item in items):
            return _BUCKET.pack(0, 0) + _leaf(0, items)
        return _BUCKET.pack(self.tree(items), 0)

    def root(self, bucket: Bucket) -> int:
        """Write the root bucket, which is never inline, and return its page."""
        return self.tree(self._items(bucket))

    def _items(self, bucket: Bucket) -> list[_Item]:
        items = []
        for key in sorted(bucket):
            value = bucket[key]
            if not 0 < len(key) <= _MAX_KEY_BYTES:
                raise IntegrityError(f"bbolt: a key of {len(key)} bytes")
            if isinstance(value, bytes):
                if len(value) > _MAX_VALUE_BYTES:
                    raise IntegrityError(f"bbolt: a value of {len(value)} bytes")
                items.append(_Item(key, value))
            else:
                items.append(_Item(key, self.bucket_value(value), _BUCKET_FLAG))
        return items

    def tree(self, items: Sequence[_Item]) -> int:
        """Write leaves, then branches over them until one page is left; return its number."""
        level = [
            _Item(group[0].key if group else b"", page=self._add(_leaf(self._next, group)))
            for group in _groups(items, [item.leaf_bytes for item in items])
        ]
        while len(level) > 1:
            level = [
                _Item(group[0].key, page=self._add(_branch(self._next, group)))
                for group in _groups(level, [item.branch_bytes for item in level])
            ]
        return level[0].page

    def _add(self, page: bytes) -> int:
        number = self._next
        self._pages.append(page)
        self._next += len(page) // PAGE_BYTES
        return number

    def file(self, root: int) -> bytes:
        """Return the whole file."""
        free = _PAGE.pack(2, _FREE_LIST, 0, 0).ljust(PAGE_BYTES, b"\0")
        metas = [_meta(number, root, self._next) for number in (0, 1)]
        return b"".join([*metas, free, *self._pages])


def _groups(items: Sequence[_Item], sizes: Sequence[int]) -> Iterator[Sequence[_Item]]:
    """Split into runs that fit a page; an item larger than a page stands alone and overflows."""
    start = used = 0
    for at, size in enumerate(sizes):
        if at - start >= 2 and used + size > PAGE_BYTES - _PAGE.size:
            yield items[start:at]
            start, used = at, 0
        used += size
    yield items[start:]


def _finished(number: int, flags: int, count: int, body: bytes) -> bytes:
    size = _PAGE.size + len(body)
    overflow = max(0, -(-size // PAGE_BYTES) - 1) if number else 0
    page = _PAGE.pack(number, flags, count, overflow) + body
    return page.ljust((overflow + 1) * PAGE_BYTES, b"\0") if number else page


def _leaf(number: int, items: Sequence[_Item]) -> bytes:
    heads, bodies, offset = [], [], _LEAF_ITEM.size * len(items)
    for item in items:
        heads.append(_LEAF_ITEM.pack(item.flags, offset, len(item.key), len(item.value)))
        bodies += [item.key, item.value]
        offset += len(item.key) + len(item.value) - _LEAF_ITEM.size  # counted from the next head
    return _finished(number, _LEAF, len(items), b"".join([*heads, *bodies]))


def _branch(number: int, items: Sequence[_Item]) -> bytes:
    heads, bodies, offset = [], [], _BRANCH_ITEM.size * len(items)
    for item in items:
        heads.append(_BRANCH_ITEM.pack(offset, len(item.key), item.page))
        bodies.append(item.key)
        offset += len(item.key) - _BRANCH_ITEM.size
    return _finished(number, _BRANCH, len(items), b"".join([*heads, *bodies]))


def _meta(number: int, root: int, high_water: int) -> bytes:
    body = _META_BODY.pack(_MAGIC, _VERSION, PAGE_BYTES, 0, root, 0, 2, high_water, number)
    page = _PAGE.pack(number, _META, 0, 0) + body + _CHECKSUM.pack(fnv1a_64(body))
    return page.ljust(PAGE_BYTES, b"\0")


def dump(bucket: Bucket) -> bytes:
    """Return the bytes of a bbolt file with `bucket` as its root; equal input gives equal bytes."""
    writer = _Writer()
    return writer.file(writer.root(bucket))


class BoltFile:
    """Reads one bbolt file through a memory map; every offset is checked before it is followed."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            IntegrityError: it is no bbolt file, or both meta pages are damaged.
            StorageError: it can't be read.
        """
        self._path = path
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise storage_error(error, path, "read") from error
        except ValueError as error:
            raise IntegrityError(f"{path}: an empty file is no bbolt file") from error
        try:
            self._page_bytes, self._root = self._newest_meta()
        except IntegrityError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory map."""
        self._data.close()

    def items(self, *path: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield (key, value) of the bucket at `path` in key order; the value of a bucket is None.

        Raises:
            KeyError: there is no such bucket.
            IntegrityError: the file is damaged.
        """
        for key, value, is_bucket in self._walk(self._bucket(path)):
            yield key, None if is_bucket else value

    def _bucket(self, path: Sequence[bytes]) -> tuple[int, bytes]:
        """Return (root page, inline page) of a bucket."""
        bucket = (self._root, b"")
        for name in path:
            for key, value, is_bucket in self._walk(bucket):
                if key == name and is_bucket:
                    bucket = self._reference(value)
                    break
            else:
                raise KeyError(name)
        return bucket

    def _reference(self, value: bytes) -> tuple[int, bytes]:
        if len(value) < _BUCKET.size:
            raise self._damaged("a bucket without root")
        root, _sequence = _BUCKET.unpack_from(value)
        return root, value[_BUCKET.size :]

    def _walk(self, bucket: tuple[int, bytes]) -> Iterator[tuple[bytes, bytes, bool]]:
        root, inline = bucket
        if root == 0:
            yield from self._leaf_items(inline)
            return
        waiting, seen = [(root, 0)], 0
        while waiting:
            number, depth = waiting.pop()
            seen += 1
            if depth > _MAX_DEPTH or seen > len(self._data) // self._page_bytes:
                raise self._damaged("a tree that bites its tail")
            page = self._page(number)
            _id, flags, _count, _overflow = _PAGE.unpack_from(page)
            if flags & _LEAF:
                yield from self._leaf_items(page)
            elif flags & _BRANCH:
                children = [(child, depth + 1) for child in self._children(page)]
                waiting.extend(reversed(children))
            else:
                raise self._damaged(f"page {number} is neither leaf nor branch")

    def _page(self, number: int) -> bytes:
        start = number * self._page_bytes
        if not 2 < number < len(self._data) // self._page_bytes:
            raise self._damaged(f"page {number} is outside the file")
        found, _flags, _count, overflow = _PAGE.unpack_from(self._data, start)
        end = start + (overflow + 1) * self._page_bytes
        if found != number or end > len(self._data):
            raise self._damaged(f"page {number} is not itself")
        return self._data[start:end]

    def _leaf_items(self, page: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
        for at, head in self._heads(page, _LEAF_ITEM):
            flags, offset, key_size, value_size = head
            start = at + offset
            middle, end = start + key_size, start + key_size + value_size
            if end > len(page):
                raise self._damaged("a value outside its page")
            yield page[start:middle], page[middle:end], bool(flags & _BUCKET_FLAG)

    def _children(self, page: bytes) -> Iterator[int]:
        for _at, (_offset, _key_size, number) in self._heads(page, _BRANCH_ITEM):
            yield number

    def _heads(self, page: bytes, shape: struct.Struct) -> Iterator[tuple[int, tuple[int, ...]]]:
        if len(page) < _PAGE.size:
            raise self._damaged("half a page")
        count = _PAGE.unpack_from(page)[2]
        if _PAGE.size + count * shape.size > len(page):
            raise self._damaged("more elements than fit a page")
        for number in range(count):
            at = _PAGE.size + number * shape.size
            yield at, shape.unpack_from(page, at)

    def _newest_meta(self) -> tuple[int, int]:
        """Return (page size, root page) of the valid meta page with the highest transaction."""
        best: tuple[int, int, int] | None = None
        first = self._meta_at(0)
        seconds = (first[0],) if first else (PAGE_BYTES, 4 * PAGE_BYTES, 16 * PAGE_BYTES)
        for meta in (first, *(self._meta_at(size) for size in seconds)):
            if meta is not None and (best is None or meta[2] > best[2]):
                best = meta
        if best is None:
            raise self._damaged("no valid meta page")
        return best[0], best[1]

    def _meta_at(self, start: int) -> tuple[int, int, int] | None:
        at = start + _PAGE.size
        if at + _META_BODY.size + _CHECKSUM.size > len(self._data):
            return None
        body = self._data[at : at + _META_BODY.size]
        magic, version, page_bytes, _flags, root, _seq, _free, _high, txid = _META_BODY.unpack(body)
        checksum = _CHECKSUM.unpack_from(self._data, at + _META_BODY.size)[0]
        if magic != _MAGIC or version != _VERSION or checksum != fnv1a_64(body):
            return None
        if page_bytes < 512 or page_bytes & (page_bytes - 1):
            return None
        return page_bytes, root, txid

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self._path}: damaged bbolt file: {what}", hint="fetch or build the database again"
        )
