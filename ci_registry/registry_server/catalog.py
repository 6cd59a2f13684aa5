"""Which repository has which blobs, manifests, tags and referrers: one SQLite database."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable

from ci_registry.errors import StorageError
from ci_registry.oci.digest import Digest
from ci_registry.registry_server.reachability import ROOTS, Collected, collect
from ci_registry.registry_server.schema import (
    BURY,
    FORGET_LINKS,
    PUT_BLOB,
    PUT_MANIFEST,
    SCHEMA,
    SELECT,
    TOMBSTONES,
    TOUCH,
    TOUCH_TAGGED,
    UNBURY,
    VERSION,
    Kind,
    StoredManifest,
    manifest_of,
)

__all__ = ["TOUCH_STEP_S", "Catalog", "StoredManifest"]

TOUCH_STEP_S = 3600.0
"""How much newer a time must be before it is written at once; in between it is kept in memory."""


class Catalog:
    """The tables; every method is one transaction, and `lock` joins several."""

    def __init__(self, path: str, *, durable: bool = True) -> None:
        """Open or make the database at `path` (`:memory:` for none).

        Raises:
            StorageError: it can't be opened or was written by another version.
        """
        self.lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                script = f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;"
                self._db.executescript(script)
            elif version != VERSION:
                raise StorageError(f"{path} has version {version} of the format, not {VERSION}")
            self._db.execute(TOMBSTONES)
            total = self._db.execute("SELECT coalesce(sum(size), 0) FROM content").fetchone()[0]
        except sqlite3.Error as error:
            raise StorageError(f"cannot open the registry database {path}: {error}") from error
        self._used_bytes = int(total)
        self._touched: dict[tuple[str, str, Digest], float] = {}

    def close(self) -> None:
        """Write what is only in memory, and close the database."""
        with self.lock:
            try:
                self._write_touches()
            finally:
                self._db.close()

    def check(self) -> None:
        """Make sure that the database still answers."""
        self._rows("SELECT 1 FROM content LIMIT 1")

    def known(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return which of these (at most a thousand) are stored."""
        wanted = json.dumps(list(digests))
        sql = "SELECT digest FROM content WHERE digest IN (SELECT value FROM json_each(?))"
        return {Digest(row[0]) for row in self._rows(sql, wanted)}

    def _rows(self, sql: str, *values: object) -> list[tuple[str, ...]]:
        with self.lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"the registry database failed: {error}") from error

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> int:
        """Run statements in one transaction; returns the number of rows that the last one changed."""
        with self.lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                changed = 0
                for sql, values in statements:
                    changed = self._db.execute(sql, values).rowcount
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise StorageError(f"the registry database failed: {error}") from error
        return changed

    @property
    def used_bytes(self) -> int:
        """How many bytes of content are stored."""
        return self._used_bytes

    def content_size(self, digest: Digest) -> int | None:
        """Return the size of stored content, whatever repository has it."""
        rows = self._rows("SELECT size FROM content WHERE digest = ?", digest)
        return int(rows[0][0]) if rows else None

    def has_repository(self, repository: str) -> bool:
        """Whether anything was ever put there and is still there."""
        sql = (
            "SELECT 1 FROM manifests WHERE repository = ? UNION ALL "
            "SELECT 1 FROM blobs WHERE repository = ? LIMIT 1"
        )
        return bool(self._rows(sql, repository, repository))

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Return the size of a blob, None when the repository doesn't have it."""
        sql = (
            "SELECT size FROM blobs JOIN content USING (digest) WHERE repository = ? AND digest = ?"
        )
        rows = self._rows(sql, repository, digest)
        return int(rows[0][0]) if rows else None

    def touch(self, table: str, repository: str, digest: Digest, now: float) -> None:
        """Remember that somebody was told at `now` that a blob or manifest exists.

        `table` is `blobs` or `manifests`. The time survives a crash to within `TOUCH_STEP_S`; where
        it can't be written it stays in memory: a full disk must not keep anybody from reading.
        """
        with self.lock:
            sql = f"SELECT touched FROM {table} WHERE repository = ? AND digest = ?"  # noqa: S608 - ours
            rows = self._rows(sql, repository, digest)
            if not rows:
                return
            self._touched[table, repository, digest] = now
            if now - float(rows[0][0]) > TOUCH_STEP_S:
                with contextlib.suppress(StorageError):
                    self._write_touches()

    def _write_touches(self) -> None:
        statements = [
            (TOUCH[table], (now, repository, digest))
            for (table, repository, digest), now in self._touched.items()
        ]
        self._write(*statements)
        self._touched.clear()

    def add_blob(self, repository: str, digest: Digest, size: int, *, now: float = 0.0) -> None:
        """Record that a repository has a blob whose bytes are stored."""
        with self.lock:
            is_new = self.content_size(digest) is None
            self._write(
                ("INSERT OR IGNORE INTO content VALUES (?, ?)", (digest, size)),
                (PUT_BLOB, (repository, digest, now)),
                (UNBURY, (repository, Kind.BLOB, digest)),
            )
            self._used_bytes += size if is_new else 0

    def repositories_of_blob(self, digest: Digest) -> tuple[str, ...]:
        """Return the repositories that have a blob, in byte order."""
        sql = "SELECT repository FROM blobs WHERE digest = ? ORDER BY 1"
        return tuple(row[0] for row in self._rows(sql, digest))

    def remove_blob(self, repository: str, digest: Digest, *, bury: bool = False) -> bool:
        """Take a blob from a repository; `bury`: also hide the one that is upstream."""
        sql = "DELETE FROM blobs WHERE repository = ? AND digest = ?"
        stone = _tombstone(repository, Kind.BLOB, digest, bury=bury)
        return self._write(*stone, (sql, (repository, digest))) > 0

    def forget_unused(self, digest: Digest) -> bool:
        """Forget content that no repository has; True when its bytes may go."""
        with self.lock:
            size = self.content_size(digest)
            sql = (
                "DELETE FROM content WHERE digest = ?1"
                " AND NOT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1)"
                " AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)"
            )
            gone = self._write((FORGET_LINKS, (digest,)), (sql, (digest,))) > 0
            self._used_bytes -= (size or 0) if gone else 0
        return gone

    def manifest(self, repository: str, digest: Digest) -> StoredManifest | None:
        """Return a manifest by digest."""
        sql = f"{SELECT} WHERE repository = ? AND digest = ?"
        rows = self._rows(sql, repository, digest)
        return manifest_of(rows[0]) if rows else None

    def add_manifest(
        self, repository: str, manifest: StoredManifest, tags: tuple[str, ...], *, now: float = 0.0
    ) -> None:
        """Record a manifest whose bytes are stored, and point tags at it, in one transaction."""
        row = (
            *(repository, manifest.digest, manifest.media_type, manifest.subject),
            *(manifest.artifact_type, json.dumps(manifest.annotations, sort_keys=True), now),
        )
        with self.lock:
            is_new = self.content_size(manifest.digest) is None
            self._write(
                (
                    "INSERT OR IGNORE INTO content VALUES (?, ?)",
                    (manifest.digest, manifest.size),
                ),
                (PUT_MANIFEST, row),
                (UNBURY, (repository, Kind.MANIFEST, manifest.digest)),
                *(
                    ("INSERT OR IGNORE INTO links VALUES (?, ?)", (manifest.digest, child))
                    for child in manifest.links
                ),
                *(
                    statement
                    for tag in tags
                    for statement in (
                        (TOUCH_TAGGED, (now, repository, tag)),
                        (UNBURY, (repository, Kind.TAG, tag)),
                        (
                            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)",
                            (repository, tag, manifest.digest),
                        ),
                    )
                ),
            )
            self._used_bytes += manifest.size if is_new else 0

    def remove_manifest(self, repository: str, digest: Digest, *, bury: bool = False) -> bool:
        """Delete a manifest and its tags; `bury`: also hide the one that is upstream."""
        return (
            self._write(
                *_tombstone(repository, Kind.MANIFEST, digest, bury=bury),
                ("DELETE FROM tags WHERE repository = ? AND digest = ?", (repository, digest)),
                ("DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, digest)),
            )
            > 0
        )

    def referrers(self, repository: str, subject: Digest) -> tuple[StoredManifest, ...]:
        """Return the manifests that have this subject, sorted by digest."""
        sql = f"{SELECT} WHERE repository = ? AND subject = ? AND subject != '' ORDER BY digest"
        return tuple(manifest_of(row) for row in self._rows(sql, repository, subject))

    def tag(self, repository: str, tag: str) -> Digest | None:
        """Return what a tag points at."""
        sql = "SELECT digest FROM tags WHERE repository = ? AND tag = ?"
        rows = self._rows(sql, repository, tag)
        return Digest(rows[0][0]) if rows else None

    def remove_tag(
        self, repository: str, tag: str, *, now: float = 0.0, bury: bool = False
    ) -> bool:
        """Delete one tag and nothing else; what it pointed at counts as touched.

        `bury`: also hide the tag that is upstream.
        """
        sql = "DELETE FROM tags WHERE repository = ? AND tag = ?"
        touch = (TOUCH_TAGGED, (now, repository, tag))
        stone = _tombstone(repository, Kind.TAG, tag, bury=bury)
        return self._write(*stone, touch, (sql, (repository, tag))) > 0

    def tags(self, repository: str, *, after: str, limit: int) -> tuple[str, ...]:
        """Return at most `limit` tags behind `after`, in byte order."""
        sql = "SELECT tag FROM tags WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?"
        return tuple(row[0] for row in self._rows(sql, repository, after, limit))

    def tags_of(self, repository: str, digest: Digest) -> tuple[str, ...]:
        """Return the tags that point at a manifest, in byte order."""
        sql = "SELECT tag FROM tags WHERE repository = ? AND digest = ? ORDER BY tag"
        return tuple(row[0] for row in self._rows(sql, repository, digest))

    def manifests(self, repository: str) -> tuple[StoredManifest, ...]:
        """Return every manifest of a repository, sorted by digest."""
        sql = f"{SELECT} WHERE repository = ? ORDER BY digest"
        return tuple(manifest_of(row) for row in self._rows(sql, repository))

    def size_with_links(self, digest: Digest) -> int:
        """Return the bytes of a manifest and of what it lists, in bytes."""
        sql = (
            "SELECT coalesce(sum(size), 0) FROM content WHERE digest = ?1"
            " OR digest IN (SELECT child FROM links WHERE parent = ?1)"
        )
        return int(self._rows(sql, digest)[0][0])

    def has_parent(self, repository: str, digest: Digest) -> bool:
        """Whether another manifest of the repository lists this one."""
        sql = (
            "SELECT 1 FROM links JOIN manifests ON manifests.digest = links.parent"
            " WHERE links.child = ? AND manifests.repository = ? LIMIT 1"
        )
        return bool(self._rows(sql, digest, repository))

    def buried(self, repository: str, kind: Kind) -> frozenset[str]:
        """Return what was deleted here and may be upstream: tags, or digests."""
        sql = "SELECT item FROM tombstones WHERE repository = ? AND kind = ?"
        return frozenset(row[0] for row in self._rows(sql, repository, kind))

    def collect(self, cutoff: float) -> Collected:
        """Forget everything that is neither reachable nor was touched at `cutoff` or later.

        Roots are tagged manifests and manifests touched since; alive is also, in the same
        repository, what they list, and what refers to them, as far as that goes.
        """
        with self.lock:
            self._write_touches()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                found = collect(self._db, cutoff)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise StorageError(f"the registry database failed: {error}") from error
            self._used_bytes -= found.size_bytes
        return found

    def roots(self) -> tuple[tuple[str, StoredManifest], ...]:
        """Return all tagged manifests as (`repository:tag`, manifest), and the others that nothing lists.

        Those have an empty name and come first.
        """
        rows = self._rows(ROOTS)
        return tuple((row[0], manifest_of(row[1:])) for row in rows)

    def repositories(self, *, after: str, limit: int) -> tuple[str, ...]:
        """Return at most `limit` repositories behind `after`, in byte order."""
        sql = (
            "SELECT repository FROM manifests WHERE repository > ?1 UNION "
            "SELECT repository FROM blobs WHERE repository > ?1 ORDER BY 1 LIMIT ?2"
        )
        return tuple(row[0] for row in self._rows(sql, after, limit))


def _tombstone(
    repository: str, kind: Kind, item: str, *, bury: bool
) -> tuple[tuple[str, tuple[object, ...]], ...]:
    return ((BURY, (repository, kind, item)),) if bury else ()
