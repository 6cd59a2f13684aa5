"""Reads the database of Alpine's apk and its relatives: `lib/apk/db/installed`, or below `usr` since apk 3."""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.os_package import os_purl
from ci_registry.inventory.os_release import release_of
from ci_registry.inventory.owned_paths import may_hold_packages
from ci_registry.inventory.ownership import Claim
from ci_registry.inventory.reading import ImageFile, printable, unread
from ci_registry.inventory.vendors import is_third_party

_NAME = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9._+:-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+~-]*")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9_-]*")
_KEPT_FIELDS = frozenset(b"PVAomc")
_SHA1 = b"Q1"
"""What apk writes in front of a SHA-1 in base64; other checksums are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One package of the database."""

    fields: dict[str, str]
    files: tuple[tuple[str, str], ...]
    """(path, SHA-1 in hexadecimal digits or empty)."""
    problem: str


def condense_apk(data: bytes) -> bytes:
    """Drop what the reader does not need: most fields, and files that can't hold language packages.

    What is left is such a database again.
    """
    kept: list[bytes] = []
    folder, written, owns = b"", b"", False
    for line in data.split(b"\n"):
        field, value = line[:2], line[2:]
        if field == b"F:":
            folder, owns = value, False
        elif field == b"R:":
            owns = may_hold_packages(folder + b"/" + value if folder else value)
            if owns and written != folder:
                kept.append(b"F:" + folder)
                written = folder
            if owns:
                kept.append(line)
        elif field == b"Z:":
            if owns:
                kept.append(line)
        elif not line:
            kept.append(line)
            folder, written, owns = b"", b"", False
        elif field[1:] != b":" or field[0] in _KEPT_FIELDS:
            kept.append(line)
    return b"\n".join(kept)


def read_apk(
    files: Sequence[ImageFile], distribution: Distribution | None
) -> tuple[list[Package], list[UnreadDatabase], list[Claim]]:
    """Return the installed packages, damaged records, and which files the packages brought."""
    packages: list[Package] = []
    problems: list[UnreadDatabase] = []
    claims: list[Claim] = []
    for file in files:
        if file.problem:
            problems.append(unread("apk", file, file.problem))
            continue
        if file.content and not file.content.endswith(b"\n"):
            problems.append(unread("apk", file, "cut short: the last line has no end"))
        for record in _records(file.content):
            if record.problem:
                problems.append(unread("apk", file, record.problem))
                continue
            package = _package(record.fields, file, distribution)
            packages.append(package)
            claims += [
                Claim(path, package.name, file.layer, "sha1" if sha1 else "", sha1)
                for path, sha1 in record.files
            ]
    return packages, problems, claims


def _records(data: bytes) -> Iterator[_Record]:
    lines: list[str] = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line:
            lines.append(line)
        elif lines:
            yield _record(lines)
            lines = []
    if lines:
        yield _record(lines)


def _record(lines: Sequence[str]) -> _Record:
    fields: dict[str, str] = {}
    files: list[tuple[str, str]] = []
    folder, problem = "", ""
    for line in lines:
        key, value = line[:1], line[2:]
        if line[1:2] != ":":
            problem = problem or f"a line without a field: {line[:60]!r}"
        elif key == "F":
            folder = value
        elif key == "R":
            files.append((f"{folder}/{value}" if folder else value, ""))
        elif key == "Z" and files:
            files[-1] = (files[-1][0], _hexadecimal(value))
        elif key in "PVAom" and key in fields:
            problem = problem or f"the field {key!r} twice in one record"
        else:
            fields[key] = value
    return _Record(fields=fields, files=tuple(files), problem=problem or _problem_of(fields))


def _hexadecimal(checksum: str) -> str:
    raw = checksum.encode("ascii", "replace")
    if not raw.startswith(_SHA1):
        return ""
    try:
        return base64.b64decode(raw.removeprefix(_SHA1), validate=True).hex()
    except binascii.Error:
        return ""


def _problem_of(fields: dict[str, str]) -> str:
    name = fields.get("P", "")
    if not _NAME.fullmatch(name):
        return f"a record without a valid package name: {name[:60]!r}"
    if not _VERSION.fullmatch(fields.get("V", "")):
        return f"{name}: no valid version"
    origin = fields.get("o", "")
    if origin and not _NAME.fullmatch(origin):
        return f"{name}: malformed origin {origin[:60]!r}"
    if not _ARCHITECTURE.fullmatch(fields.get("A", "")):
        return f"{name}: malformed architecture"
    return ""


def _package(fields: dict[str, str], file: ImageFile, distribution: Distribution | None) -> Package:
    name, version, architecture = fields["P"], fields["V"], fields.get("A", "")
    origin = fields.get("o", "")
    return Package(
        ecosystem="apk",
        name=name,
        version=version,
        purl=os_purl(
            "apk",
            name.lower(),
            version,
            distribution,
            arch=architecture,
            release=release_of(distribution) if distribution else "",
        ),
        source_name="" if origin == name else origin,
        architecture=architecture,
        layer=file.diff_id,
        path=printable(file.path),
        third_party=is_third_party(fields.get("m", ""), version, distribution),
    )
