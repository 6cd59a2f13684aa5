"""Takes the checksums of a file that package managers know their files by."""

import hashlib

_ALGORITHMS = ("md5", "sha1", "sha256")
"""dpkg has MD5, apk SHA-1, rpm SHA-256 and, before rpm 4.6, MD5."""


class Sums:
    """Takes all of them at once."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._hashers = [hashlib.new(name, usedforsecurity=False) for name in _ALGORITHMS]

    def update(self, data: bytes) -> None:
        """Take in the next bytes."""
        for hasher in self._hashers:
            hasher.update(data)

    def taken(self) -> tuple[tuple[str, str], ...]:
        """Return (algorithm, hexadecimal digits) of all bytes so far."""
        return tuple((hasher.name, hasher.hexdigest()) for hasher in self._hashers)
