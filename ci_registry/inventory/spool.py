"""Holds a file of a layer for those who must read it from its end: in memory, or nameless on disk."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from ci_registry.files import storage_error
from ci_registry.inventory.limits import MIB

IN_MEMORY_BYTES = 8 * MIB
"""Larger files go to a temporary file without a name: it is gone with this process, however that ends."""


@contextmanager
def spooled(pieces: Iterator[bytes]) -> Iterator[BinaryIO]:
    """Yield a file, open for reading anywhere, with the content of all pieces.

    Raises:
        StorageError: no space for it in the folder for temporary files.
    """
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
        for piece in pieces:
            try:
                file.write(piece)
            except OSError as error:
                raise storage_error(error, tempfile.gettempdir(), "write to") from error
        yield cast("BinaryIO", file)
