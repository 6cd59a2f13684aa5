"""Keeps trivy's own results of layers, so that a base image that it has read once is not read again.

Trivy believes the diff id that a config claims: a result stored for a swapped layer would clear the
genuine one too. So results come only from runs whose layers were all verified before trivy saw them,
are shared only between runs of equal trust (the tree of the cache) and of the very same program, and
each run works on a copy of its own.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ci_registry.cache import DiskCache
from ci_registry.errors import StorageError
from ci_registry.files import read_file, storage_error
from ci_registry.scanners.one_image import OneImage

MAX_RESULTS_BYTES = 64 << 20
MOST_GROWN_BYTES = 16 << 20
"""Results of this size are not added to: the next base image starts a new file."""
SMALLEST_LAYER_BYTES = 1 << 20
"""Smaller layers are read again each time; they are not worth writing the results."""
_KIND = "trivy-layers"
_FILE = "fanal/fanal.db"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResults:
    """What is kept: trivy's file, and the layers that it holds results of."""

    diff_ids: frozenset[str]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResults:
    """Results of one release of trivy in the cache."""

    cache: DiskCache
    sha256: str
    """Of the program."""

    def read(self) -> KeptResults | None:
        """Return what is kept; None when there is nothing, or it is damaged."""
        body = self.cache.get(_KIND, self.sha256, max_bytes=MAX_RESULTS_BYTES)
        if body is None:
            return None
        end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "big")
        try:
            diff_ids = frozenset(json.loads(body[_LENGTH_BYTES:end]))
        except (ValueError, TypeError):
            return None
        return KeptResults(diff_ids=diff_ids, content=body[end:])

    def keep(self, before: KeptResults | None, image: OneImage, folder: Path) -> None:
        """Keep the results of a private cache folder, when a large layer was new in this run."""
        layers = zip(image.diff_ids, image.layer_sizes, strict=True)
        large = {diff_id for diff_id, size in layers if size >= SMALLEST_LAYER_BYTES}
        known = before.diff_ids if before is not None else frozenset()
        if large <= known:
            return
        try:
            content = read_file(folder / _FILE, max_bytes=MAX_RESULTS_BYTES // 2)
        except StorageError:
            return  # not written, or larger than what is worth reading at each start
        head = json.dumps(sorted(known | large)).encode()
        self.cache.put(
            _KIND, self.sha256, len(head).to_bytes(_LENGTH_BYTES, "big") + head + content
        )


def place_results(kept: KeptResults | None, image: OneImage, folder: Path) -> KeptResults | None:
    """Copy kept results into a private cache folder; returns what was copied.

    A file that has grown large is left out when it holds nothing of this image.

    Raises:
        StorageError: the folder can't be written.
    """
    if kept is None:
        return None
    if len(kept.content) > MOST_GROWN_BYTES and not kept.diff_ids & set(image.diff_ids):
        return None
    path = folder / _FILE
    try:
        path.parent.mkdir(mode=0o700)
        path.write_bytes(kept.content)
    except OSError as error:
        raise storage_error(error, path, "write") from error
    return kept
