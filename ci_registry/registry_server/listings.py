"""Listings in pages: tags, referrers, repositories."""

from ci_registry.oci import media_types
from ci_registry.registry_server import lookup
from ci_registry.registry_server.call import Call
from ci_registry.registry_server.message import Headers, RefusalError, Response, json_response
from ci_registry.registry_server.schema import StoredManifest

_EVERYTHING = 1_000_000
_NOWHEN = "0"
"""A time that nobody kept, in milliseconds since 1970."""
_MAX_REFERRERS_BYTES = 2 * 1024 * 1024
"""A page of referrers is a manifest to its clients, who read at most 4 MiB."""


def list_tags(call: Call) -> Response:
    """Answer a page of tags, in byte order."""
    last, limit = call.page(call.options.most_tags_asked)
    if not call.options.tag_paging:
        last, limit = "", _EVERYTHING
    tags = lookup.tags(call, after=last, limit=limit + 1)
    if not tags and not call.store.catalog.has_repository(call.name):
        raise RefusalError(404, "NAME_UNKNOWN", f"no repository {call.name}")
    page = tags[:limit]
    link = call.next_link(n=limit, last=page[-1]) if page and len(tags) > limit else ()
    if not call.options.tag_paging:
        page = tuple(sorted(page, key=lambda tag: tag[::-1]))
    answer: dict[str, object] = {"name": call.name, "tags": list(page)}
    if call.options.google_tags:
        answer |= _google_tags(call)
    return json_response(answer, headers=link)


def _google_tags(call: Call) -> dict[str, object]:
    """Return what GAR's tag list tells beside the tags: every manifest, and what is below."""
    catalog = call.store.catalog
    inside = catalog.repositories(after=f"{call.name}/", limit=_EVERYTHING)
    below = [
        name.removeprefix(f"{call.name}/") for name in inside if name.startswith(f"{call.name}/")
    ]
    return {
        "child": sorted({name.partition("/")[0] for name in below}),
        "manifest": {
            manifest.digest: {
                "imageSizeBytes": str(catalog.size_with_links(manifest.digest)),
                "layerId": "",
                "mediaType": manifest.media_type,
                "tag": list(catalog.tags_of(call.name, manifest.digest)),
                "timeCreatedMs": _NOWHEN,
                "timeUploadedMs": _NOWHEN,
            }
            for manifest in catalog.manifests(call.name)
        },
    }


def list_repositories(call: Call) -> Response:
    """Answer a page of repositories: Docker's `_catalog`, which is not in the OCI specification."""
    if not call.options.catalog:
        raise RefusalError(404, "UNSUPPORTED", "this registry has no catalog")
    last, limit = call.page(call.options.most_repositories_asked)
    names = call.store.catalog.repositories(after=last, limit=limit + 1)
    page = names[:limit]
    link = call.next_link(n=limit, last=page[-1]) if page and len(names) > limit else ()
    return json_response({"repositories": list(page)}, headers=link)


def list_referrers(call: Call) -> Response:
    """Answer a page of what refers to a digest; 200 and empty for what nobody knows."""
    digest = call.digest
    if not call.options.referrers_api:
        status = call.options.referrers_status
        raise RefusalError(status, "UNSUPPORTED", "this registry has no referrers API")
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
