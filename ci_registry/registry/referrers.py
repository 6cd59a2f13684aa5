"""What refers to a manifest: the referrers API, the fallback tag, and both merged (distribution-spec 1.1)."""

import json
from collections.abc import Callable, Collection

from ci_registry.errors import IntegrityError, NotFoundError, RegistryError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_descriptor,
)
from ci_registry.registry.auth import access_to
from ci_registry.registry.interface import Manifests
from ci_registry.registry.session import Session
from ci_registry.strict import as_list, as_object, parse_json

MAX_REFERRERS = 1000
LONGEST_SETTLING_S = 0.5
"""How long an entry in the fallback index is left alone before it is read back."""
MAX_PAGES = 100

PutIndex = Callable[[Index | None, bytes], bool]
"""Puts an index at a fallback tag in place of the one that was read; false: another was first, read again."""


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the referrers tag schema: `sha256-<hex>`, cut as the specification says."""
    return f"{subject.algorithm[:32]}-{subject.hex[:64]}"


def is_fallback_tag(tag: str) -> bool:
    """Whether a tag belongs to the referrers tag schema."""
    algorithm, _, rest = tag.partition("-")
    return (
        algorithm in ("sha256", "sha512")
        and len(rest) == 64
        and not set(rest) - set("0123456789abcdef")
    )


def referrer_descriptor(manifest: Manifest | Index) -> Descriptor:
    """Return the descriptor of a referrer as a registry lists it: with artifact type and annotations."""
    artifact_type = manifest.artifact_type
    if not artifact_type and isinstance(manifest, Manifest):
        artifact_type = manifest.config.media_type
    return Descriptor(
        media_type=manifest.media_type,
        digest=manifest.digest,
        size=len(manifest.body),
        annotations=dict(manifest.annotations),
        artifact_type=artifact_type,
    )


def merged(
    *lists: tuple[Descriptor, ...], subject: Digest | str = "one manifest"
) -> tuple[Descriptor, ...]:
    """Return the descriptors of all lists, each digest once, the first list that has it wins.

    Raises:
        IntegrityError: more than `MAX_REFERRERS`; a part of them would pass for all.
    """
    found: dict[Digest, Descriptor] = {}
    for descriptors in lists:
        for descriptor in descriptors:
            found.setdefault(descriptor.digest, descriptor)
    if len(found) > MAX_REFERRERS:
        raise IntegrityError(
            f"more than {MAX_REFERRERS} referrers of {subject}",
            hint="remove those that nobody needs: ci-registry rm REPOSITORY@DIGEST",
        )
    return tuple(found.values())


def check_subject(manifest: Manifest | Index, subject: Descriptor) -> None:
    """Refuse to attach a manifest that does not refer to `subject`."""
    if manifest.subject is None or manifest.subject.digest != subject.digest:
        raise IntegrityError(f"manifest {manifest.digest.short} does not refer to {subject.digest}")


def listed_referrers(session: Session, repository: str, subject: Digest) -> tuple[Descriptor, ...]:
    """Return what the referrers API lists, all pages; nothing where the registry has no such API.

    Raises:
        RegistryError: any answer but success, 404 (no API: the fallback tag has it all), and 405 or 501,
            with which some registries say the same; those are reported.
    """
    name = f"{session.host}/{repository}"
    url = session.url(f"{repository}/referrers/{subject}")
    pages: list[tuple[Descriptor, ...]] = []
    for _ in range(MAX_PAGES):
        response = session.send(
            "GET", url, access_to(repository, "pull"), headers={"Accept": media_types.OCI_INDEX}
        )
        if response.status == 404 and not pages:
            return ()
        if response.status in (405, 501) and not pages:
            advice = session.quirks.referrers_advice
            session.warn(
                f"{name}: no referrers API (HTTP {response.status}), using the fallback tag"
                f"{f'; {advice}' if advice else ''}"
            )
            return ()
        if not response.ok:
            raise session.failure(response, f"list the referrers of {name}@{subject}")
        pages.append(_parsed_page(response.body, f"referrers of {name}@{subject.short}"))
        merged(*pages, subject=subject)  # too many: said before the last page
        url = session.page_after(response)
        if not url:
            return merged(*pages, subject=subject)
    raise RegistryError(f"{name} lists the referrers of {subject} without an end")


def _parsed_page(body: bytes, what: str) -> tuple[Descriptor, ...]:
    document = as_object(parse_json(body, what=what, max_bytes=MAX_MANIFEST_BYTES), what=what)
    if "manifests" not in document:
        raise IntegrityError(f"{what}: the answer is no image index")
    entries = as_list(document["manifests"] or [], what=what)
    return tuple(parse_descriptor(entry, what=what) for entry in entries)


def fallback_referrers(repository: Manifests, subject: Digest) -> tuple[Descriptor, ...]:
    """Return what the index at the fallback tag lists; nothing when there is no such tag.

    Raises:
        IntegrityError: the tag points at something else than an index.
    """
    index = _fallback_index(repository, subject)
    return index.manifests if index is not None else ()


def _fallback_index(repository: Manifests, subject: Digest) -> Index | None:
    tag = fallback_tag(subject)
    try:
        index = repository.fetch(tag)
    except NotFoundError:
        return None
    if not isinstance(index, Index):
        raise IntegrityError(f"tag {tag} should hold the referrers of {subject}, but is an image")
    return index


def add_to_fallback(
    repository: Manifests,
    subject: Digest,
    referrer: Descriptor,
    wait: Callable[[str], bool],
    *,
    settle: Callable[[], None] = lambda: None,
    put: PutIndex | None = None,
) -> None:
    """Add a referrer to the index at the fallback tag, read it back, and try again when it got lost.

    Others may write the same tag at the same moment. Where the registry does not honour `If-Match`,
    reading back makes a loss unlikely, not impossible.

    Args:
        repository: where the subject is.
        subject: what the referrer refers to.
        referrer: with artifact type and annotations, as the API would list it.
        wait: pauses before another attempt; false when there is to be none.
        settle: pauses before reading back, for a time that differs from that of other writers.
        put: puts the index; without it, on no condition.

    Raises:
        RegistryError: other writers kept overwriting the entry.
    """
    tag = fallback_tag(subject)
    while True:
        index = _fallback_index(repository, subject)
        if index is not None and any(e.digest == referrer.digest for e in index.manifests):
            return
        body = _with_referrer(index, referrer)
        if len(body) > MAX_MANIFEST_BYTES:
            raise RegistryError(f"tag {tag} holds too many referrers: {len(body)} bytes of index")
        try:
            is_put = _put(repository, tag, index, body, put)
        except RegistryError as error:
            # registries that want every child refuse the list for an entry whose manifest is gone
            gone = _gone(repository, index) if error.status in (400, 404) else set()
            if not gone:
                raise
            body = _with_referrer(index, referrer, without=gone)
            is_put = _put(repository, tag, index, body, put)
        if not is_put:
            continue
        settle()  # who read the index before our write, writes about now
        kept = fallback_referrers(repository, subject)
        if any(entry.digest == referrer.digest for entry in kept):
            return
        if not wait(f"another writer of tag {tag} removed our entry"):
            raise RegistryError(
                f"other writers of tag {tag} keep removing our entry",
                hint="sign one image at a time on registries without the referrers API",
            )


def _put(
    repository: Manifests, tag: str, before: Index | None, body: bytes, put: PutIndex | None
) -> bool:
    if put is not None:
        return put(before, body)
    repository.push(tag, body, media_types.OCI_INDEX)
    return True


def _gone(repository: Manifests, index: Index | None) -> set[Digest]:
    entries = index.manifests if index is not None else ()
    return {entry.digest for entry in entries if repository.resolve(entry.digest) is None}


def _with_referrer(
    index: Index | None, referrer: Descriptor, *, without: Collection[Digest] = ()
) -> bytes:
    """Return the bytes of the index with one more entry; all else in it stays as it was, but for `without`."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [],
    }
    if index is not None:
        document = as_object(parse_json(index.body, what="fallback index"), what="fallback index")
    entries = as_list(document.get("manifests") or [], what="fallback index")
    kept = [e for e in entries if as_object(e, what="fallback index").get("digest") not in without]
    document["manifests"] = [*kept, referrer.to_json()]
    return json.dumps(document, separators=(",", ":")).encode()


