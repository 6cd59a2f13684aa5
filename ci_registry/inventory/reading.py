"""What package readers get and give: files as they finally are, packages and unread databases."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package, UnreadDatabase


class UnreadableError(IntegrityError):
    """A file of interest is not what its name says; the message becomes the problem of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One file of interest with its content."""

    path: str
    """Path in the image, without leading slash."""
    real: str
    """The same without symbolic links."""
    content: bytes
    """Condensed by its `Interest`."""
    layer: int
    """Number of the layer that put it there, from 0."""
    diff_id: str
    problem: str = ""
    """Why the content could not be kept; then it is empty."""
    sums: tuple[tuple[str, str], ...] = ()
    """(algorithm, hexadecimal digits) of the whole file; package managers know their files by one of
    them. Empty when the file was not kept."""

    def sum_of(self, algorithm: str) -> str:
        """Return the checksum of the whole file; empty when it was not taken."""
        return dict(self.sums).get(algorithm, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a reader got out of its files."""

    packages: tuple[Package, ...] = ()
    unread: tuple[UnreadDatabase, ...] = ()


def printable(path: str) -> str:
    """Return a path that can be written as UTF-8: other bytes become hexadecimal escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def purl_part(text: str) -> str:
    """Percent-encode one component of a purl; a colon stays, as the specification says."""
    return quote(text, safe=":")


def read_each(
    kind: str, files: Sequence[ImageFile], packages_of: Callable[[ImageFile], Iterable[Package]]
) -> Reading:
    """Return the packages of each file, once; a file that can't be read is named with the reason.

    Args:
        kind: the purl type.
        files: in the order in which packages are returned.
        packages_of: raises `IntegrityError` where a file is malformed; what stands before that counts.
    """
    packages: list[Package] = []
    problems = []
    for file in files:
        try:
            if file.problem:
                raise IntegrityError(file.problem)
            packages.extend(packages_of(file))
        except IntegrityError as error:
            problems.append(unread(kind, file, error.message))
    return Reading(packages=tuple(dict.fromkeys(packages)), unread=tuple(problems))


def unread(kind: str, file: ImageFile, reason: str) -> UnreadDatabase:
    """Return the record of a package database that could not be read."""
    return UnreadDatabase(kind=kind, path=printable(file.path), reason=reason)
