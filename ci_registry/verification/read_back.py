"""Reads signatures back after signing and verifies them with the public key, before any tag moves."""

from collections.abc import Sequence

from ci_registry.config.model import SignFormat
from ci_registry.errors import IncompleteError, IntegrityError, SignatureError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import Reference
from ci_registry.registry.interface import Repository
from ci_registry.signers.attach import signed_names
from ci_registry.signers.stored import StoredSignature, read_claims, read_signatures
from ci_registry.verification.checks import Check, CheckStatus, VerificationResult
from ci_registry.verification.trust import TrustedKeys, parse_trust


def verify_signed_by(
    repository: Repository,
    subject: Descriptor,
    references: Sequence[Reference],
    public_key_pem: bytes,
    formats: SignFormat = SignFormat.BOTH,
) -> VerificationResult:
    """Verify that every format holds a valid signature by this key for every reference.

    The arguments are those of `signers.attach.sign_image`. The manifest itself is not fetched;
    what was published is compared elsewhere.

    Raises:
        RegistryError: a listing or fetch failed; also `AccessError`, `NetworkError`.
    """
    trusted = parse_trust(public_key_pem, "the signer")
    names = signed_names(repository, references)
    kinds = (SignFormat.SIG, SignFormat.BUNDLE) if formats is SignFormat.BOTH else (formats,)
    checks = tuple(_check_format(repository, kind, subject, names, trusted) for kind in kinds)
    worst = next((c for c in checks if c.status is not CheckStatus.PASSED), checks[0])
    combined = Check(
        name="signature", status=worst.status, detail=worst.detail, subject=str(subject.digest)
    )
    return VerificationResult(
        digest=subject.digest,
        checks=(*checks, combined),
        valid=combined.status is CheckStatus.PASSED,
    )


def _check_format(
    repository: Repository,
    kind: SignFormat,
    subject: Descriptor,
    names: tuple[Reference, ...],
    trusted: TrustedKeys,
) -> Check:
    missing = list(names)
    status, detail = CheckStatus.FAILED, ""
    try:
        for stored in read_signatures(repository, subject.digest, kind):
            claimed = _claimed(stored, subject.digest, trusted)
            missing = [name for name in missing if name not in claimed]
            if not missing:
                break
    except IncompleteError as error:
        status, detail = CheckStatus.ERROR, error.headline
    except IntegrityError as error:
        detail = error.headline
    if not missing:
        status, detail = CheckStatus.PASSED, f"signed by key {trusted.keys[0].fingerprint}"
    elif not detail:
        detail = f"{kind}: the signature for {missing[0]} is not there, or not as it was written"
    return Check(name=kind.value, status=status, detail=detail, subject=str(subject.digest))


def _claimed(
    stored: StoredSignature, digest: Digest, trusted: TrustedKeys
) -> tuple[Reference, ...]:
    """Return what a signature claims; nothing unless it is valid and by the trusted key."""
    if stored.problem:
        return ()
    try:
        if trusted.signer_of(stored.signature, stored.signed_bytes) is None:
            return ()
        return read_claims(stored, digest).references
    except (IntegrityError, SignatureError):
        return ()  # by the same key, but for something else
