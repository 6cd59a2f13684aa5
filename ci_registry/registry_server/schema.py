"""The tables of the catalog, the statements that several methods share, and what a row of manifests is."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from ci_registry.oci.digest import Digest

VERSION = 2
SCHEMA = """
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
TOMBSTONES = """
CREATE TABLE IF NOT EXISTS tombstones (
  repository TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL,
  PRIMARY KEY (repository, kind, item)
) WITHOUT ROWID
"""
"""What was deleted here although the real registry has it; only a dry run's registry has any."""


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


class Kind(StrEnum):
    """What a tombstone stands for."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"


TOUCH = {
    table: f"UPDATE {table} SET touched = max(touched, ?) WHERE repository = ? AND digest = ?"  # noqa: S608 - ours
    for table in ("blobs", "manifests")
}
PUT_BLOB = (
    "INSERT INTO blobs VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET touched = max(touched, excluded.touched)"
)
PUT_MANIFEST = (
    "INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " media_type = excluded.media_type, touched = max(touched, excluded.touched)"
)
TOUCH_TAGGED = (
    "UPDATE manifests SET touched = max(touched, ?1) WHERE repository = ?2"
    " AND digest = (SELECT digest FROM tags WHERE repository = ?2 AND tag = ?3)"
)
FORGET_LINKS = (
    "DELETE FROM links WHERE parent = ?1 AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)"
)
SELECT = (
    "SELECT digest, media_type, size, subject, artifact_type, annotations"
    " FROM manifests JOIN content USING (digest)"
)
BURY = "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?)"
UNBURY = "DELETE FROM tombstones WHERE repository = ? AND kind = ? AND item = ?"


def manifest_of(row: tuple[str, ...]) -> StoredManifest:
    """Return the manifest in a row of `SELECT`."""
    digest, media_type, size, subject, artifact_type, annotations = row
    return StoredManifest(
        digest=Digest(digest),
        media_type=media_type,
        size=int(size),
        subject=subject,
        artifact_type=artifact_type,
        annotations=json.loads(annotations),
    )
