"""Reads which RPMs are installed."""

import json
import re
from collections.abc import Iterator, Sequence

from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.os_package import os_purl
from ci_registry.inventory.owned_paths import may_hold_packages
from ci_registry.inventory.ownership import Claim
from ci_registry.inventory.reading import ImageFile, UnreadableError, printable, unread
from ci_registry.inventory.rpm_database import rpm_headers
from ci_registry.inventory.rpm_header import RpmHeader, parse_rpm_header
from ci_registry.inventory.vendors import is_third_party_rpm

LOG_ENDING = "-wal"
"""SQLite's log of changes beside the database; it is empty unless a program was killed."""
RPM_FILES = ("rpmdb.sqlite", f"rpmdb.sqlite{LOG_ENDING}", "Packages.db", "Packages")
"""Names of a database in the folder of rpm."""
_NO_PACKAGE = "gpg-pubkey"
"""Keys stand in the database like packages."""
_SOURCE = re.compile(r"(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm")
_TEXT = re.compile(r"[^\s\x00-\x1f\x7f]+")
_MOST_PROBLEMS = 20


def condense_rpm(data: bytes) -> bytes:
    """Take out of a database, whatever its kind, what the reader needs, as JSON.

    Files that can't hold language packages are left out, so are keys.
    """
    headers: list[dict[str, object]] = []
    problems: list[str] = []
    try:
        for blob in rpm_headers(data):
            try:
                header = parse_rpm_header(blob)
            except UnreadableError as error:
                problems.append(error.message)
            else:
                if header.name != _NO_PACKAGE:
                    headers.append(_condensed(header))
    except UnreadableError as error:
        problems.insert(0, error.message)
    found = {"headers": headers, "problems": problems[:_MOST_PROBLEMS]}
    return json.dumps(found, separators=(",", ":")).encode()


def condense_log(data: bytes) -> bytes:
    """Keep whether SQLite's log is empty."""
    return data[:1]


def _condensed(header: RpmHeader) -> dict[str, object]:
    files = [
        (path.lstrip("/"), digest)
        for path, digest in header.files
        if digest and may_hold_packages(path.encode("utf-8", "surrogateescape"))
    ]
    return {
        "name": header.name,
        "version": header.version,
        "release": header.release,
        "epoch": header.epoch,
        "architecture": header.architecture,
        "vendor": header.vendor,
        "source_rpm": header.source_rpm,
        "modularity_label": header.modularity_label,
        "digest_algorithm": header.digest_algorithm,
        "files": files,
    }


def read_rpm(
    files: Sequence[ImageFile], distribution: Distribution | None
) -> tuple[list[Package], list[UnreadDatabase], list[Claim]]:
    """Return the installed packages, what could not be read, and which files the packages brought."""
    packages: dict[str, Package] = {}
    problems: list[UnreadDatabase] = []
    claims: list[Claim] = []
    for file in files:
        if file.problem:
            problems.append(unread("rpm", file, file.problem))
        elif file.path.endswith(LOG_ENDING):
            if file.content:
                problems.append(unread("rpm", file, "changes that are not in the database yet"))
        else:
            for header in _headers(file, problems):
                package = _package(header, file, distribution)
                packages.setdefault(package.purl, package)
                claims += _claims(header, file)
    return list(packages.values()), problems, claims


def _headers(file: ImageFile, problems: list[UnreadDatabase]) -> Iterator[RpmHeader]:
    found = json.loads(file.content)
    problems += [unread("rpm", file, problem) for problem in found["problems"]]
    for fields in found["headers"]:
        pairs = tuple((path, digest) for path, digest in fields.pop("files"))
        header = RpmHeader(files=pairs, **fields)
        if problem := _problem_of(header):
            problems.append(unread("rpm", file, problem))
        else:
            yield header


def _problem_of(header: RpmHeader) -> str:
    needed = (header.name, header.version, header.release)
    optional = (header.architecture, header.source_rpm, header.modularity_label)
    for text in (*needed, *(text for text in optional if text)):
        if not _TEXT.fullmatch(text) or not text.isprintable() or len(text) > 400:
            return f"{header.name[:60]!r}: a field is missing or malformed: {text[:60]!r}"
    return ""


def _package(header: RpmHeader, file: ImageFile, distribution: Distribution | None) -> Package:
    bare = f"{header.version}-{header.release}"
    source = _SOURCE.fullmatch(header.source_rpm)
    source_name, source_version = source.groups() if source else ("", "")
    return Package(
        ecosystem="rpm",
        name=header.name,
        version=f"{header.epoch}:{bare}" if header.epoch else bare,
        purl=os_purl(
            "rpm",
            header.name,
            bare,
            distribution,
            release=distribution.version if distribution else "",
            arch=header.architecture,
            epoch=str(header.epoch) if header.epoch else "",
        ),
        source_name="" if source_name == header.name else source_name,
        source_version="" if source_version == bare else source_version,
        architecture=header.architecture,
        layer=file.diff_id,
        path=printable(file.path),
        third_party=is_third_party_rpm(header.vendor, header.release, distribution),
        module=header.modularity_label,
    )


def _claims(header: RpmHeader, file: ImageFile) -> Iterator[Claim]:
    algorithm = header.digest_algorithm
    for path, digest in header.files:
        yield Claim(path, header.name, file.layer, algorithm, digest if algorithm else "")
