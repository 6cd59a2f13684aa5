"""What is alive in the catalog, as SQL: the mark and sweep of a collection, and the roots of an export."""

import sqlite3
from dataclasses import dataclass

from ci_registry.oci.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection took out of the catalog."""

    manifests: int = 0
    blobs: int = 0
    """How many manifests and blobs repositories lost."""
    uploads: int = 0
    """How many abandoned uploads were thrown away."""
    size_bytes: int = 0
    content: tuple[Digest, ...] = ()
    """What no repository has any more: its bytes may go."""


_MARK = """
INSERT INTO temp.live
WITH RECURSIVE found (repository, digest) AS (
  SELECT repository, digest FROM tags
  UNION
  SELECT repository, digest FROM manifests WHERE touched >= ?1
  UNION
  SELECT m.repository, m.digest FROM found
    JOIN links ON links.parent = found.digest
    JOIN manifests m ON m.repository = found.repository AND m.digest = links.child
  UNION
  SELECT m.repository, m.digest FROM found
    JOIN manifests m ON m.repository = found.repository AND m.subject = found.digest
      AND m.subject != ''
)
SELECT repository, digest FROM found
"""
_SWEEP_MANIFESTS = """
DELETE FROM manifests WHERE NOT EXISTS (
  SELECT 1 FROM temp.live l WHERE l.repository = manifests.repository AND l.digest = manifests.digest
)
"""
_SWEEP_BLOBS = """
DELETE FROM blobs WHERE touched < ?1 AND NOT EXISTS (
  SELECT 1 FROM links JOIN temp.live l ON l.digest = links.parent
  WHERE links.child = blobs.digest AND l.repository = blobs.repository
)
"""
_UNUSED = """
SELECT digest, size FROM content
WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = content.digest)
  AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = content.digest)
"""
_SWEEP_LINKS = """
DELETE FROM links WHERE NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = links.parent)
"""

ROOTS = """
SELECT t.repository || ':' || t.tag, m.digest, media_type, size, subject, artifact_type, annotations
  FROM tags t JOIN manifests m USING (repository, digest) JOIN content USING (digest)
UNION ALL
SELECT DISTINCT '', m.digest, media_type, size, subject, artifact_type, annotations
  FROM manifests m JOIN content USING (digest)
  WHERE NOT EXISTS (
    SELECT 1 FROM tags WHERE tags.repository = m.repository AND tags.digest = m.digest
  ) AND NOT EXISTS (
    SELECT 1 FROM links JOIN manifests p ON p.digest = links.parent
    WHERE links.child = m.digest AND p.repository = m.repository
  )
ORDER BY 1, 2
"""


def collect(db: sqlite3.Connection, cutoff: float) -> Collected:
    """Take out what is neither reachable nor was touched since `cutoff`, within an open transaction."""
    db.execute(
        "CREATE TEMP TABLE IF NOT EXISTS live"
        " (repository TEXT, digest TEXT, PRIMARY KEY (repository, digest)) WITHOUT ROWID"
    )
    db.execute("DELETE FROM temp.live")
    db.execute(_MARK, (cutoff,))
    manifests = db.execute(_SWEEP_MANIFESTS).rowcount
    blobs = db.execute(_SWEEP_BLOBS, (cutoff,)).rowcount
    unused = db.execute(_UNUSED).fetchall()
    db.executemany("DELETE FROM content WHERE digest = ?", [(digest,) for digest, _ in unused])
    db.execute(_SWEEP_LINKS)
    db.execute("DELETE FROM temp.live")
    return Collected(
        manifests=manifests,
        blobs=blobs,
        size_bytes=sum(int(size) for _, size in unused),
        content=tuple(Digest(digest) for digest, _ in unused),
    )
