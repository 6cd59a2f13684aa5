"""Finds things in the store and, for a dry run, behind it in the real registry, which is only read."""

import contextlib
from collections.abc import Iterable, Iterator

from ci_registry.errors import CiRegistryError, IntegrityError, NotFoundError, StorageError
from ci_registry.oci.digest import Digest, digest_of, is_digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.interface import Repository
from ci_registry.registry_server.call import Call
from ci_registry.registry_server.message import RefusalError
from ci_registry.registry_server.schema import Kind, StoredManifest


def describe(parsed: Manifest | Index, digest: Digest) -> StoredManifest:
    """Return what the catalog keeps of a manifest."""
    artifact_type = parsed.artifact_type
    if not artifact_type and isinstance(parsed, Manifest):
        artifact_type = parsed.config.media_type
    return StoredManifest(
        digest=digest,
        media_type=parsed.media_type,
        size=len(parsed.body),
        subject=parsed.subject.digest if parsed.subject else "",
        artifact_type=artifact_type,
        annotations=parsed.annotations,
        links=links_of(parsed),
    )


def links_of(parsed: Manifest | Index) -> tuple[Digest, ...]:
    """Return what a manifest needs to be whole: config and layers, or children; not its subject."""
    entries = parsed.manifests if isinstance(parsed, Index) else parsed.blobs
    return tuple(dict.fromkeys(entry.digest for entry in entries))


@contextlib.contextmanager
def _upstream(
    call: Call, name: str, kind: Kind | None = None, item: str = ""
) -> Iterator[Repository | None]:
    """Give the repository behind this one; its failures become 502, never "absent".

    None where there is none, or where the item was deleted here.
    """
    if call.options.upstream is None or (kind and _is_buried(call, name, kind, item)):
        yield None
        return
    try:
        yield call.options.upstream(name)
    except StorageError:
        raise  # ours: the answer is 507
    except CiRegistryError as error:
        call.options.upstream_failed(name, error)
        raise RefusalError(502, "UPSTREAM_FAILED", error.headline) from error


def _is_buried(call: Call, name: str, kind: Kind, item: str) -> bool:
    return item in call.store.catalog.buried(name, kind)


def _kind(reference: str) -> Kind:
    return Kind.MANIFEST if is_digest(reference) else Kind.TAG


def find_manifest(call: Call, name: str, reference: str) -> StoredManifest | None:
    """Return the manifest at a tag or digest; one from upstream is stored, its tag is not."""
    found = call.store.tell_manifest(name, _parsed(reference))
    if found is not None:
        return found
    with _upstream(call, name, _kind(reference), reference) as repository:
        if repository is None:
            return None
        try:
            parsed = repository.fetch(reference)
        except NotFoundError:
            return None
    digest = Digest(reference) if is_digest(reference) else parsed.digest
    if digest_of(parsed.body, digest.algorithm) != digest:
        raise RefusalError(502, "UPSTREAM_FAILED", f"upstream sent other bytes than {digest}")
    if _is_buried(call, name, Kind.MANIFEST, digest):
        return None
    stored = describe(parsed, digest)
    call.store.put_manifest(name, stored, parsed.body, ())
    return stored


def resolve_manifest(call: Call, name: str, reference: str) -> StoredManifest | None:
    """Return what a HEAD needs to know of a manifest here or upstream; no bytes travel."""
    found = call.store.tell_manifest(name, _parsed(reference))
    if found is not None:
        return found
    with _upstream(call, name, _kind(reference), reference) as repository:
        entry = repository.resolve(reference) if repository is not None else None
    if entry is None or _is_buried(call, name, Kind.MANIFEST, entry.digest):
        return None
    return StoredManifest(digest=entry.digest, media_type=entry.media_type, size=entry.size)


def _parsed(reference: str) -> Digest | str:
    return Digest(reference) if is_digest(reference) else reference


def blob_size(call: Call, name: str, digest: Digest) -> int | None:
    """Return the size of a blob here or upstream; no bytes travel."""
    size = call.store.tell_blob(name, digest)
    if size is not None:
        return size
    with _upstream(call, name, Kind.BLOB, digest) as repository:
        return repository.size_of(digest) if repository is not None else None


def bring_blob(call: Call, name: str, digest: Digest) -> bool:
    """Make sure that the bytes of a blob are in the store; False when nobody has them.

    They are visible only after their digest was compared.
    """
    if call.store.catalog.blob_size(name, digest) is not None:
        return True
    with _upstream(call, name, Kind.BLOB, digest) as repository:
        if repository is None or repository.size_of(digest) is None:
            return False
        upload = call.store.begin_upload(name)
        try:
            for piece in repository.open(digest):
                upload.append(piece)
            if upload.digest(digest.algorithm) != digest:
                raise IntegrityError(f"upstream sent other bytes than {digest}")
            call.store.finish_upload(upload, digest)
        finally:
            call.store.cancel_upload(upload)
    return True


def upstream_has(call: Call, blobs: Iterable[Digest], manifests: Iterable[Digest]) -> set[Digest]:
    """Return which of these the real repository has and the store has not."""
    if call.options.upstream is None:
        return set()
    catalog = call.store.catalog
    found: set[Digest] = set()
    for digest in blobs:
        if catalog.blob_size(call.name, digest) is None:
            found |= {digest} if blob_size(call, call.name, digest) is not None else set()
    for digest in manifests:
        if catalog.manifest(call.name, digest) is None:
            known = resolve_manifest(call, call.name, digest) is not None
            found |= {digest} if known else set()
    return found


def is_upstream(call: Call, kind: Kind, item: str) -> bool:
    """Whether the real repository has a tag, manifest or blob that was not deleted here."""
    with _upstream(call, call.name, kind, item) as repository:
        if repository is None:
            return False
        if kind is Kind.BLOB:
            return repository.size_of(Digest(item)) is not None
        entry = repository.resolve(item)
    return entry is not None and not _is_buried(call, call.name, Kind.MANIFEST, entry.digest)


def tags(call: Call, *, after: str, limit: int) -> tuple[str, ...]:
    """Return at most `limit` tags behind `after`, in byte order, from here and upstream."""
    found = call.store.catalog.tags(call.name, after=after, limit=limit)
    with _upstream(call, call.name) as repository:
        if repository is None:
            return found
        more = {tag for tag in repository.tags() if tag > after}
    more -= call.store.catalog.buried(call.name, Kind.TAG)
    if call.store.catalog.buried(call.name, Kind.MANIFEST):  # their tags upstream went with them
        more = {tag for tag in more if resolve_manifest(call, call.name, tag) is not None}
    return tuple(sorted(more.union(found))[:limit])


def referrers(call: Call, subject: Digest) -> tuple[StoredManifest, ...]:
    """Return what refers to a digest, from here and upstream, sorted by digest."""
    found = {m.digest: m for m in call.store.catalog.referrers(call.name, subject)}
    with _upstream(call, call.name) as repository:
        if repository is not None:
            gone = call.store.catalog.buried(call.name, Kind.MANIFEST)
            for entry in (e for e in repository.referrers(subject) if e.digest not in gone):
                found.setdefault(entry.digest, _listed(entry, subject))
    return tuple(found[digest] for digest in sorted(found))


def _listed(entry: Descriptor, subject: Digest) -> StoredManifest:
    return StoredManifest(
        digest=entry.digest,
        media_type=entry.media_type,
        size=entry.size,
        subject=subject,
        artifact_type=entry.artifact_type,
        annotations=dict(entry.annotations),
    )
