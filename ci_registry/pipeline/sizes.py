"""Remembers how large each image was, so that preflight knows how much space a build wants."""

from ci_registry.cache import DiskCache

_KIND = "sizes"


def last_size(cache: DiskCache, image: str) -> int:
    """Return the bytes of the image's layout the last time, 0 when unknown."""
    text = (cache.get(_KIND, image, max_bytes=64) or b"").decode(errors="replace")
    return int(text) if text.isdecimal() else 0


def remember_size(cache: DiskCache, image: str, size_bytes: int) -> None:
    """Store the size; a cache that can't be written is no reason to fail a run."""
    if last_size(cache, image) != size_bytes:
        cache.put(_KIND, image, str(size_bytes).encode())
