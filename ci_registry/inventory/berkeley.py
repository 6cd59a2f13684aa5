"""Reads the values of a Berkeley DB hash file, as RPM kept its packages in until 2021, strictly and bounded.

Facts from Berkeley DB's `db_page.h`: page 0 describes the file; every page begins with 26 bytes; a hash
page lists the offsets of its items, keys and values in turn; a large item is a chain of overflow pages.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.inventory.reading import UnreadableError

_MAGIC = 0x061561
_PAGE_HEAD_BYTES = 26
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
_HASH_UNSORTED, _OVERFLOW, _HASH_META, _HASH = 2, 7, 8, 13
_INLINE, _OFF_PAGE = 1, 3


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    order: str
    page_bytes: int
    last_page: int

    def page(self, number: int) -> bytes:
        if not 0 < number <= self.last_page:
            raise UnreadableError(f"Berkeley DB: page {number} is not in the file")
        return self.data[number * self.page_bytes : (number + 1) * self.page_bytes]

    def fields(self, page: bytes) -> tuple[int, int, int, int]:
        """Return (next page, number of items, first free byte, type of the page)."""
        following, count, free = struct.unpack_from(f"{self.order}IHH", page, 16)
        return following, count, free, page[25]


def hash_values(data: bytes, *, most_bytes: int, most_count: int) -> Iterator[bytes]:
    """Yield the values in the order of the pages; keys are not looked at.

    Raises:
        UnreadableError: this is no such file, it is damaged, or a limit is passed.
    """
    file = _opened(data)
    count = 0
    for number in range(1, file.last_page + 1):
        page = file.page(number)
        _, items, _, kind = file.fields(page)
        if kind not in (_HASH, _HASH_UNSORTED):
            continue
        if items % 2 or _PAGE_HEAD_BYTES + 2 * items > len(page):
            raise UnreadableError(f"Berkeley DB: page {number} is damaged")
        offsets = struct.unpack_from(f"{file.order}{items}H", page, _PAGE_HEAD_BYTES)
        for at in range(1, items, 2):
            count += 1
            if count > most_count:
                raise UnreadableError(f"Berkeley DB: more than {most_count} entries")
            yield _value(file, page, offsets[at], offsets[at - 1], most_bytes)


def _opened(data: bytes) -> _File:
    if len(data) < 512:
        raise UnreadableError("neither SQLite nor ndb nor Berkeley DB")
    order = next((o for o in "<>" if struct.unpack_from(f"{o}I", data, 12)[0] == _MAGIC), "")
    if not order:
        raise UnreadableError("neither SQLite nor ndb nor a hash file of Berkeley DB")
    (page_bytes,) = struct.unpack_from(f"{order}I", data, 20)
    (last_page,) = struct.unpack_from(f"{order}I", data, 32)
    if page_bytes not in _PAGE_SIZES or data[25] != _HASH_META or data[24]:
        raise UnreadableError("Berkeley DB: its first page is damaged, or it is encrypted")
    if (last_page + 1) * page_bytes > len(data):
        raise UnreadableError("Berkeley DB: cut short")
    return _File(data, order, page_bytes, last_page)


def _value(file: _File, page: bytes, offset: int, end: int, most_bytes: int) -> bytes:
    """Return one value; items grow down from the end of the page, so it ends where its key begins."""
    if not _PAGE_HEAD_BYTES <= offset < end <= len(page):
        raise UnreadableError("Berkeley DB: an entry leads out of its page")
    kind = page[offset]
    if kind == _INLINE:
        return page[offset + 1 : end]
    if kind != _OFF_PAGE or offset + 12 > len(page):
        raise UnreadableError(f"Berkeley DB: an entry of unknown kind {kind}")
    first, total = struct.unpack_from(f"{file.order}II", page, offset + 4)
    if total > most_bytes:
        raise UnreadableError(f"Berkeley DB: an entry of {total} bytes")
    return _chained(file, first, total)


def _chained(file: _File, first: int, total: int) -> bytes:
    """Join overflow pages; each brings at least a byte, so that a circle ends too."""
    value = bytearray()
    number = first
    while number:
        page = file.page(number)
        number, _, size, kind = file.fields(page)
        if kind != _OVERFLOW or not 0 < size <= len(page) - _PAGE_HEAD_BYTES:
            raise UnreadableError("Berkeley DB: a large entry is damaged")
        value += page[_PAGE_HEAD_BYTES : _PAGE_HEAD_BYTES + size]
        if len(value) > total:
            raise UnreadableError("Berkeley DB: a large entry is longer than it says, or a circle")
    if len(value) != total:
        raise UnreadableError("Berkeley DB: a large entry is cut short")
    return bytes(value)
