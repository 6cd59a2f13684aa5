"""The attested inventory: a signed CycloneDX SBOM beside each platform manifest, and its reader.

A later match with new advisories starts from it, without pulling a layer. The statement is about
the platform's manifest by digest, so that a copy of the image in another place keeps it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ci_registry.attestations.bundle import Bundle, write_bundle
from ci_registry.attestations.dsse import IN_TOTO, Envelope, pre_authentication_encoding
from ci_registry.attestations.ecdsa import is_signed_by, key_hint, public_key_der
from ci_registry.attestations.manifests import EMPTY, bundle_manifest
from ci_registry.attestations.statement import Statement, Subject, parse_statement, write_statement
from ci_registry.errors import IntegrityError, SignatureError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import Repository
from ci_registry.sbom.cyclonedx import read_cyclonedx, write_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.signers.interface import Signer
from ci_registry.signers.keys import load_public_key
from ci_registry.signers.stored import StoredSignature, read_bundles

CYCLONEDX_PREDICATE = "https://cyclonedx.org/bom"
"""The predicate type of cosign's `attest --type cyclonedx`."""
MAX_INVENTORY_BYTES = 32 * 1024 * 1024
"""Of the bundle; more is not written and not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInventory:
    """Something that claims to be the inventory of an image; no signature was checked."""

    place: str
    signature: bytes
    signed_bytes: bytes
    statement: Statement

    def document(self, digest: Digest) -> SbomDocument:
        """Return the SBOM; call it after the key was checked.

        Raises:
            IntegrityError: it is malformed, or about another image.
        """
        if not any(subject.names(digest) for subject in self.statement.subjects):
            raise IntegrityError(f"{self.place}: it is about another image")
        data = json.dumps(self.statement.predicate, ensure_ascii=False).encode()
        document = read_cyclonedx(data, what=self.place)
        if document.inventory.manifest_digest != str(digest):
            raise IntegrityError(f"{self.place}: its inventory is of another image")
        return document


def read_inventories(repository: Repository, digest: Digest) -> Iterator[StoredInventory]:
    """Yield every attested inventory beside a manifest; what is none is passed over.

    Raises:
        IncompleteError: there is more beside the image than we read.
        RegistryError: a listing or fetch failed.
    """
    bundles = read_bundles(
        repository, digest, max_bytes=MAX_INVENTORY_BYTES, predicate_type=CYCLONEDX_PREDICATE
    )
    for stored in bundles:
        found = _inventory_in(stored)
        if found is not None:
            yield found


def _inventory_in(stored: StoredSignature) -> StoredInventory | None:
    if stored.problem:
        return None
    try:
        statement = parse_statement(stored.payload, max_bytes=MAX_INVENTORY_BYTES)
    except IntegrityError:
        return None  # nobody has vouched for it: a stranger's bundle must not stop the reader
    if statement.predicate_type != CYCLONEDX_PREDICATE:
        return None
    return StoredInventory(
        place=stored.place,
        signature=stored.signature,
        signed_bytes=stored.signed_bytes,
        statement=statement,
    )


def attach_inventory(
    repository: Repository,
    subject: Descriptor,
    document: SbomDocument,
    signer: Signer,
    *,
    created_at: datetime,
) -> bool:
    """Make sure that the inventory of a platform is attested by our key; whether it was written now.

    Args:
        repository: where the image is.
        subject: the platform's manifest.
        document: its SBOM.
        signer: holds the key.
        created_at: the time of the source, so that a second run makes the same bytes.

    Raises:
        SignatureError: the signer made a signature that does not verify.
        IntegrityError: the SBOM is too large to be attested.
        RegistryError: the registry failed.
    """
    key = load_public_key(signer.public_key_pem)
    for stored in read_inventories(repository, subject.digest):
        if is_signed_by(key, stored.signature, stored.signed_bytes):
            try:
                known = stored.document(subject.digest)
            except IntegrityError:
                continue  # of ours, but not of this image or version: write a good one
            if known.inventory == document.inventory:
                return False
    statement = write_statement(
        Statement(
            subjects=(Subject(digests={subject.digest.algorithm: subject.digest.hex}),),
            predicate_type=CYCLONEDX_PREDICATE,
            predicate=json.loads(write_cyclonedx(document)),
        )
    )
    data = pre_authentication_encoding(IN_TOTO, statement)
    signature = signer.sign(data)
    if not is_signed_by(key, signature, data):
        raise SignatureError("the signer's signature does not fit its own public key")
    envelope = Envelope(payload=statement, payload_type=IN_TOTO, signatures=(signature,))
    bundle = write_bundle(Bundle(envelope=envelope, hint=key_hint(public_key_der(key))))
    if len(bundle) > MAX_INVENTORY_BYTES:
        raise IntegrityError(
            f"the SBOM of {subject.digest.short} is too large to be attested:"
            f" {len(bundle)} bytes, {MAX_INVENTORY_BYTES} are allowed",
            hint="set sign.sbom to false",
        )
    _push(repository, bundle, media_types.SIGSTORE_BUNDLE)
    _push(repository, media_types.EMPTY_JSON, EMPTY.media_type)
    body = bundle_manifest(
        bundle, subject, predicate_type=CYCLONEDX_PREDICATE, created_at=created_at
    )
    repository.attach(subject, body, media_types.OCI_MANIFEST)
    return True


def _push(repository: Repository, data: bytes, media_type: str) -> None:
    blob = Descriptor(media_type=media_type, digest=digest_of(data), size=len(data))
    repository.push_blob(blob, lambda: iter((data,)))
