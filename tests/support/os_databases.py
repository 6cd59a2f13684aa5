"""Makes package databases of operating systems by hand: apk, and RPM in SQLite, ndb and Berkeley DB."""

import base64
import hashlib
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

APK_RELEASE = "ID=alpine\nVERSION_ID=3.20.3\n"
ALMA_RELEASE = 'ID="almalinux"\nVERSION_ID="9.4"\n'

RPM_TAGS = {
    "name": 1000,
    "version": 1001,
    "release": 1002,
    "epoch": 1003,
    "vendor": 1011,
    "arch": 1022,
    "sourcerpm": 1044,
    "module": 5096,
}


def apk_record(
    name: str,
    version: str,
    *,
    origin: str = "",
    maintainer: str = "Natanael Copa <ncopa@alpinelinux.org>",
    files: Mapping[str, bytes | str] | None = None,
) -> str:
    """Return one record of apk's database, without the empty line behind it."""
    lines = [f"C:Q1{base64.b64encode(bytes(20)).decode()}", f"P:{name}", f"V:{version}", "A:x86_64"]
    lines += ["S:1", "I:2", "T:a package", "U:https://example.com", "L:MIT"]
    lines += [f"o:{origin}"] if origin else []
    lines += [f"m:{maintainer}", "t:1700000000"]
    for path, content in (files or {}).items():
        folder, _, file = path.rpartition("/")
        data = content.encode() if isinstance(content, str) else content
        sha1 = base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
        lines += [f"F:{folder}", f"R:{file}", "a:0:0:755", f"Z:Q1{sha1}"]
    return "\n".join(lines)


def apk_database(*records: str) -> str:
    """Return a whole database."""
    return "".join(f"{record}\n\n" for record in records)


def rpm_header(
    files: Mapping[str, bytes | str] | None = None,
    *,
    tags: Mapping[int, int | str | Sequence[int] | Sequence[str]] | None = None,
    **fields: Any,
) -> bytes:
    """Return a header as it stands in the database.

    Args:
        files: content by path, with a leading slash.
        tags: further tags, or other values.
        **fields: by the names of `RPM_TAGS`.
    """
    base: dict[str, str | int] = {"name": "demo", "version": "1.0", "release": "1.el9"}
    base |= {"arch": "x86_64", "vendor": "AlmaLinux", **fields}
    values: dict[int, int | str | Sequence[int] | Sequence[str]] = {
        RPM_TAGS[key]: value for key, value in base.items()
    }
    if files:
        contents = [c.encode() if isinstance(c, str) else c for c in files.values()]
        folders = sorted({path.rpartition("/")[0] + "/" for path in files})
        values[1035] = [hashlib.sha256(content).hexdigest() for content in contents]
        values[1116] = [folders.index(path.rpartition("/")[0] + "/") for path in files]
        values[1117] = [path.rpartition("/")[2] for path in files]
        values[1118] = folders
        values[5011] = 8
    return _packed({**values, **(tags or {})})


def _packed(values: Mapping[int, int | str | Sequence[int] | Sequence[str]]) -> bytes:
    index, data = b"", b""
    for tag, value in sorted(values.items()):
        many = value if isinstance(value, list) else [value]
        if isinstance(many[0], int):
            data += bytes(-len(data) % 4)
            kind, raw = 4, struct.pack(f">{len(many)}I", *many)
        else:
            kind = 8 if isinstance(value, list) else 6
            raw = b"".join(str(text).encode() + b"\0" for text in many)
        index += struct.pack(">IIiI", tag, kind, len(data), len(many))
        data += raw
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def rpm_sqlite(*headers: bytes) -> bytes:
    """Return `rpmdb.sqlite`, in WAL mode as rpm leaves it."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(
            "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
        )
        database.execute(
            "CREATE TABLE 'Name' (key TEXT NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)"
        )
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(h,) for h in headers])
        database.commit()
        data = database.serialize()
    return data[:18] + b"\2\2" + data[20:]


def rpm_ndb(*headers: bytes) -> bytes:
    """Return `Packages.db`, with one page of slots and an empty slot between the others."""
    slots, blobs = b"", b""
    for number, header in enumerate(headers, 1):
        start = 4096 + len(blobs)
        blob = struct.pack("<4sIII", b"BlbS", number, 7, len(header)) + header
        blob += bytes(-(len(blob) + 12) % 16) + struct.pack("<II4s", 0, len(header), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, start // 16, len(blob) // 16)
        slots += struct.pack("<4sIII", b"Slot", 0, 0, 0)
        blobs += blob
    head = struct.pack("<4sIII", b"RpmP", 0, 7, 1) + bytes(16)
    slots += struct.pack("<4sIII", b"Slot", 0, 0, 0) * (254 - len(slots) // 16)
    return head + slots + blobs


def rpm_berkeley(*headers: bytes, order: str = "<", page_bytes: int = 4096) -> bytes:
    """Return `Packages` of Berkeley DB: a hash page, then overflow pages; the last header stands inline.

    Under key 0 stands the highest number, as rpm keeps it.
    """
    room = page_bytes - 26
    overflow: list[bytes] = []
    items = [bytes([1]) + struct.pack("=I", 0), bytes([1]) + struct.pack("=I", len(headers))]
    for number, header in enumerate(headers, 1):
        items.append(bytes([1]) + struct.pack("=I", number))
        if number == len(headers) and len(header) < page_bytes // 4:
            items.append(bytes([1]) + header)
            continue
        parts = [header[at : at + room] for at in range(0, len(header), room)]
        first = 2 + len(overflow)
        items.append(struct.pack(f"{order}B3xII", 3, first, len(header)))
        for at, part in enumerate(parts):
            following = first + at + 1 if at + 1 < len(parts) else 0
            head = struct.pack(f"{order}8xIIIHHBB", first + at, 0, following, 1, len(part), 0, 7)
            overflow.append((head + part).ljust(page_bytes, b"\0"))
    page = bytearray(page_bytes)
    offset, offsets = page_bytes, []
    for item in items:
        offset -= len(item)
        page[offset : offset + len(item)] = item
        offsets.append(offset)
    struct.pack_into(f"{order}8xIIIHHBB", page, 0, 1, 0, 0, len(items), offset, 0, 13)
    struct.pack_into(f"{order}{len(items)}H", page, 26, *offsets)
    meta = struct.pack(
        f"{order}8xIIIIBBBBII", 0, 0x061561, 9, page_bytes, 0, 8, 0, 0, 0, 1 + len(overflow)
    )
    return b"".join((meta.ljust(page_bytes, b"\0"), bytes(page), *overflow))
