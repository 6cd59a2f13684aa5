"""Turns the merged files of a platform image into its inventory."""

from collections.abc import Sequence
from dataclasses import dataclass

from ci_registry.errors import IntegrityError
from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.interest import Reader, interest_in
from ci_registry.inventory.layer import condensed
from ci_registry.inventory.layers import Found, ImageTree
from ci_registry.inventory.os_release import parse_os_release
from ci_registry.inventory.ownership import Owners, with_owners
from ci_registry.inventory.readers import LANGUAGE_READERS
from ci_registry.inventory.reading import ImageFile, Reading, printable
from ci_registry.inventory.systems import FilesOf, SystemReading, read_systems
from ci_registry.inventory.unread import unread_databases

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an image holds, before it is joined with the image's digests."""

    distribution: Distribution | None
    packages: tuple[Package, ...]
    unread: tuple[UnreadDatabase, ...]


def read_contents(tree: ImageTree, found: Sequence[Found], diff_ids: Sequence[str]) -> Contents:
    """Run every reader over the files of interest of one image.

    Args:
        tree: the merged file system.
        found: its files of interest, with content.
        diff_ids: of the layers, by number.
    """
    files = _by_reader(found, diff_ids)
    distribution = _distribution(tree, files.get(Reader.OS_RELEASE, ()))
    systems = read_systems(tree, files, distribution)
    languages = _languages(tree, files, systems)
    readings = (Reading(packages=systems.packages, unread=systems.unread), *languages)
    packages = {package for reading in readings for package in reading.packages}
    damaged = tuple(record for reading in readings for record in reading.unread)
    return Contents(
        distribution=distribution,
        packages=tuple(sorted(packages, key=_order)),
        unread=(*damaged, *unread_databases(found)),
    )


def _order(package: Package) -> tuple[str, ...]:
    return package.ecosystem, package.name, package.version, package.path, package.purl


def _languages(tree: ImageTree, files: FilesOf, systems: SystemReading) -> list[Reading]:
    """Run the readers of the table, and join what they find with its owners."""
    foreign = frozenset(p.name for p in systems.packages if p.third_party)
    owners = Owners(systems.claims, foreign, tree.resolve)
    readings = []
    for reader, read in LANGUAGE_READERS.items():
        if mine := files.get(reader):
            by_path = {printable(file.path): file for file in mine}
            readings.append(with_owners(read(mine), by_path, owners))
    return readings


def _by_reader(
    found: Sequence[Found], diff_ids: Sequence[str]
) -> dict[Reader, tuple[ImageFile, ...]]:
    grouped: dict[Reader, list[ImageFile]] = {}
    for item in found:
        entry = item.node.entry
        content, problem = _content(item)
        file = ImageFile(
            path=item.path,
            real=item.real,
            content=content,
            layer=item.node.layer,
            diff_id=diff_ids[item.node.layer],
            problem=problem,
            sums=entry.sums,
        )
        grouped.setdefault(item.interest.reader, []).append(file)
    return {reader: tuple(files) for reader, files in grouped.items()}


def _content(item: Found) -> tuple[bytes, str]:
    """Return the condensed content and the problem of a file.

    A layer condenses by the name that the file has in its archive; where only a link gives it the
    telling name, that is still to be done.
    """
    entry, interest = item.node.entry, item.interest
    if entry.content is None or entry.program is not None or interest_in(entry.path) is interest:
        return entry.content or b"", entry.problem
    try:
        return condensed(entry.content, interest), entry.problem
    except IntegrityError as error:
        return b"", error.message


def _distribution(tree: ImageTree, files: Sequence[ImageFile]) -> Distribution | None:
    by_path = {file.real: file for file in files}
    for path in _OS_RELEASE:
        file = by_path.get(tree.resolve(path))
        found = parse_os_release(file.content) if file is not None else None
        if found is not None:
            return found
    return None
