"""Finds which language packages belong to an OS package, so that they are not matched a second time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ci_registry.findings import UnreadDatabase
from ci_registry.inventory.reading import ImageFile, Reading


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of a file list: an OS package says that it brought a file."""

    path: str
    """As the package names it, without leading slash; `/lib` may be a link."""
    owner: str
    """Name of the OS package."""
    layer: int
    """Number of the layer that last wrote the list."""
    algorithm: str = ""
    """`md5`, `sha1` or `sha256`; empty without a checksum that we can compare."""
    checksum: str = ""
    """In hexadecimal digits."""


def package_of_list(path: str) -> str:
    """Return the package that a file list is about: `info/python3-pip:all.list` is `python3-pip`."""
    return path.rpartition("/")[2].rpartition(".")[0].partition(":")[0]


def dpkg_claims(lists: Sequence[ImageFile]) -> Iterator[Claim]:
    """Yield what dpkg's `*.list` and `*.md5sums` files say, the sums of a package behind its list."""
    for file in sorted(lists, key=lambda f: f.path):
        owner = package_of_list(file.path)
        sums = file.path.endswith(".md5sums")
        for line in file.content.decode("utf-8", "surrogateescape").splitlines():
            md5, path = line.split(None, 1) if sums and " " in line else ("", line)
            path = path.strip().lstrip("./")
            yield Claim(path, owner, file.layer, "md5" if md5 else "", md5)


class Owners:
    """Knows which OS package a file belongs to.

    A file counts as owned when an OS package lists it and it is still the file that the package
    brought: not written again by a layer above the list, and with the checksum that the list knows.
    """

    def __init__(
        self,
        claims: Iterable[Claim],
        foreign_owners: frozenset[str],
        resolve: Callable[[str], str],
    ) -> None:
        """Take the claims; of several about one file the last counts.

        Args:
            claims: of the image's own package database.
            foreign_owners: OS packages that the distribution did not make: no advisory of the
                distribution speaks for what is in them, so they own nothing.
            resolve: returns the real path behind one that may lead through links.
        """
        folders: dict[str, str] = {}
        self._claims: dict[str, Claim] = {}
        for claim in claims:
            if claim.owner in foreign_owners:
                continue
            folder, slash, name = claim.path.rpartition("/")
            if folder not in folders:
                folders[folder] = resolve(folder) if slash else ""
            real = folders[folder]
            self._claims[f"{real}/{name}" if real else name] = claim

    def of(self, file: ImageFile) -> str:
        """Return the name of the OS package that brought the file; empty when none did."""
        claim = self._claims.get(file.real)
        if claim is None or file.layer > claim.layer:
            return ""
        if claim.algorithm and claim.checksum != file.sum_of(claim.algorithm):
            return ""
        return claim.owner


def with_owners(reading: Reading, files: Mapping[str, ImageFile], owners: Owners) -> Reading:
    """Return language packages with the OS package that owns them.

    What could not be read and is owned is left out: the advisories of the OS package speak for it.

    Args:
        reading: of a reader of language packages.
        files: the file that each was read from, by `Package.path`.
        owners: knows whose a file is.
    """
    packages = tuple(
        replace(package, owner=owner)
        if (owner := owners.of(_file_at(package.path, files)))
        else package
        for package in reading.packages
    )
    unread = tuple(record for record in reading.unread if not _is_owned(record, files, owners))
    return Reading(packages=packages, unread=unread)


def _file_at(path: str, files: Mapping[str, ImageFile]) -> ImageFile:
    """Return the file that a package was read from; the archive, for something inside one."""
    found = files.get(path)
    return found if found is not None else files[path.partition("!/")[0]]


def _is_owned(record: UnreadDatabase, files: Mapping[str, ImageFile], owners: Owners) -> bool:
    path = record.path if record.path in files else record.path.partition("!/")[0]
    return path in files and bool(owners.of(files[path]))
