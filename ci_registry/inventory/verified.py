"""Streams blobs and proves while they pass that they have the digest and size that they claim."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import cast

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor

OpenBlob = Callable[[Digest], Iterator[bytes]]
"""Yields the raw bytes of a blob in pieces."""
OnBytes = Callable[[int], None]
"""Told how many bytes of a blob have passed."""


class VerifiedBlob:
    """The bytes of one blob; iterate to the end (or `drain`), then digest and size are proven."""

    def __init__(
        self,
        descriptor: Descriptor,
        pieces: Iterator[bytes],
        *,
        cancel: Cancel,
        what: str,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """`what` names the blob in errors, for example `layer 2 of linux/amd64`."""
        self._descriptor = descriptor
        self._pieces = pieces
        self._hasher = Hasher(descriptor.digest.algorithm)
        self._cancel = cancel
        self._what = what
        self._on_bytes = on_bytes

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._cancel.check()
            self._hasher.update(piece)
            if self._hasher.size_bytes > self._descriptor.size:
                raise IntegrityError(
                    f"{self._name}: has more than the {self._descriptor.size} bytes that its manifest says"
                )
            if self._on_bytes is not None:
                self._on_bytes(self._hasher.size_bytes)
            yield piece

    @property
    def _name(self) -> str:
        return f"{self._what} ({self._descriptor.digest})"

    def drain(self) -> None:
        """Read what is left and compare size and digest.

        Raises:
            IntegrityError: the blob is not what its descriptor says.
        """
        for _piece in self:
            pass
        if self._hasher.size_bytes != self._descriptor.size:
            raise IntegrityError(
                f"{self._name}: has {self._hasher.size_bytes} bytes,"
                f" its manifest says {self._descriptor.size}",
                hint="the blob is cut short or was replaced; build or pull the image again",
            )
        if self._hasher.digest != self._descriptor.digest:
            raise IntegrityError(
                f"{self._name}: the bytes have the digest {self._hasher.digest}",
                hint="the blob was replaced or damaged; build or pull the image again",
            )


def opened(open_blob: OpenBlob, digest: Digest) -> "closing[Generator[bytes, None, None]]":
    """Open a blob as a context manager that frees its file or connection at the end."""

    def pieces() -> Generator[bytes, None, None]:
        source = open_blob(digest)
        try:
            yield from source
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                cast(Callable[[], None], close)()

    return closing(pieces())


def verify_blob(
    descriptor: Descriptor,
    open_blob: OpenBlob,
    *,
    cancel: Cancel,
    what: str,
    on_bytes: OnBytes | None = None,
) -> None:
    """Read a blob whose content does not matter to us and prove digest and size.

    Raises:
        IntegrityError: it is not what its descriptor says.
    """
    with opened(open_blob, descriptor.digest) as pieces:
        VerifiedBlob(descriptor, pieces, cancel=cancel, what=what, on_bytes=on_bytes).drain()
