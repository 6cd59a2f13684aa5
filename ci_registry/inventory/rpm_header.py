"""Reads the header of an installed RPM, as it stands in the package database, strictly and bounded."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import UnreadableError

MAX_HEADER_BYTES = 64 * MIB
_MOST_TAGS = 65_535
_MOST_FILES = 1_000_000
_MOST_PATHS_BYTES = 64 * MIB
_ENTRY = struct.Struct(">IIiI")
_INT16, _INT32, _STRING, _STRING_ARRAY, _I18N_STRING = 3, 4, 6, 8, 9
_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH = 1000, 1001, 1002, 1003, 1011, 1022
_FILE_DIGESTS, _SOURCE_RPM, _OLD_FILE_NAMES = 1035, 1044, 1027
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1116, 1117, 1118
_DIGEST_ALGORITHM, _MODULARITY_LABEL = 5011, 5096
_WANTED = frozenset(
    {_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _ARCH, _FILE_DIGESTS, _SOURCE_RPM, _OLD_FILE_NAMES}
    | {_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES, _DIGEST_ALGORITHM, _MODULARITY_LABEL}
)
_ALGORITHMS = {1: "md5", 2: "sha1", 8: "sha256"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RpmHeader:
    """What we need of one header."""

    name: str
    version: str
    release: str
    epoch: int = 0
    architecture: str = ""
    vendor: str = ""
    source_rpm: str = ""
    modularity_label: str = ""
    digest_algorithm: str = ""
    """`md5`, `sha1`, `sha256`, or empty for one that we can't compare."""
    files: tuple[tuple[str, str], ...] = ()
    """(path with a leading slash, digest in hexadecimal digits; empty for what is no regular file)."""


class _Values:
    """The wanted tags of one header, decoded on demand."""

    def __init__(self, tags: Mapping[int, tuple[int, int, int]], data: bytes) -> None:
        self._tags = tags
        self._data = data

    def __contains__(self, tag: int) -> bool:
        return tag in self._tags

    def text(self, tag: int) -> str:
        """Return a string; empty when it is not there."""
        return next(iter(self.texts(tag)), "")

    def texts(self, tag: int) -> Sequence[str]:
        kind, offset, count = self._tags.get(tag, (_STRING_ARRAY, 0, 0))
        if kind not in (_STRING, _STRING_ARRAY, _I18N_STRING):
            raise UnreadableError(f"rpm header: tag {tag} is no text")
        if count > _MOST_FILES:
            raise UnreadableError(f"rpm header: {count} values of tag {tag}")
        found = []
        for _ in range(1 if kind == _STRING else count):
            end = self._data.find(b"\0", offset)
            if end < 0:
                raise UnreadableError(f"rpm header: a text of tag {tag} has no end")
            found.append(self._data[offset:end].decode("utf-8", "surrogateescape"))
            offset = end + 1
        return found

    def numbers(self, tag: int) -> Sequence[int]:
        kind, offset, count = self._tags.get(tag, (_INT32, 0, 0))
        if kind not in (_INT16, _INT32):
            raise UnreadableError(f"rpm header: tag {tag} is no number")
        size = 2 if kind == _INT16 else 4
        if offset + size * count > len(self._data):
            raise UnreadableError(f"rpm header: tag {tag} leads out of it")
        return struct.unpack_from(f">{count}{'H' if kind == _INT16 else 'I'}", self._data, offset)


def parse_rpm_header(blob: bytes) -> RpmHeader:
    """Read a header as it stands in the database: without the magic that files have in front.

    Raises:
        UnreadableError: damaged, cut short, or larger than any honest header.
    """
    values = _values(blob)
    name = values.text(_NAME)
    if not name:
        raise UnreadableError("rpm header: no name")
    digests = values.texts(_FILE_DIGESTS)
    algorithm = next(iter(values.numbers(_DIGEST_ALGORITHM)), 1)
    return RpmHeader(
        name=name,
        version=values.text(_VERSION),
        release=values.text(_RELEASE),
        epoch=next(iter(values.numbers(_EPOCH)), 0),
        architecture=values.text(_ARCH),
        vendor=values.text(_VENDOR),
        source_rpm=values.text(_SOURCE_RPM),
        modularity_label=values.text(_MODULARITY_LABEL),
        digest_algorithm=_ALGORITHMS.get(algorithm, ""),
        files=_files(values, digests),
    )


def _values(blob: bytes) -> _Values:
    if len(blob) < 8 or len(blob) > MAX_HEADER_BYTES:
        raise UnreadableError(f"rpm header: {len(blob)} bytes")
    tags_count, data_size = struct.unpack_from(">II", blob)
    start = 8 + tags_count * _ENTRY.size
    if tags_count > _MOST_TAGS or start + data_size > len(blob):
        raise UnreadableError("rpm header: cut short, or its counts are wrong")
    data = blob[start : start + data_size]
    tags: dict[int, tuple[int, int, int]] = {}
    for tag, kind, offset, count in _ENTRY.iter_unpack(blob[8:start]):
        if tag not in _WANTED or tag in tags:
            continue
        if offset < 0 or offset > data_size or count == 0:
            raise UnreadableError(f"rpm header: tag {tag} leads out of it")
        tags[tag] = (kind, offset, count)
    return _Values(tags, data)


def _files(values: _Values, digests: Sequence[str]) -> tuple[tuple[str, str], ...]:
    if _BASE_NAMES in values:
        names = values.texts(_BASE_NAMES)
        folders, indexes = values.texts(_DIR_NAMES), values.numbers(_DIR_INDEXES)
        if len(indexes) != len(names) or (indexes and max(indexes) >= len(folders)):
            raise UnreadableError("rpm header: its lists of files don't fit each other")
        if sum(len(folders[at]) for at in indexes) > _MOST_PATHS_BYTES:
            raise UnreadableError("rpm header: its paths are too long")
        paths = [folders[at] + name for at, name in zip(indexes, names, strict=True)]
    else:
        paths = list(values.texts(_OLD_FILE_NAMES))
    if digests and len(digests) != len(paths):
        raise UnreadableError("rpm header: its lists of files don't fit each other")
    return tuple(zip(paths, digests, strict=True)) if digests else ()
