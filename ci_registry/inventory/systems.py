"""Reads the package databases of the image's own operating system, and names those of others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ci_registry.findings import Distribution, Package, UnreadDatabase
from ci_registry.inventory.apk import read_apk
from ci_registry.inventory.dpkg import read_dpkg
from ci_registry.inventory.interest import Reader
from ci_registry.inventory.layers import ImageTree
from ci_registry.inventory.ownership import Claim, dpkg_claims, package_of_list
from ci_registry.inventory.reading import ImageFile, unread
from ci_registry.inventory.rpm import RPM_FILES, read_rpm

FilesOf = Mapping[Reader, Sequence[ImageFile]]
_DPKG = "var/lib/dpkg"
_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_RPM = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemReading:
    """The system packages of an image."""

    packages: tuple[Package, ...] = ()
    unread: tuple[UnreadDatabase, ...] = ()
    claims: tuple[Claim, ...] = ()
    """Which files they say they brought, those that can carry language packages."""


def read_systems(
    tree: ImageTree, files: FilesOf, distribution: Distribution | None
) -> SystemReading:
    """Return the system packages of the image, and the databases that could not be read.

    A database anywhere else than at its own place belongs to another file system inside the image.
    """
    parts = [read(tree, files, distribution) for read in _SYSTEMS]
    return SystemReading(
        packages=tuple(package for part in parts for package in part.packages),
        unread=tuple(record for part in parts for record in part.unread),
        claims=tuple(claim for part in parts for claim in part.claims),
    )


def _own_and_foreign(
    kind: str, manager: str, files: Sequence[ImageFile], is_own: Callable[[str], bool]
) -> tuple[list[ImageFile], list[UnreadDatabase]]:
    own, foreign = [], []
    for file in files:
        if is_own(file.real):
            own.append(file)
        elif file.content or file.problem:
            reason = f"{manager} database of another file system inside the image"
            foreign.append(unread(kind, file, reason))
    return own, foreign


def _debian(tree: ImageTree, files: FilesOf, distribution: Distribution | None) -> SystemReading:
    status, folder, info = (
        tree.resolve(f"{_DPKG}/{name}") for name in ("status", "status.d", "info")
    )
    own, foreign = _own_and_foreign(
        "deb",
        "dpkg",
        files.get(Reader.DPKG_STATUS, ()),
        lambda path: path == status or path.startswith(f"{folder}/"),
    )
    lists = [
        file
        for file in files.get(Reader.DPKG_FILES, ())
        if file.real.startswith((f"{info}/", f"{folder}/"))
    ]
    listed = frozenset(package_of_list(file.path) for file in lists if file.path.endswith(".list"))
    reading = read_dpkg(own, distribution, listed)
    return SystemReading(
        packages=reading.packages,
        unread=(*reading.unread, *foreign),
        claims=tuple(dpkg_claims(lists)),
    )


def _alpine(tree: ImageTree, files: FilesOf, distribution: Distribution | None) -> SystemReading:
    places = {tree.resolve(path) for path in _APK}
    own, foreign = _own_and_foreign("apk", "apk", files.get(Reader.APK, ()), places.__contains__)
    packages, problems, claims = read_apk(own, distribution)
    return SystemReading(
        packages=tuple(packages), unread=(*problems, *foreign), claims=tuple(claims)
    )


def _red_hat(tree: ImageTree, files: FilesOf, distribution: Distribution | None) -> SystemReading:
    places = {tree.resolve(f"{folder}/{name}") for folder in _RPM for name in RPM_FILES}
    own, foreign = _own_and_foreign("rpm", "rpm", files.get(Reader.RPM, ()), places.__contains__)
    packages, problems, claims = read_rpm(own, distribution)
    return SystemReading(
        packages=tuple(packages), unread=(*problems, *foreign), claims=tuple(claims)
    )


_SYSTEMS = (_debian, _alpine, _red_hat)
