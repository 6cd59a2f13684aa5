"""The single steps that work on a reference: `sign` and `verify`."""

from dataclasses import dataclass
from pathlib import Path

from ci_registry.errors import ExitCode, NotFoundError, SetupError, UsageError
from ci_registry.files import read_file
from ci_registry.oci.manifest import Descriptor, Index
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.interface import Repository
from ci_registry.reports.result_json import read_result
from ci_registry.signers.interface import Signer
from ci_registry.wiring.basis import Basis, Caller, read_basis
from ci_registry.wiring.registries import open_registries
from ci_registry.wiring.signing import load_signer

_MAX_RESULT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLine:
    """One check of a verification, for printing."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOutcome:
    """What `verify` found."""

    reference: str
    digest: str
    valid: bool
    checks: tuple[VerifiedLine, ...]
    exit_code: ExitCode = ExitCode.OK
    """6 when a signature is missing or invalid, 5 when that could not be decided."""

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "schema_version": 1,
            "reference": self.reference,
            "digest": self.digest,
            "valid": self.valid,
            "checks": [
                {"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks
            ],
        }


def _resolve(repository: Repository, reference: Reference) -> Descriptor:
    found = repository.resolve(reference.target)
    if found is None:
        raise NotFoundError(
            f"{reference} does not exist", hint="check the name, the tag and the login"
        )
    return found


def sign_reference(caller: Caller, text: str, result_file: Path) -> tuple[str, ...]:
    """Sign an image that passed, and all of its platforms; returns what was done, line by line.

    Raises:
        UsageError: the result does not say that this digest passed, or a change request asks.
        SetupError: there is no usable key.
        SignatureError: what was written does not verify.
    """
    from ci_registry.signers.attach import sign_image
    from ci_registry.verification.read_back import verify_signed_by

    reference = parse_reference(text)
    basis = read_basis(caller, needs_images=False)
    if basis.ci.is_change_request:
        raise UsageError(
            "a change that nobody has merged yet is never signed",
            hint="sign in the pipeline of the branch or tag",
        )
    saved = read_result(read_file(result_file, max_bytes=_MAX_RESULT_BYTES))
    with open_registries(caller, basis) as registries:
        repository = registries.open(reference)
        subject = _resolve(repository, reference)
        passed = not saved.dry_run and any(
            image.digest == subject.digest and image.passed for image in saved.images
        )
        if not passed:
            raise UsageError(
                f"{result_file} does not say that {subject.digest} passed, so it is not signed",
                hint="only digests that `ci-registry run` or `scan` let through are signed;"
                " a dry run, audit mode or a policy that is not trusted do not count",
            )
        signer = _required_signer(caller, basis)
        names = (reference,) if reference.tag else ()
        lines = []
        for descriptor in _with_children(repository, subject):
            done = sign_image(
                repository,
                descriptor,
                names,
                signer,
                basis.settings.sign.format,
                created_at=caller.now(),
                cancel=caller.cancel,
            )
            result = verify_signed_by(
                repository, descriptor, names, signer.public_key_pem, basis.settings.sign.format
            )
            if (failure := result.failure()) is not None:
                raise failure
            words = [f"{kind} written" for kind in done.written]
            words += [f"{kind} already valid" for kind in done.found]
            lines.append(f"{reference.name}@{descriptor.digest}: {', '.join(words)}")
        return tuple(lines)


def _required_signer(caller: Caller, basis: Basis) -> Signer:
    signer = load_signer(caller, basis)
    if signer is None:
        raise SetupError(f"{basis.settings.sign.key} is not set", hint="name a key with --sign-key")
    return signer


def _with_children(repository: Repository, subject: Descriptor) -> tuple[Descriptor, ...]:
    """Return an index and its platform images, or the one manifest."""
    manifest = repository.fetch(subject.digest)
    if not isinstance(manifest, Index):
        return (manifest.descriptor,)
    return (manifest.descriptor, *manifest.images)


def verify_reference(caller: Caller, text: str, *, check_tag: bool) -> VerifyOutcome:
    """Verify the signatures of an image with the public key; the private key is never touched.

    Raises:
        SetupError: there is no public key.
        RegistryError: a listing failed, which is never "no signatures".
    """
    from ci_registry.verification.checks import CheckStatus
    from ci_registry.verification.trust import load_trust
    from ci_registry.verification.verify import verify_image

    reference = parse_reference(text)
    basis = read_basis(caller, needs_images=False)
    trusted = load_trust(basis.settings.trust, caller.env, basis.trusted.read)
    with open_registries(caller, basis) as registries:
        repository = registries.open(reference)
        subject = _resolve(repository, reference)
        result = verify_image(
            repository,
            subject,
            reference=reference,
            trusted=trusted,
            require_tag=check_tag,
            with_children=True,
        )
    good = (CheckStatus.PASSED, CheckStatus.WARNING, CheckStatus.SKIPPED)
    lines = tuple(
        VerifiedLine(
            name=f"{check.name} {check.subject}".strip(),
            passed=check.status in good,
            detail=f"{check.status}: {check.detail}",
        )
        for check in result.checks
    )
    failure = result.failure()
    return VerifyOutcome(
        reference=str(reference),
        digest=str(subject.digest),
        valid=result.valid,
        checks=lines,
        exit_code=failure.exit_code if failure else ExitCode.OK,
    )
