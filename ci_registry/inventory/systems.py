"""Reads the package databases of the image's own operating system, and names those of others."""

from collections.abc import Mapping, Sequence

from ci_registry.findings import Distribution, UnreadDatabase
from ci_registry.inventory.dpkg import read_dpkg
from ci_registry.inventory.interest import Reader
from ci_registry.inventory.layers import ImageTree
from ci_registry.inventory.ownership import package_of_list
from ci_registry.inventory.reading import ImageFile, Reading, printable

_DPKG = "var/lib/dpkg"

FilesOf = Mapping[Reader, Sequence[ImageFile]]


def read_systems(tree: ImageTree, files: FilesOf, distribution: Distribution | None) -> Reading:
    """Return the system packages of the image, and the databases that could not be read.

    A database anywhere else than at its own place belongs to another file system inside the image.
    """
    return _debian(tree, files, distribution)


def _debian(tree: ImageTree, files: FilesOf, distribution: Distribution | None) -> Reading:
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
    reading = read_dpkg(own, distribution, listed)
    return Reading(packages=reading.packages, unread=(*reading.unread, *foreign))
