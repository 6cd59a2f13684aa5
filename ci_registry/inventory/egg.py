"""Takes the metadata out of a zipped Python egg while its layer is read."""

from collections.abc import Iterator

from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import UnreadableError
from ci_registry.inventory.spool import spooled
from ci_registry.inventory.zip_archive import ZipArchive

_MOST_ENTRIES = 100_000
_METADATA_BYTES = 4 * MIB
_METADATA = "EGG-INFO/PKG-INFO"


def sift_egg(pieces: Iterator[bytes], size: int) -> bytes:
    """Return the `PKG-INFO` of an egg.

    Raises:
        UnreadableError: it is no zip archive, damaged, or without metadata.
        StorageError: no space for the temporary file.
    """
    with spooled(pieces) as file:
        zipped = ZipArchive(file, 0, size, most_entries=_MOST_ENTRIES)
        for member in zipped.members():
            if member.name == _METADATA:
                return zipped.read(member, most_bytes=_METADATA_BYTES)
    raise UnreadableError(f"a Python egg without {_METADATA}")
