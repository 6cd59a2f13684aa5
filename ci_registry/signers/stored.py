"""Reads the signatures that lie beside an image, bounded, and says what each of them claims.

Nothing here trusts anything: a caller checks the key first and reads the claims afterwards.
A listing that fails is an error and never "no signatures".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ci_registry.attestations.bundle import MAX_BUNDLE_BYTES, parse_bundle
from ci_registry.attestations.ecdsa import parse_der_signature
from ci_registry.attestations.manifests import PREDICATE_TYPE_ANNOTATION, signature_tag
from ci_registry.attestations.shape import decode_base64
from ci_registry.attestations.simplesigning import (
    MAX_PAYLOAD_BYTES,
    SIGNATURE_ANNOTATION,
    parse_payload,
)
from ci_registry.attestations.statement import IMAGE_SIGNATURE, parse_statement
from ci_registry.config.model import SignFormat
from ci_registry.errors import (
    IncompleteError,
    IntegrityError,
    NotFoundError,
    SignatureError,
    UsageError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.content import bounded, opened
from ci_registry.registry.interface import Repository

MAX_SIG_LAYERS = 1000
"""cosign's own limit: one more and both its majors refuse them all."""
MAX_REFERRERS = 1000
"""More are not opened; if no good signature was among them, the answer is incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSignature:
    """Something in the place of a signature; of its content nothing is checked but the encoding."""

    format: SignFormat
    place: str
    """For people: `.sig layer 2`, `bundle 0123456789ab`."""
    position: int
    """Of the layer in the `.sig` manifest, or of the referrer in the order read; from 0."""
    problem: str = ""
    """Why it can't be a signature; then the rest is empty."""
    payload: bytes = b""
    signed_bytes: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Under which names a signature puts a manifest."""

    references: tuple[Reference, ...]
    unnamed: bool = False
    """It names no place at all, as the bundles of cosign: it counts wherever the digest is."""


def read_signatures(
    repository: Repository, digest: Digest, kind: SignFormat
) -> Iterator[StoredSignature]:
    """Yield what lies beside an image in one format, or in both.

    Raises:
        IncompleteError: at the end, when there is more than we read.
        IntegrityError: the `.sig` tag holds something that is no signature manifest.
        RegistryError: a listing failed.
    """
    if kind is not SignFormat.BUNDLE:
        manifest = fetch_sig_manifest(repository, digest)
        if manifest is not None:
            yield from read_sig_layers(repository, manifest, {})
    if kind is not SignFormat.SIG:
        yield from read_bundles(repository, digest)


def fetch_sig_manifest(repository: Repository, digest: Digest) -> Manifest | None:
    """Return the manifest under the `.sig` tag of an image, None when there is no such tag.

    Raises:
        IntegrityError: the tag holds something else than an image manifest.
    """
    tag = signature_tag(digest)
    try:
        found = repository.fetch(tag)
    except NotFoundError:
        return None
    if isinstance(found, Index):
        raise IntegrityError(
            f"{repository.name}:{tag} is an index, not a signature manifest",
            hint="somebody put it there: delete that tag",
        )
    return found


def read_sig_layers(
    repository: Repository, manifest: Manifest, known: Mapping[Digest, bytes]
) -> Iterator[StoredSignature]:
    """Yield every simple-signing layer of a `.sig` manifest, in order.

    Args:
        repository: where its blobs are.
        manifest: from `fetch_sig_manifest`.
        known: payloads by digest that need not be fetched.

    Raises:
        IncompleteError: after `MAX_SIG_LAYERS`, when there are more.
    """
    for position, layer in enumerate(manifest.layers):
        if position >= MAX_SIG_LAYERS:
            raise IncompleteError(
                f"{len(manifest.layers)} signatures under one tag, only {MAX_SIG_LAYERS} were read",
                hint="remove old signatures: delete the .sig tag and sign again",
            )
        if layer.media_type == media_types.SIMPLE_SIGNING:
            yield _read_layer(repository, layer, position, known)


def _read_layer(
    repository: Repository, layer: Descriptor, position: int, known: Mapping[Digest, bytes]
) -> StoredSignature:
    place = f".sig layer {position + 1}"
    try:
        text = layer.annotations.get(SIGNATURE_ANNOTATION, "")
        signature = decode_base64(text, what="signature")
        parse_der_signature(signature)
        payload = known.get(layer.digest, b"")
        if not payload:
            payload = _read_blob(repository, layer, MAX_PAYLOAD_BYTES)
        elif repository.size_of(layer.digest) != layer.size:
            raise IntegrityError("its payload is gone, or has another size")
    except (IntegrityError, NotFoundError, SignatureError) as error:
        return StoredSignature(
            format=SignFormat.SIG, place=place, position=position, problem=error.headline
        )
    return StoredSignature(
        format=SignFormat.SIG,
        place=place,
        position=position,
        payload=payload,
        signed_bytes=payload,
        signature=signature,
    )


def read_bundles(
    repository: Repository,
    digest: Digest,
    *,
    max_bytes: int = MAX_BUNDLE_BYTES,
    predicate_type: str = "",
) -> Iterator[StoredSignature]:
    """Yield every Sigstore bundle that refers to a manifest.

    All referrers are opened and their first layer decides: cosign writes wrong fields into the
    listing, so those only set the order. One larger than `max_bytes` is a problem, unread.
    With a `predicate_type`, those that are listed as something else are left out, unread: for callers
    to whom a wrong listing means nothing worse than finding less.

    Raises:
        IncompleteError: after `MAX_REFERRERS`, when there are more.
    """
    listed = sorted(
        (d for d in repository.referrers(digest) if _may_be(d, predicate_type)),
        key=lambda d: d.artifact_type != media_types.SIGSTORE_BUNDLE,
    )
    for position, descriptor in enumerate(listed):
        if position >= MAX_REFERRERS:
            raise IncompleteError(
                f"{len(listed)} artifacts refer to the image, only {MAX_REFERRERS} were read",
                hint="remove old signatures and attestations",
            )
        candidate = _read_referrer(repository, descriptor, digest, position, max_bytes)
        if candidate is not None:
            yield candidate


def _may_be(descriptor: Descriptor, predicate_type: str) -> bool:
    told = descriptor.annotations.get(PREDICATE_TYPE_ANNOTATION, "")
    return not predicate_type or not told or told == predicate_type


def _read_referrer(
    repository: Repository, descriptor: Descriptor, digest: Digest, position: int, max_bytes: int
) -> StoredSignature | None:
    """Return the bundle in one referrer, None when it is no bundle of this image."""
    place = f"bundle {descriptor.digest.short}"
    try:
        manifest = repository.fetch(descriptor.digest)
        if isinstance(manifest, Index) or not manifest.layers:
            return None
        if manifest.subject is None or manifest.subject.digest != digest:
            return None
        layer = manifest.layers[0]
        if layer.media_type != media_types.SIGSTORE_BUNDLE:
            return None
        envelope = parse_bundle(
            _read_blob(repository, layer, max_bytes), max_bytes=max_bytes
        ).envelope
        parse_der_signature(envelope.signatures[0])
    except (IntegrityError, NotFoundError, SignatureError) as error:
        return StoredSignature(
            format=SignFormat.BUNDLE, place=place, position=position, problem=error.headline
        )
    return StoredSignature(
        format=SignFormat.BUNDLE,
        place=place,
        position=position,
        payload=envelope.payload,
        signed_bytes=envelope.signed_bytes,
        signature=envelope.signatures[0],
    )


def _read_blob(repository: Repository, blob: Descriptor, max_bytes: int) -> bytes:
    """Read a small blob; a declared size over `max_bytes` is refused without a request."""
    what = f"blob {blob.digest.short}"
    if blob.size > max_bytes:
        raise IntegrityError(f"{what}: says {blob.size} bytes, more than {max_bytes} allowed")
    with opened(lambda: repository.open(blob.digest)) as chunks:
        data = b"".join(bounded(chunks, blob.size, what=what))
    if len(data) != blob.size:
        raise IntegrityError(f"{what}: {len(data)} bytes instead of {blob.size}")
    return data


def read_claims(stored: StoredSignature, digest: Digest) -> Claims:
    """Return what a signature says of the manifest `digest`; call it after the key was checked.

    Raises:
        IntegrityError: the payload is malformed, is about another manifest, or is a statement of
            another type: an attestation is no signature, whoever signed it.
    """
    if stored.format is SignFormat.SIG:
        payload = parse_payload(stored.payload)
        if payload.digest != digest:
            raise IntegrityError(f"it signs another image: {payload.digest}")
        return Claims(references=(payload.reference,))
    statement = parse_statement(stored.payload)
    if statement.predicate_type != IMAGE_SIGNATURE:
        kind = statement.predicate_type[:100]
        raise IntegrityError(f"it is an attestation ({kind!r}), not an image signature")
    names = [subject.name for subject in statement.subjects if subject.names(digest)]
    if not names:
        raise IntegrityError("it signs another image")
    return Claims(references=_references(names), unnamed=not any(names))


def _references(names: list[str]) -> tuple[Reference, ...]:
    found = []
    for name in filter(None, names):
        try:
            found.append(parse_reference(name))
        except UsageError:
            continue  # not a place that an image can be in, so it matches none
    return tuple(found)
