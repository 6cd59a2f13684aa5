"""Signs a manifest and stores the signature beside it, as `.sig` tag and as bundle, each only once.

Deterministic signatures make a second run find what the first one wrote. Call this only after the
verdict: whatever is signed here counts as released for everybody who trusts the key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ci_registry.attestations.bundle import Bundle, write_bundle
from ci_registry.attestations.dsse import IN_TOTO, Envelope, pre_authentication_encoding
from ci_registry.attestations.ecdsa import is_signed_by, key_hint, public_key_der
from ci_registry.attestations.manifests import (
    EMPTY,
    bundle_manifest,
    sig_config,
    sig_layer,
    sig_manifest,
    signature_tag,
)
from ci_registry.attestations.shape import encode_base64
from ci_registry.attestations.simplesigning import write_payload
from ci_registry.attestations.statement import IMAGE_SIGNATURE, image_signature, write_statement
from ci_registry.cancel import Cancel
from ci_registry.config.model import SignFormat
from ci_registry.errors import (
    IncompleteError,
    IntegrityError,
    RegistryError,
    SetupError,
    SignatureError,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import MAX_MANIFEST_BYTES, Descriptor, Manifest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.interface import Repository
from ci_registry.signers.interface import Signer
from ci_registry.signers.keys import load_public_key
from ci_registry.signers.stored import (
    MAX_SIG_LAYERS,
    StoredSignature,
    fetch_sig_manifest,
    read_bundles,
    read_claims,
    read_sig_layers,
)
from ci_registry.strict import as_list, as_object, as_text, parse_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MAX_OWN_LAYERS = 16
"""How many `.sig` layers of one key are kept: verifiers read all of them each time."""
_ATTEMPTS = 6
_FIRST_WAIT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureOutcome:
    """Which formats were written and which were valid already: `sig`, `bundle`."""

    written: tuple[str, ...]
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be signed, with which key, where."""

    repository: Repository
    subject: Descriptor
    references: tuple[Reference, ...]
    signer: Signer
    key: "EllipticCurvePublicKey"

    def sign(self, data: bytes) -> bytes:
        """Sign and check: a signer that is broken or holds another key must not get through."""
        signature = self.signer.sign(data)
        if not is_signed_by(self.key, signature, data):
            raise SignatureError("the signer's signature does not fit its own public key")
        return signature

    def references_of(self, candidate: StoredSignature) -> tuple[Reference, ...]:
        """Return under which names our own key has signed the subject here; empty for all others."""
        if candidate.problem:
            return ()
        try:
            if not is_signed_by(self.key, candidate.signature, candidate.signed_bytes):
                return ()
            return read_claims(candidate, self.subject.digest).references
        except (IntegrityError, SignatureError):
            return ()  # a signature of ours for something else


def sign_image(
    repository: Repository,
    subject: Descriptor,
    references: Sequence[Reference],
    signer: Signer,
    formats: SignFormat = SignFormat.BOTH,
    *,
    created_at: datetime,
    cancel: Cancel | None = None,
) -> SignatureOutcome:
    """Make sure that `subject` is signed in every format under every reference.

    The manifest itself is not fetched, so a registry that refuses pulls of unsigned images is fine.

    Args:
        repository: where the signatures go; the place of the manifest.
        subject: the manifest or index; an index and its platforms are signed one by one.
        references: `registry/repo:tag` of each tag; empty for the repository without a tag. They
            may name another place than `repository` (a dry run's stand-in).
        signer: holds the key.
        formats: which formats to write.
        created_at: the time of the source, so that a second run makes the same bytes.
        cancel: ends the waits between attempts.

    Raises:
        SetupError: the `.sig` tag is full.
        RegistryError: the registry failed, or other writers kept removing our signature.
        SignatureError: the signer made a signature that does not verify.
    """
    job = _Job(
        repository=repository,
        subject=subject,
        references=signed_names(repository, references),
        signer=signer,
        key=load_public_key(signer.public_key_pem),
    )
    written: dict[str, bool] = {}
    if formats in (SignFormat.BOTH, SignFormat.SIG):
        written["sig"] = _attach_sig(job, cancel or Cancel())
    if formats in (SignFormat.BOTH, SignFormat.BUNDLE):
        written["bundle"] = _attach_bundle(job, created_at)
    return SignatureOutcome(
        written=tuple(name for name, new in written.items() if new),
        found=tuple(name for name, new in written.items() if not new),
    )


def signed_names(repository: Repository, references: Sequence[Reference]) -> tuple[Reference, ...]:
    """Return the names that a signature claims: each `registry/repo:tag` once, or the repository.

    Raises:
        UsageError: there is no reference, and the repository is a folder.
    """
    names = references or (parse_reference(repository.name),)
    return tuple(
        dict.fromkeys(
            Reference(registry=r.registry, repository=r.repository, tag=r.tag) for r in names
        )
    )


# --- .sig


@dataclass(frozen=True, slots=True, kw_only=True)
class _SigTag:
    """What lies under the `.sig` tag of the subject."""

    manifest: Manifest | None
    own: dict[int, Reference]
    """Layers that are valid signatures of our key over the subject, by position, oldest first."""


