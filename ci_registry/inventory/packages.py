"""Turns the merged files of a platform image into its inventory."""

from collections.abc import Sequence
from dataclasses import dataclass

from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.dpkg import read_dpkg
from ci_registry.inventory.embedded_sbom import read_embedded_sboms
from ci_registry.inventory.interest import Reader
from ci_registry.inventory.layers import Found, ImageTree
from ci_registry.inventory.node import read_node
from ci_registry.inventory.os_release import parse_os_release
from ci_registry.inventory.ownership import package_of_list, with_owners
from ci_registry.inventory.python import read_python
from ci_registry.inventory.reading import ImageFile, Reading, printable
from ci_registry.inventory.unread import unread_databases

_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_DPKG = "var/lib/dpkg"


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
    debian, foreign = _debian(tree, files, distribution)
    languages = (
        read_python(files.get(Reader.PYTHON, ()), files.get(Reader.PYTHON_RECORD, ())),
        read_node(files.get(Reader.NODE, ())),
        read_embedded_sboms(files.get(Reader.SBOM, ())),
    )
    sources = {
        printable(f.path): f
        for reader in (Reader.PYTHON, Reader.NODE, Reader.SBOM)
        for f in files.get(reader, ())
    }
    owned = with_owners(
        [package for reading in languages for package in reading.packages],
        frozenset(p.name for p in debian.packages if p.third_party),
        sources,
        files.get(Reader.DPKG_FILES, ()),
        tree.resolve,
    )
    packages = sorted(
        {*debian.packages, *owned}, key=lambda p: (p.ecosystem, p.name, p.version, p.path, p.purl)
    )
    readings = (debian, *languages)
    damaged = tuple(record for reading in readings for record in reading.unread)
    return Contents(
        distribution=distribution,
        packages=tuple(packages),
        unread=(*damaged, *foreign, *unread_databases(found)),
    )


def _by_reader(
    found: Sequence[Found], diff_ids: Sequence[str]
) -> dict[Reader, tuple[ImageFile, ...]]:
    grouped: dict[Reader, list[ImageFile]] = {}
    for item in found:
        entry = item.node.entry
        file = ImageFile(
            path=item.path,
            real=item.real,
            content=entry.content or b"",
            layer=item.node.layer,
            diff_id=diff_ids[item.node.layer],
            problem=entry.problem,
            md5=entry.md5,
        )
        grouped.setdefault(item.interest.reader, []).append(file)
    return {reader: tuple(files) for reader, files in grouped.items()}


def _distribution(tree: ImageTree, files: Sequence[ImageFile]) -> Distribution | None:
    by_path = {file.real: file for file in files}
    for path in _OS_RELEASE:
        file = by_path.get(tree.resolve(path))
        found = parse_os_release(file.content) if file is not None else None
        if found is not None:
            return found
    return None


def _debian(
    tree: ImageTree, files: dict[Reader, tuple[ImageFile, ...]], distribution: Distribution | None
) -> tuple[Reading, tuple[UnreadDatabase, ...]]:
    """Return the dpkg packages of the image, and other dpkg databases that lie in it."""
    status, folder, info = (
        tree.resolve(f"{_DPKG}/{name}") for name in ("status", "status.d", "info")
    )
    own, foreign = [], []
    for file in files.get(Reader.DPKG_STATUS, ()):
        if file.real == status or file.real.startswith(f"{folder}/"):
            own.append(file)
        elif file.content or file.problem:
            reason = "dpkg database of another file system inside the image"
            foreign.append(UnreadDatabase(kind="deb", path=printable(file.path), reason=reason))
    listed = frozenset(
        package_of_list(file.path)
        for file in files.get(Reader.DPKG_FILES, ())
        if file.real.startswith(f"{info}/") and file.path.endswith(".list")
    )
    return read_dpkg(own, distribution, listed), tuple(foreign)