def remove_from_fallback(
    repository: Manifests,
    subject: Digest,
    referrer: Digest,
    wait: Callable[[str], bool],
    *,
    put: PutIndex | None = None,
) -> None:
    """Take a deleted referrer out of the index at the fallback tag; the last one takes the index along.

    Raises:
        RegistryError: other writers kept putting the entry back.
    """
    while True:
        index = _fallback_index(repository, subject)
        if index is None or all(entry.digest != referrer for entry in index.manifests):
            return
        document = as_object(parse_json(index.body, what="fallback index"), what="fallback index")
        entries = as_list(document.get("manifests") or [], what="fallback index")
        kept = [
            entry
            for entry in entries
            if as_object(entry, what="fallback index").get("digest") != referrer
        ]
        if not kept:
            repository.delete(index.digest)  # not the tag: it may be at a newer index
        else:
            body = json.dumps(document | {"manifests": kept}, separators=(",", ":")).encode()
            if not _put(repository, fallback_tag(subject), index, body, put):
                continue
        if all(entry.digest != referrer for entry in fallback_referrers(repository, subject)):
            return
        if not wait(f"another writer of tag {fallback_tag(subject)} put a deleted entry back"):
            raise RegistryError(
                f"tag {fallback_tag(subject)} still lists {referrer}, which is gone"
            )