def _attach_sig(job: _Job, cancel: Cancel) -> bool:
    """Add missing layers and read back until all are there; returns whether any were written.

    The tag is read, changed and written, and registries have no lock, so two writers can undo
    each other.
    """
    payloads = {r: write_payload(r, job.subject.digest) for r in job.references}
    written = False
    for attempt in range(_ATTEMPTS + 1):
        if attempt > 1:
            cancel.sleep(_FIRST_WAIT_S * 2 ** (attempt - 2))
        tag = _read_sig_tag(job, payloads)
        missing = [payloads[r] for r in job.references if r not in tag.own.values()]
        if not missing:
            return written
        if attempt < _ATTEMPTS:
            written |= _put_sig(job, tag, missing)
    raise RegistryError(
        f"the signature under {job.repository.name}:{signature_tag(job.subject.digest)} did not stay",
        hint="another job writes signatures for the same image: run this one again",
    )


def _read_sig_tag(job: _Job, payloads: dict[Reference, bytes]) -> _SigTag:
    """Read the tag; stops at the layer with which everything wanted is found."""
    manifest = fetch_sig_manifest(job.repository, job.subject.digest)
    own: dict[int, Reference] = {}
    if manifest is None:
        return _SigTag(manifest=None, own=own)
    known = {digest_of(payload): payload for payload in payloads.values()}
    wanted = set(payloads)
    try:
        for candidate in read_sig_layers(job.repository, manifest, known):
            for reference in job.references_of(candidate):
                own[candidate.position] = reference
                wanted.discard(reference)
            if not wanted:
                break
    except IncompleteError:
        return _SigTag(manifest=manifest, own=own)  # _put_sig says that it is full
    return _SigTag(manifest=manifest, own=own)


def _put_sig(job: _Job, tag: _SigTag, payloads: list[bytes]) -> bool:
    """Write the tag with one more layer per payload; false when somebody else wrote meanwhile."""
    name = signature_tag(job.subject.digest)
    previous: dict[str, object] = {}
    layers: list[dict[str, object]] = []
    if tag.manifest is not None:
        previous = as_object(parse_json(tag.manifest.body, what=name), what=name)
        kept = as_list(previous["layers"], what=name)
        dropped = _superseded(job, tag, len(payloads))
        layers = [as_object(x, what=name) for i, x in enumerate(kept) if i not in dropped]
    layers += [sig_layer(p, encode_base64(job.sign(p))) for p in payloads]
    config = sig_config([as_text(layer["digest"], what=name) for layer in layers])
    body = sig_manifest(layers, config, previous)
    _check_room(job, name, len(layers), len(body))
    for payload in payloads:
        _push_blob(job.repository, payload, media_types.SIMPLE_SIGNING)
    _push_blob(job.repository, config, media_types.OCI_CONFIG)
    if not _is_unchanged(job.repository, name, tag.manifest):
        return False
    job.repository.push(name, body, media_types.OCI_MANIFEST)
    return True


def _superseded(job: _Job, tag: _SigTag, added: int) -> frozenset[int]:
    """Return the positions of our oldest layers that are over the limit and not wanted now."""
    too_many = len(tag.own) + added - MAX_OWN_LAYERS
    removable = [i for i, reference in tag.own.items() if reference not in job.references]
    return frozenset(removable[: max(0, too_many)])


def _check_room(job: _Job, name: str, layer_count: int, size_bytes: int) -> None:
    if layer_count > MAX_SIG_LAYERS or size_bytes > MAX_MANIFEST_BYTES:
        raise SetupError(
            f"no room for another signature under {job.repository.name}:{name}: "
            f"{layer_count} signatures, {size_bytes} bytes",
            hint=f"cosign reads at most {MAX_SIG_LAYERS}: delete that tag, then sign again",
        )


def _is_unchanged(repository: Repository, name: str, manifest: Manifest | None) -> bool:
    now = repository.resolve(name)
    return (now.digest if now else None) == (manifest.digest if manifest else None)


def _push_blob(repository: Repository, data: bytes, media_type: str) -> Descriptor:
    blob = Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
    repository.push_blob(blob, lambda: iter((data,)))
    return blob


# --- bundle


def _attach_bundle(job: _Job, created_at: datetime) -> bool:
    """Attach one bundle for all references that no bundle of ours covers; whether one was written."""
    missing = _uncovered(job)
    if not missing:
        return False
    statement = write_statement(image_signature(job.subject.digest, [str(r) for r in missing]))
    signature = job.sign(pre_authentication_encoding(IN_TOTO, statement))
    envelope = Envelope(payload=statement, payload_type=IN_TOTO, signatures=(signature,))
    bundle = write_bundle(Bundle(envelope=envelope, hint=key_hint(public_key_der(job.key))))
    body = bundle_manifest(
        bundle, job.subject, predicate_type=IMAGE_SIGNATURE, created_at=created_at
    )
    _push_blob(job.repository, bundle, media_types.SIGSTORE_BUNDLE)
    _push_blob(job.repository, media_types.EMPTY_JSON, EMPTY.media_type)
    job.repository.attach(job.subject, body, media_types.OCI_MANIFEST)
    return True


def _uncovered(job: _Job) -> list[Reference]:
    """Return the references for which no valid bundle of our key refers to the subject."""
    missing = list(job.references)
    try:
        for candidate in read_bundles(job.repository, job.subject.digest):
            covered = job.references_of(candidate)
            missing = [reference for reference in missing if reference not in covered]
            if not missing:
                break
    except IncompleteError:
        return missing  # not among those that verifiers read, so it is written once more
    return missing
