"""Joins the ignore file and the walk of a build context."""

from pathlib import Path

from ci_registry.dockerfile.ignore import IgnoreMatcher, ignore_file_for, read_patterns
from ci_registry.errors import SetupError, StorageError
from ci_registry.files import read_file
from ci_registry.source.hash import hash_entries
from ci_registry.source.pack import pack_entries
from ci_registry.source.walk import ContextEntry, context_files

MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024


def ignore_matcher(context: Path, dockerfile: Path) -> tuple[IgnoreMatcher, Path | None]:
    """Return the matcher of the one ignore file that counts, and that file.

    Raises:
        BuildError: a pattern is malformed.
        SetupError: the file can't be read.
    """
    path = ignore_file_for(dockerfile, context, Path.is_file)
    if path is None:
        return IgnoreMatcher(()), None
    text = _read(path).decode(errors="surrogateescape")
    return IgnoreMatcher(read_patterns(text, file=str(path)), file=str(path)), path


def context_entries(context: Path, dockerfile: Path) -> tuple[ContextEntry, ...]:
    """List what is left of a context after its ignore file.

    Raises:
        BuildError: an ignore pattern is malformed.
        SetupError: see `source.walk.context_files`.
    """
    matcher, _ = ignore_matcher(context, dockerfile)
    return context_files(context, matcher.matches_with_parents, matcher.must_walk)


def hash_context(context: Path, dockerfile: Path) -> str:
    """Return the sha256, hexadecimal, of everything that a build of `dockerfile` may read.

    That is the context after its ignore file, the Dockerfile, and the ignore file itself; the two
    may lie outside the context.

    Raises:
        BuildError: an ignore pattern is malformed.
        SetupError: something can't be read.
    """
    matcher, ignore_file = ignore_matcher(context, dockerfile)
    entries = context_files(context, matcher.matches_with_parents, matcher.must_walk)
    extra = [("dockerfile", _read(dockerfile))]
    if ignore_file is not None:
        extra.append(("ignore file", _read(ignore_file)))
    return hash_entries(context, entries, extra)


def pack_context(context: Path, dockerfile: Path, target: Path) -> None:
    """Write a plain tar of what is left of a context to `target`, for engines that are sent one.

    Raises:
        BuildError: an ignore pattern is malformed.
        SetupError: something can't be read.
        StorageError: the tar can't be written.
    """
    pack_entries(context, context_entries(context, dockerfile), target)


def _read(path: Path) -> bytes:
    try:
        return read_file(path, max_bytes=MAX_DOCKERFILE_BYTES)
    except StorageError as error:
        raise SetupError(error.message, hint="check the path and its permissions") from error
