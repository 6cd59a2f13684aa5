"""Listings in pages: tags, referrers, repositories."""

from ci_registry.oci import media_types
from ci_registry.registry_server import lookup
from ci_registry.registry_server.call import Call
from ci_registry.registry_server.catalog import StoredManifest
from ci_registry.registry_server.message import Headers, RefusalError, Response, json_response

_MAX_REFERRERS_BYTES = 2 * 1024 * 1024
"""A page of referrers is a manifest to its clients, who read at most 4 MiB."""


def list_tags(call: Call) -> Response:
    """Answer a page of tags, in byte order."""
    last, limit = call.page()
    tags = lookup.tags(call, after=last, limit=limit + 1)
    if not tags and not call.store.catalog.has_repository(call.name):
        raise RefusalError(404, "NAME_UNKNOWN", f"no repository {call.name}")
    page = tags[:limit]
    link = call.next_link(n=limit, last=page[-1]) if page and len(tags) > limit else ()
    return json_response({"name": call.name, "tags": list(page)}, headers=link)


def list_repositories(call: Call) -> Response:
    """Answer a page of repositories: Docker's `_catalog`, which is not in the OCI specification."""
    last, limit = call.page()
    names = call.store.catalog.repositories(after=last, limit=limit + 1)
    page = names[:limit]
    link = call.next_link(n=limit, last=page[-1]) if page and len(names) > limit else ()
    return json_response({"repositories": list(page)}, headers=link)


def list_referrers(call: Call) -> Response:
    """Answer a page of what refers to a digest; 200 and empty for what nobody knows."""
    digest = call.digest
    if not call.options.referrers_api:
        raise RefusalError(404, "UNSUPPORTED", "this registry has no referrers API")
    found = lookup.referrers(call, digest)
    wanted = call.request.parameter("artifactType")
    headers: Headers = ()
    link: dict[str, str] = {}
    if wanted:
        found = tuple(manifest for manifest in found if manifest.artifact_type == wanted)
        headers = (("OCI-Filters-Applied", "artifactType"),)
        link["artifactType"] = wanted
    last = call.request.parameter("last") or ""
    page, rest = _page([m for m in found if m.digest > last], call.options.page_limit)
    if rest:
        headers += call.next_link(**link, last=page[-1].digest)
    index = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [_descriptor(manifest) for manifest in page],
    }
    return json_response(index, headers=headers, media_type=media_types.OCI_INDEX)


def _page(found: list[StoredManifest], limit: int) -> tuple[list[StoredManifest], bool]:
    """Return the first entries that fit into a page, at least one, and whether more follow."""
    size = 0
    for count, manifest in enumerate(found):
        size += 300 + sum(6 * (len(k) + len(v)) for k, v in manifest.annotations.items())
        if count and (count >= limit or size > _MAX_REFERRERS_BYTES):
            return found[:count], True
    return found, False


def _descriptor(manifest: StoredManifest) -> dict[str, object]:
    result: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    if manifest.artifact_type:
        result["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        result["annotations"] = manifest.annotations
    return result
