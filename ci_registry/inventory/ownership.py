"""Finds which language packages belong to an OS package, so that they are not matched a second time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    owner: str
    layer: int
    md5: str = ""


def package_of_list(path: str) -> str:
    """Return the package that a file list is about: `info/python3-pip:all.list` is `python3-pip`."""
    return path.rpartition("/")[2].rpartition(".")[0].partition(":")[0]


def with_owners(
    packages: Sequence[Package],
    foreign_owners: frozenset[str],
    files: dict[str, ImageFile],
    lists: Sequence[ImageFile],
    resolve: Callable[[str], str],
) -> tuple[Package, ...]:
    """Return the language packages with the OS package that owns them.

    A file counts as owned when an OS package lists it and it is still the file that the package
    brought: not written again by a later layer, and with the checksum that dpkg knows, if it does.

    Args:
        packages: language packages.
        foreign_owners: OS packages that the distribution did not make: no advisory of the distribution
            speaks for what is in them, so they own nothing.
        files: the file that each was read from, by `Package.path`.
        lists: dpkg's `*.list` and `*.md5sums` files, condensed to files of language packages.
        resolve: returns the real path behind one that a file list names (`/lib` may be a link).
    """
    claims: dict[str, _Claim] = {}
    for file in sorted(lists, key=lambda f: f.path):
        owner = package_of_list(file.path)
        if owner in foreign_owners:
            continue
        sums = file.path.endswith(".md5sums")
        for line in file.content.decode("utf-8", "surrogateescape").splitlines():
            md5, path = line.split(None, 1) if sums and " " in line else ("", line)
            claim = _Claim(owner=owner, layer=file.layer, md5=md5)
            claims[resolve(path.strip().lstrip("./"))] = claim
    return tuple(_owned(package, _file_of(package, files), claims) for package in packages)


def _file_of(package: Package, files: dict[str, ImageFile]) -> ImageFile:
    """Return the file that a package was read from; the archive, for something inside one."""
    found = files.get(package.path)
    return found if found is not None else files[package.path.partition("!/")[0]]


def _owned(package: Package, file: ImageFile, claims: dict[str, _Claim]) -> Package:
    claim = claims.get(file.real)
    if claim is None or file.layer > claim.layer:
        return package
    if claim.md5 and claim.md5 != file.md5:
        return package
    return replace(package, owner=claim.owner)
