"""Which repository has which blobs, manifests, tags and referrers: one SQLite database."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from ci_registry.errors import StorageError
from ci_registry.oci.digest import Digest
from ci_registry.registry_server.reachability import ROOTS, Collected, collect

_VERSION = 2
_SCHEMA = """
CREATE TABLE content (digest TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE blobs (
  repository TEXT NOT NULL, digest TEXT NOT NULL REFERENCES content, touched REAL NOT NULL,
  PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE manifests (
  repository TEXT NOT NULL, digest TEXT NOT NULL REFERENCES content, media_type TEXT NOT NULL,
  subject TEXT NOT NULL, artifact_type TEXT NOT NULL, annotations TEXT NOT NULL,
  touched REAL NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject) WHERE subject != '';
CREATE TABLE tags (
  repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE links (
  parent TEXT NOT NULL, child TEXT NOT NULL, PRIMARY KEY (parent, child)
) WITHOUT ROWID;
CREATE INDEX links_by_child ON links (child);
"""
TOUCH_STEP_S = 3600.0
"""How much newer a time must be before it is written at once; in between it is kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredManifest:
    """What the catalog knows of a manifest; its bytes are content like any other."""

    digest: Digest
    media_type: str
    size: int
    subject: str = ""
    """Digest of the subject; empty without one."""
    artifact_type: str = ""
    """As a referrers listing shows it: `artifactType`, else the media type of the config."""
    annotations: dict[str, str] = field(default_factory=dict)
    links: tuple[Digest, ...] = ()
    """Config, layers and children: what must stay as long as the manifest. Empty when it was read back."""


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
                script = f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;"
                self._db.executescript(script)
            elif version != _VERSION:
                raise StorageError(f"{path} has version {version} of the format, not {_VERSION}")
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
            (_TOUCH[table], (now, repository, digest))
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
                (_PUT_BLOB, (repository, digest, now)),
            )
            self._used_bytes += size if is_new else 0

    def repositories_of_blob(self, digest: Digest) -> tuple[str, ...]:
        """Return the repositories that have a blob, in byte order."""
        sql = "SELECT repository FROM blobs WHERE digest = ? ORDER BY 1"
        return tuple(row[0] for row in self._rows(sql, digest))

    def remove_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob from a repository."""
        sql = "DELETE FROM blobs WHERE repository = ? AND digest = ?"
        return self._write((sql, (repository, digest))) > 0

    def forget_unused(self, digest: Digest) -> bool:
        """Forget content that no repository has; True when its bytes may go."""
        with self.lock:
            size = self.content_size(digest)
            sql = (
                "DELETE FROM content WHERE digest = ?1"
                " AND NOT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1)"
                " AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)"
            )
            gone = self._write((_FORGET_LINKS, (digest,)), (sql, (digest,))) > 0
            self._used_bytes -= (size or 0) if gone else 0
        return gone

    def manifest(self, repository: str, digest: Digest) -> StoredManifest | None:
        """Return a manifest by digest."""
        sql = f"{_SELECT} WHERE repository = ? AND digest = ?"
        rows = self._rows(sql, repository, digest)
        return _manifest(rows[0]) if rows else None

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
                (_PUT_MANIFEST, row),
                *(
                    ("INSERT OR IGNORE INTO links VALUES (?, ?)", (manifest.digest, child))
                    for child in manifest.links
                ),
                *(
                    statement
                    for tag in tags
                    for statement in (
                        (_TOUCH_TAGGED, (now, repository, tag)),
                        (
                            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)",
                            (repository, tag, manifest.digest),
                        ),
                    )
                ),
            )
            self._used_bytes += manifest.size if is_new else 0

    def remove_manifest(self, repository: str, digest: Digest) -> bool:
        """Delete a manifest and its tags."""
        return (
            self._write(
                ("DELETE FROM tags WHERE repository = ? AND digest = ?", (repository, digest)),
                ("DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, digest)),
            )
            > 0
        )

    def referrers(self, repository: str, subject: Digest) -> tuple[StoredManifest, ...]:
        """Return the manifests that have this subject, sorted by digest."""
        sql = f"{_SELECT} WHERE repository = ? AND subject = ? AND subject != '' ORDER BY digest"
        return tuple(_manifest(row) for row in self._rows(sql, repository, subject))

    def tag(self, repository: str, tag: str) -> Digest | None:
        """Return what a tag points at."""
        sql = "SELECT digest FROM tags WHERE repository = ? AND tag = ?"
        rows = self._rows(sql, repository, tag)
        return Digest(rows[0][0]) if rows else None

    def remove_tag(self, repository: str, tag: str, *, now: float = 0.0) -> bool:
        """Delete one tag and nothing else; what it pointed at counts as touched."""
        sql = "DELETE FROM tags WHERE repository = ? AND tag = ?"
        touch = (_TOUCH_TAGGED, (now, repository, tag))
        return self._write(touch, (sql, (repository, tag))) > 0

    def tags(self, repository: str, *, after: str, limit: int) -> tuple[str, ...]:
        """Return at most `limit` tags behind `after`, in byte order."""
        sql = "SELECT tag FROM tags WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?"
        return tuple(row[0] for row in self._rows(sql, repository, after, limit))

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
        return tuple((row[0], _manifest(row[1:])) for row in rows)

    def repositories(self, *, after: str, limit: int) -> tuple[str, ...]:
        """Return at most `limit` repositories behind `after`, in byte order."""
        sql = (
            "SELECT repository FROM manifests WHERE repository > ?1 UNION "
            "SELECT repository FROM blobs WHERE repository > ?1 ORDER BY 1 LIMIT ?2"
        )
        return tuple(row[0] for row in self._rows(sql, after, limit))


_TOUCH = {
    table: f"UPDATE {table} SET touched = max(touched, ?) WHERE repository = ? AND digest = ?"  # noqa: S608 - ours
    for table in ("blobs", "manifests")
}
_PUT_BLOB = (
    "INSERT INTO blobs VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET touched = max(touched, excluded.touched)"
)
_PUT_MANIFEST = (
    "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " media_type = excluded.media_type, touched = max(touched, excluded.touched)"
)
_TOUCH_TAGGED = (
    "UPDATE manifests SET touched = max(touched, ?1) WHERE repository = ?2"
    " AND digest = (SELECT digest FROM tags WHERE repository = ?2 AND tag = ?3)"
)
_FORGET_LINKS = (
    "DELETE FROM links WHERE parent = ?1 AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)"
)
_SELECT = (
    "SELECT digest, media_type, size, subject, artifact_type, annotations"
    " FROM manifests JOIN content USING (digest)"
)


def _manifest(row: tuple[str, ...]) -> StoredManifest:
    digest, media_type, size, subject, artifact_type, annotations = row
    return StoredManifest(
        digest=Digest(digest),
        media_type=media_type,
        size=int(size),
        subject=subject,
        artifact_type=artifact_type,
        annotations=json.loads(annotations),
    )
