"""Content digests: `algorithm:hex`, sha256 or sha512."""

import hashlib
import re
from typing import Protocol, Self

from ci_registry.errors import IntegrityError

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """A validated content digest; it is a `str`, so it goes into JSON and URLs as it is."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Validate `text`; raises `IntegrityError` for anything but lower-case sha256 or sha512."""
        if not _PATTERN.fullmatch(text):
            raise IntegrityError(f"not a content digest: {text[:140]!r}")
        return super().__new__(cls, text)

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The lower-case hexadecimal part."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The first twelve hexadecimal digits, for people."""
        return self.hex[:12]


class Hash(Protocol):
    """What we use of a `hashlib` object."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest so far."""


class Hasher:
    """Hashes a stream and counts its bytes."""

    __slots__ = ("_algorithm", "_hash", "size_bytes")

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hash: Hash = hashlib.new(algorithm)
        self.size_bytes = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        self._hash.update(data)
        self.size_bytes += len(data)

    @property
    def digest(self) -> Digest:
        """The digest of everything added so far."""
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of `data`."""
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def is_digest(text: str) -> bool:
    """Whether `text` is a digest that we accept."""
    return _PATTERN.fullmatch(text) is not None
