"""Takes the coordinates out of a Java archive and of the archives in it, while its layer is read.

What comes out is a small JSON document, one record per archive; `inventory.java` draws conclusions.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

from ci_registry.inventory.limits import GIB, KIB, MIB
from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.spool import spooled
from ci_registry.inventory.zip_archive import Member, ZipArchive, shown

ARCHIVES = (".jar", ".war", ".ear", ".par", ".hpi", ".jpi", ".kar", ".sar")
"""Endings of Java archives, in lower case."""
LARGEST_BYTES = GIB
"""A larger archive is named as unread."""
DEPTH = 5
"""Deepest nesting: an archive, those in it (1), and so on."""
_MOST_ENTRIES = 500_000
"""Over all archives in one file."""
_MOST_ARCHIVES = 10_000
_MOST_COORDINATES = 20_000
_RATIO = 20
"""How much more than its own size may be inflated of one file: jars in a war pack badly."""
_RATIO_FREE_BYTES = 16 * MIB
_PROPERTIES_BYTES = 64 * KIB
_MANIFEST_BYTES = 256 * KIB
_MOST_ROOTS = 50
_ATTRIBUTES = frozenset({
    "Artifact-Id",
    "Bundle-Version",
    "Extension-Name",
    "Group-Id",
    "Implementation-Title",
    "Implementation-Vendor-Id",
    "Implementation-Version",
    "Plugin-Version",
    "Short-Name",
    "Specification-Title",
})  # fmt: skip
_PROPERTY = re.compile(r"(groupId|artifactId|version)(?:\s*[=:]\s*|\s+)(.*)")
_VERSIONED = re.compile(r"META-INF/versions/\d+/")
_OWN_CODE = ("BOOT-INF/classes/", "WEB-INF/classes/")


@dataclass(kw_only=True)
class Archive:
    """What one Java archive says about itself."""

    path: str
    """Inside the outermost archive, `!/` between archives; empty for that one itself."""
    coordinates: list[list[str]] = field(default_factory=list)
    """[groupId, artifactId, version] of each `pom.properties`."""
    manifest: dict[str, str] = field(default_factory=dict)
    """Attributes of the main section that tell an identity."""
    roots: list[str] = field(default_factory=list)
    """The first two folders of its classes: `org/apache`; an empty one for classes without package."""
    holds_archives: bool = False
    problems: list[str] = field(default_factory=list)


class _ExhaustedError(UnreadableError):
    """The bounds of the whole file are reached: none of it is read."""


@dataclass(slots=True)
class _Budget:
    """What may still be read of one file, however deep."""

    entries: int
    inflated_bytes: int
    archives: int = _MOST_ARCHIVES
    coordinates: int = _MOST_COORDINATES

    def inflate(self, size_bytes: int) -> None:
        self.inflated_bytes -= size_bytes
        if self.inflated_bytes < 0:
            raise _ExhaustedError("a Java archive that inflates to a multiple of its size")

    def enter(self) -> None:
        self.archives -= 1
        if self.archives < 0:
            raise _ExhaustedError(f"more than {_MOST_ARCHIVES} archives in one")

    def add_coordinates(self) -> None:
        self.coordinates -= 1
        if self.coordinates < 0:
            raise _ExhaustedError(f"more than {_MOST_COORDINATES} pom.properties in one archive")


def sift_jar(pieces: Iterator[bytes], size: int) -> bytes:
    """Return what a Java archive says about itself, see `archives_of`.

    Up to 8 MiB are held in memory; a larger one goes through a nameless temporary file, since the
    directory of a zip archive stands at its end.

    Raises:
        UnreadableError: it is no zip archive, damaged, or out of bounds.
        StorageError: no space for the temporary file.
    """
    if not size:
        return b"[]"
    with spooled(pieces) as file:
        budget = _Budget(_MOST_ENTRIES, _RATIO_FREE_BYTES + _RATIO * size)
        found: list[Archive] = []
        _read_archive(file, (0, size), "", budget, found)
    return json.dumps([asdict(item) for item in found], separators=(",", ":")).encode()


def archives_of(content: bytes) -> tuple[Archive, ...]:
    """Return what `sift_jar` found: the archive, then those in it."""
    return tuple(Archive(**item) for item in json.loads(content))


def _read_archive(
    file: BinaryIO, place: tuple[int, int], path: str, budget: _Budget, found: list[Archive]
) -> None:
    """Append the archive at a place (offset and size in the file), and those in it."""
    budget.enter()
    zipped = ZipArchive(file, *place, most_entries=budget.entries)
    budget.entries -= zipped.entries_count
    archive = Archive(path=path)
    nested = _read_members(zipped, archive, budget)
    found.append(archive)
    archive.holds_archives = bool(nested)
    for member in nested:
        inner = f"{path}!/{_shown_path(member.name)}" if path else _shown_path(member.name)
        try:
            if inner.count("!/") >= DEPTH:
                raise UnreadableError(f"nested more than {DEPTH} deep")
            _read_nested(zipped, member, inner, budget, found)
        except _ExhaustedError:
            raise
        except UnreadableError as error:
            found.append(Archive(path=inner, problems=[error.message]))


def _shown_path(name: str) -> str:
    return shown(name).replace("!/", "!_/")


def _read_nested(
    zipped: ZipArchive, member: Member, path: str, budget: _Budget, found: list[Archive]
) -> None:
    """Read an archive in an archive: in place when it is stored, else by inflating it."""
    if not member.size_bytes:
        return
    if member.method == 0:
        begin = zipped.begins_at(member)
        _read_archive(zipped.file, (begin, member.packed_bytes), path, budget, found)
        return
    budget.inflate(member.size_bytes)
    with spooled(zipped.pieces(member)) as file:
        _read_archive(file, (0, member.size_bytes), path, budget, found)


def _read_members(zipped: ZipArchive, archive: Archive, budget: _Budget) -> list[Member]:
    """Read what tells an identity; return the archives inside."""
    nested: list[Member] = []
    roots: set[str] = set()
    for member in zipped.members():
        name = member.name
        if name.endswith(".class"):
            if len(roots) < _MOST_ROOTS and not name.startswith(_OWN_CODE):
                roots.add(_root(name))
        elif name.endswith("pom.properties") and name.rpartition("/")[2] == "pom.properties":
            _read_properties(zipped, member, archive, budget)
        elif name == "META-INF/MANIFEST.MF":
            _read_manifest(zipped, member, archive, budget)
        elif name.lower().endswith(ARCHIVES):
            nested.append(member)
    archive.roots = sorted(roots - {"module-info"})
    return nested


def _root(name: str) -> str:
    """Return the first two folders of a class."""
    folders = _VERSIONED.sub("", name, count=1).split("/")[:-1]
    if not folders and name.endswith("module-info.class"):
        return "module-info"
    return "/".join(folders[:2])[:100]


def _read_properties(zipped: ZipArchive, member: Member, archive: Archive, budget: _Budget) -> None:
    """Take the coordinates of a `pom.properties`; elsewhere than in `META-INF/maven` it may be anything."""
    budget.inflate(min(member.size_bytes, _PROPERTIES_BYTES))
    try:
        coordinates = parse_properties(zipped.read(member, most_bytes=_PROPERTIES_BYTES))
    except UnreadableError as error:
        archive.problems.append(error.message)
        return
    if coordinates is not None:
        budget.add_coordinates()
        if coordinates not in archive.coordinates:
            archive.coordinates.append(coordinates)
    elif "META-INF/maven/" in member.name:
        archive.problems.append(f"{shown(member.name)}: no groupId, artifactId or version in it")


def _read_manifest(zipped: ZipArchive, member: Member, archive: Archive, budget: _Budget) -> None:
    budget.inflate(min(member.size_bytes, _MANIFEST_BYTES))
    try:
        archive.manifest = parse_manifest(zipped.head(member, _MANIFEST_BYTES))
    except UnreadableError as error:
        archive.problems.append(error.message)


_COORDINATE = re.compile(r"[\w.-]{1,200}", re.ASCII)
_VERSION = re.compile(r"[\w.+-]{1,200}", re.ASCII)


def parse_properties(data: bytes) -> list[str] | None:
    """Return groupId, artifactId and version of a `pom.properties`; None when one is missing or no such thing."""
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if match := _PROPERTY.fullmatch(line.strip()):
            values[match[1]] = match[2].replace("\\", "")
    group, artifact, version = (values.get(key, "") for key in ("groupId", "artifactId", "version"))
    return [group, artifact, version] if are_coordinates(group, artifact, version) else None


def are_coordinates(group: str, artifact: str, version: str) -> bool:
    """Whether these can be Maven coordinates: no placeholder is left in them, for example."""
    names = _COORDINATE.fullmatch(group) and _COORDINATE.fullmatch(artifact)
    return bool(names and _VERSION.fullmatch(version))


def parse_manifest(data: bytes) -> dict[str, str]:
    """Return the attributes of the main section that tell an identity."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    main = text.lstrip("\ufeff").partition("\n\n")[0].replace("\n ", "")
    found: dict[str, str] = {}
    for line in main.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key in _ATTRIBUTES and value.isprintable() and 0 < len(value) <= 300:
            found.setdefault(key, value)
    return found
