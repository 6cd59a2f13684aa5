"""Reads the dpkg database: `var/lib/dpkg/status`, and `status.d/*` of distroless images."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.os_package import os_purl
from ci_registry.inventory.os_release import release_of
from ci_registry.inventory.reading import ImageFile, Reading, printable, unread
from ci_registry.inventory.vendors import is_third_party

_ON_DISK = frozenset(
    {
        "installed",
        "unpacked",
        "half-installed",
        "half-configured",
        "triggers-awaited",
        "triggers-pending",
    }
)
"""States of dpkg in which the files of a package are there; not `config-files`, `not-installed`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_VERSION = re.compile(r"[0-9A-Za-z.+:~-]+")
_ARCHITECTURE = re.compile(r"[A-Za-z0-9-]*")
_SOURCE = re.compile(rf"({_NAME.pattern})(?:\s+\(({_VERSION.pattern})\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """One paragraph of a status file."""

    fields: dict[str, str]
    """Field name in lower case to its first line."""
    problem: str = ""
    """Why the paragraph can't be used."""

    @property
    def is_on_disk(self) -> bool:
        """Whether the files of the package are there; without a `Status` (distroless) they are."""
        status = self.fields.get("status")
        return status is None or (status.split() or [""])[-1] in _ON_DISK


def parse_stanzas(data: bytes) -> Iterator[Stanza]:
    """Yield the paragraphs of a status file, damaged ones with a problem."""
    fields: dict[str, str] = {}
    problem = ""
    for line in [*data.decode("utf-8", "replace").split("\n"), ""]:
        if not line.strip():
            if fields or problem:
                yield Stanza(fields=fields, problem=problem or _problem_of(fields))
            fields, problem = {}, ""
        elif line[0] not in " \t":
            key, colon, value = line.partition(":")
            key = key.lower()
            if not colon or not key or " " in key:
                problem = problem or f"a line without a field name: {line[:60]!r}"
            elif key in fields:
                problem = problem or f"the field {key!r} twice in one paragraph"
            else:
                fields[key] = value.strip()
        elif not fields:
            problem = problem or "a continuation line without a field"


def _problem_of(fields: dict[str, str]) -> str:
    name = fields.get("package", "")
    if not _NAME.fullmatch(name):
        return f"a paragraph without a valid package name: {name[:60]!r}"
    if "status" in fields and len(fields["status"].split()) != 3:
        return f"{name}: malformed status {fields['status'][:60]!r}"
    if not Stanza(fields=fields).is_on_disk:
        return ""
    if not _VERSION.fullmatch(fields.get("version", "")):
        return f"{name}: no valid version"
    if "source" in fields and not _SOURCE.fullmatch(fields["source"]):
        return f"{name}: malformed source {fields['source'][:60]!r}"
    if not _ARCHITECTURE.fullmatch(fields.get("architecture", "")):
        return f"{name}: malformed architecture"
    return ""


def read_dpkg(
    files: Sequence[ImageFile], distribution: Distribution | None, listed: frozenset[str]
) -> Reading:
    """Return the installed packages.

    Args:
        files: the status file, or the files of `status.d`.
        distribution: for the purl.
        listed: names of the packages that have a file list in `info/`; one that no paragraph names
            means that the status file is cut short or was edited.
    """
    packages: list[Package] = []
    problems: list[UnreadDatabase] = []
    named: set[str] = set()
    for file in files:
        if file.problem:
            problems.append(unread("deb", file, file.problem))
            continue
        is_whole_database = file.path.endswith("/status")
        if is_whole_database and file.content and not file.content.endswith(b"\n"):
            problems.append(unread("deb", file, "cut short: the last line has no end"))
        for stanza in parse_stanzas(file.content):
            named.add(stanza.fields.get("package", ""))
            if stanza.problem:
                problems.append(unread("deb", file, stanza.problem))
            elif stanza.is_on_disk:
                packages.append(_package(stanza.fields, file, distribution))
    if files and (lost := sorted(listed - named)):
        reason = f"{len(lost)} packages have a file list but no entry: {', '.join(lost[:5])}"
        problems.append(unread("deb", files[0], reason))
    return Reading(packages=tuple(packages), unread=tuple(problems))


def _package(fields: dict[str, str], file: ImageFile, distribution: Distribution | None) -> Package:
    name, version = fields["package"], fields["version"]
    source = _SOURCE.fullmatch(fields.get("source", ""))
    source_name = source[1] if source else ""
    source_version = (source[2] or "") if source else ""
    architecture = fields.get("architecture", "")
    return Package(
        ecosystem="deb",
        name=name,
        version=version,
        purl=os_purl(
            "deb",
            name.lower(),
            version,
            distribution,
            release=release_of(distribution) if distribution else "",
            arch=architecture,
        ),
        source_name="" if source_name == name else source_name,
        source_version="" if source_version == version else source_version,
        architecture=architecture,
        layer=file.diff_id,
        path=printable(file.path),
        third_party=is_third_party(fields.get("maintainer", ""), version, distribution),
    )
