"""Fetched advisory databases on disk: one folder per digest, and for each reference what it was last.

Each kind of database (`osv`, `trivy`) has a tree for change requests and one for trusted runs. A run
writes its own tree only, and reads nothing that a run of less trust wrote.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ci_registry.errors import IntegrityError, StorageError
from ci_registry.files import (
    locked,
    read_file,
    remove_tree,
    storage_error,
    sync_folder,
    write_atomic,
)
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference
from ci_registry.strict import as_object, as_text, parse_json

_KEPT = 2
"""They have hundreds of megabytes; the last but one may be in use by another run."""
_MAX_POINTER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What a reference was when it was last fetched."""

    reference: str
    digest: Digest
    """Of the manifest."""
    vouched_by: str
    """Fingerprint of the key that signed it, `digest` when the reference names it, empty for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisoryCache:
    """The trees of one kind of database."""

    own: Path
    """The tree that this run may write."""
    trusted: Path
    """The tree of trusted runs; the same as `own` in one of those."""

    def entry(self, digest: Digest, file: str) -> Path | None:
        """Return the folder of a database that is complete: `file`, which comes last, is in it."""
        for tree in (self.trusted, self.own):
            if (tree / digest.hex / file).is_file():
                return tree / digest.hex
        return None

    @contextlib.contextmanager
    def adding(self, digest: Digest, file: str) -> Iterator[Path]:
        """Hold the tree's lock and give an empty folder, which becomes the entry at the end.

        Gives the finished entry when another run has added it meanwhile. A run that dies inside
        leaves no entry; what it left is removed by the next one.

        Raises:
            StorageError: the tree can't be written.
        """
        target = self.own / digest.hex
        with locked(self.own / ".lock"):
            if (target / file).is_file():
                yield target
                return
            try:
                for left_over in self.own.glob(".new-*"):
                    remove_tree(left_over)
                remove_tree(target)
                fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.own))
                try:
                    yield fresh
                    sync_folder(fresh)
                    fresh.rename(target)
                    sync_folder(self.own)
                finally:
                    remove_tree(fresh)
            except OSError as error:
                raise storage_error(error, self.own, "store a database in") from error
            self._remove_old(keep=target)

    def drop(self, digest: Digest) -> None:
        """Remove a database that turned out to be damaged; one of the other tree is left alone."""
        with locked(self.own / ".lock"):
            remove_tree(self.own / digest.hex)

    def _remove_old(self, keep: Path) -> None:
        found = [path for path in self.own.iterdir() if path.is_dir() and len(path.name) == 64]
        found.sort(key=lambda path: (path == keep, path.stat().st_mtime), reverse=True)
        for folder in found[_KEPT:]:
            remove_tree(folder)

    def remember(self, pointer: Pointer) -> None:
        """Note what a reference is now; written last, when its database is there."""
        document = {
            "reference": pointer.reference,
            "digest": str(pointer.digest),
            "vouched_by": pointer.vouched_by,
        }
        write_atomic(self._pointer_file(self.own, pointer.reference), json.dumps(document))

    def pointers(self, references: tuple[Reference, ...]) -> Iterator[Pointer]:
        """Yield what these references were when last fetched; without any, all, the newest first."""
        for tree in dict.fromkeys((self.own, self.trusted)):
            files = [self._pointer_file(tree, str(reference)) for reference in references]
            if not references:
                found = (tree / "refs").glob("*.json")
                files = sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
            for file in files:
                pointer = _read_pointer(file)
                if pointer is not None:
                    yield pointer

    @staticmethod
    def _pointer_file(tree: Path, reference: str) -> Path:
        return tree / "refs" / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"


def _read_pointer(file: Path) -> Pointer | None:
    """Read a note; one that is damaged or gone is as good as none."""
    try:
        what = str(file)
        data = read_file(file, max_bytes=_MAX_POINTER_BYTES)
        document = as_object(parse_json(data, what=what), what=what)
        return Pointer(
            reference=as_text(document.get("reference"), what=what),
            digest=Digest(as_text(document.get("digest"), what=what)),
            vouched_by=as_text(document.get("vouched_by"), what=what),
        )
    except (StorageError, IntegrityError):
        return None
