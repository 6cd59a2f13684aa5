"""DELETE of manifests, tags and blobs, and what other registries refuse of it."""

from ci_registry.oci.digest import Digest
from ci_registry.registry_server.call import Call
from ci_registry.registry_server.lookup import is_upstream
from ci_registry.registry_server.message import RefusalError, Response
from ci_registry.registry_server.options import Refusal
from ci_registry.registry_server.preconditions import check_write
from ci_registry.registry_server.schema import Kind


def delete_blob(call: Call) -> Response:
    """Answer DELETE of a blob; the same blob of other repositories stays."""
    bury = is_upstream(call, Kind.BLOB, call.digest)
    if not call.store.delete_blob(call.name, call.digest, bury=bury) and not bury:
        raise RefusalError(404, "BLOB_UNKNOWN", f"{call.name} has no blob {call.digest}")
    return Response(status=202)


def delete_manifest(call: Call) -> Response:
    """Answer DELETE: by digest the manifest with all its tags, by tag that tag and nothing else."""
    is_tag = ":" not in call.item
    if is_tag and not call.options.tag_delete:
        raise _refused(call.options.tag_delete_refusal, "this registry deletes by digest only")
    item = call.item if is_tag else call.digest
    bury = is_upstream(call, Kind.TAG if is_tag else Kind.MANIFEST, item)
    with call.store.exclusive():
        found = _delete_tag(call, bury=bury) if is_tag else _delete_digest(call, bury=bury)
    if not found and not bury:
        raise RefusalError(404, "MANIFEST_UNKNOWN", f"{call.name} has no {call.item[:140]}")
    return Response(status=202)


def _delete_tag(call: Call, *, bury: bool) -> bool:
    current = call.store.catalog.tag(call.name, call.item)
    if call.options.immutable_tags and current:
        raise _immutable(call, call.item)
    check_write(call, f"tag {call.item}", current)
    return call.store.delete_tag(call.name, call.item, bury=bury)


def _delete_digest(call: Call, *, bury: bool) -> bool:
    digest, options, catalog = call.digest, call.options, call.store.catalog
    known = catalog.manifest(call.name, digest)
    tags = catalog.tags_of(call.name, digest)
    check_write(call, call.name, digest if known else None)
    if tags and options.immutable_tags:
        raise _immutable(call, tags[0])
    if tags and options.tagged_delete_refusal:
        raise _refused(options.tagged_delete_refusal, f"tag {tags[0]} points at it")
    if options.child_delete_refusal and catalog.has_parent(call.name, digest):
        raise _refused(options.child_delete_refusal, "an index lists it")
    if not tags and not options.untagged_delete:
        return False
    found = call.store.delete_manifest(call.name, digest, bury=bury)
    if options.delete_cascades:
        _delete_referrers(call, digest)
    return found


def _delete_referrers(call: Call, subject: Digest) -> None:
    for referrer in call.store.catalog.referrers(call.name, subject):
        call.store.delete_manifest(call.name, referrer.digest)
        _delete_referrers(call, referrer.digest)


def _refused(refusal: Refusal, message: str) -> RefusalError:
    return RefusalError(*refusal, message)


def _immutable(call: Call, tag: str) -> RefusalError:
    return RefusalError(409, "TAG_IMMUTABLE", f"tag {tag} of {call.name} is immutable")
