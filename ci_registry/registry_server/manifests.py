"""Manifests: reading, storing with everything they refer to checked, tagging."""

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest, parse_manifest
from ci_registry.oci.reference import is_tag
from ci_registry.registry_server.body import read_small
from ci_registry.registry_server.call import Call, parse_digest
from ci_registry.registry_server.lookup import (
    describe,
    find_manifest,
    resolve_manifest,
    upstream_has,
)
from ci_registry.registry_server.message import BusyError, Headers, RefusalError, Response
from ci_registry.registry_server.preconditions import check_read, check_write, is_known
from ci_registry.registry_server.schema import StoredManifest

_MAX_TAG_PARAMETERS = 100


def get_manifest(call: Call) -> Response:
    """Answer GET and HEAD of a manifest by tag or digest."""
    stored = _find(call)
    if call.options.accept_required and stored.media_type not in call.request.header("accept"):
        raise RefusalError(404, "MANIFEST_UNKNOWN", f"{call.item} has no accepted media type")
    headers: Headers = (
        ("Content-Type", stored.media_type),
        ("Docker-Content-Digest", stored.digest),
        *call.etag(stored.digest),
        *_spent(call),
    )
    check_read(call, stored.digest)
    if is_known(call, stored.digest):
        return Response(status=304, headers=headers)
    if call.request.method == "HEAD":
        length = (("Content-Length", str(stored.size)),)
        return Response(status=200, headers=headers + length)
    body = call.store.part(stored.digest, 0, stored.size)
    return Response(status=200, headers=headers, body=body)


def _find(call: Call) -> StoredManifest:
    look = resolve_manifest if call.request.method == "HEAD" else find_manifest
    stored = look(call, call.name, call.item)
    if stored is None:
        known = call.store.catalog.has_repository(call.name)
        code = "MANIFEST_UNKNOWN" if known else "NAME_UNKNOWN"
        raise RefusalError(404, code, f"{call.name} has no manifest {call.item[:140]}")
    return stored


def _spent(call: Call) -> Headers:
    """Count a read where reads are counted, and tell what is left; HEAD is free."""
    limit = call.options.rate_limit
    if limit is None:
        return ()
    window = f";w={limit.window_s}"
    fields: Headers = (("RateLimit-Limit", f"{limit.most}{window}"),)
    if call.request.method == "GET" and not limit.take():
        raise BusyError(headers=(*fields, ("RateLimit-Remaining", f"0{window}")))
    return (*fields, ("RateLimit-Remaining", f"{limit.left}{window}"))


def put_manifest(call: Call) -> Response:
    """Answer PUT: check the document and what it refers to, store its bytes, move tags at once."""
    tags = _tags_of(call)
    body = read_small(call.request, MAX_MANIFEST_BYTES)
    digest = _digest_of(call, body)
    try:
        parsed = parse_manifest(body, call.request.header("content-type"))
    except IntegrityError as error:
        raise RefusalError(400, "MANIFEST_INVALID", str(error)) from error
    stored = describe(parsed, digest)
    elsewhere = upstream_has(call, *_needs(parsed))  # asked before the lock: it takes a network
    with call.store.exclusive():
        _check_contents(call, parsed, elsewhere)
        _check_tags(call, tags, digest)
        if call.store.catalog.content_size(digest) is None:
            call.check_space(len(body))
        call.store.put_manifest(call.name, stored, body, tags)
    headers: Headers = (
        ("Location", f"/v2/{call.name}/manifests/{call.item}"),
        ("Docker-Content-Digest", digest),
        *call.etag(digest),
    )
    headers += tuple(("OCI-Tag", tag) for tag in call.request.parameters("tag"))
    if stored.subject and call.options.referrers_api and call.options.oci_subject:
        headers += (("OCI-Subject", stored.subject),)
    return Response(status=201, headers=headers)


def _tags_of(call: Call) -> tuple[str, ...]:
    """Return the tags that this PUT moves: the reference itself, or `?tag=` beside a digest."""
    extra = call.request.parameters("tag")
    tags = extra if ":" in call.item else (call.item, *extra)
    if len(extra) > _MAX_TAG_PARAMETERS:
        raise RefusalError(414, "MANIFEST_INVALID", f"more than {_MAX_TAG_PARAMETERS} tags")
    for tag in tags:
        if not is_tag(tag):
            raise RefusalError(400, "MANIFEST_INVALID", f"not a tag: {tag[:140]!r}")
    return tuple(dict.fromkeys(tags))


def _digest_of(call: Call, body: bytes) -> Digest:
    """Return the digest to store under; a tag keeps the algorithm that it was pushed with."""
    text = call.item if ":" in call.item else call.request.parameter("digest")
    if not text:
        return digest_of(body)
    wanted = parse_digest(text)
    found = digest_of(body, wanted.algorithm)
    if found != wanted:
        raise RefusalError(400, "DIGEST_INVALID", f"the bytes have the digest {found}")
    return wanted


def _needs(parsed: Manifest | Index) -> tuple[list[Digest], list[Digest]]:
    """Return the blobs and the manifests that must be there; foreign layers and subjects need not."""
    if isinstance(parsed, Index):
        return [], [child.digest for child in parsed.manifests]
    blobs = [b.digest for b in parsed.blobs if b.media_type not in media_types.FOREIGN_LAYERS]
    return blobs, []


def _check_contents(call: Call, parsed: Manifest | Index, elsewhere: set[Digest]) -> None:
    """Refuse a manifest whose blobs or children are not in the repository."""
    if call.options.sparse:
        return
    catalog = call.store.catalog
    blobs, children = _needs(parsed)
    missing = [d for d in blobs if catalog.blob_size(call.name, d) is None]
    missing += [  # BuildKit's cache indexes list layers as children: a blob will do
        d
        for d in children
        if catalog.manifest(call.name, d) is None and catalog.blob_size(call.name, d) is None
    ]
    missing = [digest for digest in missing if digest not in elsewhere]
    if missing:
        names = ", ".join(missing[:5])
        raise RefusalError(400, "MANIFEST_BLOB_UNKNOWN", f"{call.name} lacks {names}")


def _check_tags(call: Call, tags: tuple[str, ...], digest: Digest) -> None:
    """Refuse to move an immutable tag, or one that is not where the client believes it to be."""
    for tag in tags:
        current = call.store.catalog.tag(call.name, tag)
        if call.options.immutable_tags and current not in (None, digest):
            raise RefusalError(409, "TAG_IMMUTABLE", f"tag {tag} of {call.name} is immutable")
        check_write(call, f"tag {tag}", current)
