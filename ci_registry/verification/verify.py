"""Verifies image signatures with our own reader, from the registry alone: no log, no network beyond it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ci_registry.config.model import SignFormat
from ci_registry.errors import IncompleteError, IntegrityError, SignatureError, UsageError
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference
from ci_registry.registry.interface import Repository
from ci_registry.signers.stored import (
    Claims,
    StoredSignature,
    read_claims,
    read_signatures,
)
from ci_registry.verification.checks import Check, CheckStatus, VerificationResult
from ci_registry.verification.trust import TrustedKey, TrustedKeys

MAX_DEPTH = 3
"""Nesting of indexes that is followed."""
MAX_CHILDREN = 200
_SHOWN_PROBLEMS = 3
_GOOD = frozenset({CheckStatus.PASSED, CheckStatus.WARNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a signature must say to count."""

    repository: Repository
    reference: Reference
    trusted: TrustedKeys
    require_tag: bool
    signed_as: tuple[str, ...]
    """Names (`registry/repository`) under which a signature counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Whether one stored signature counts, and why or why not."""

    valid: bool
    detail: str
    warning: bool = False


def verify_image(
    repository: Repository,
    subject: Descriptor,
    *,
    reference: Reference,
    trusted: TrustedKeys,
    require_tag: bool,
    with_children: bool = False,
    signed_as: Sequence[str] = (),
) -> VerificationResult:
    """Verify that a trusted key signed the manifest `subject` as an image of this repository.

    One valid signature in either format is enough; bad ones beside it change nothing.

    Args:
        repository: where manifest and signatures are.
        subject: the manifest or index, resolved by the caller to a digest.
        reference: the place that the image is used from; signatures for other places do not count.
        trusted: the keys.
        require_tag: the signature must name the tag of `reference` too. Without it another tag is
            a warning, and a signature that names no place (a bundle of cosign) counts.
        with_children: every platform of an index needs a valid signature of its own too.
        signed_as: further `registry/repository` names under which a signature counts, for copies.

    Raises:
        RegistryError: a listing or fetch failed; also `AccessError`, `NetworkError`.
        NotFoundError: the manifest itself is missing.
        UsageError: `require_tag` for a reference without a tag.
    """
    if require_tag and not reference.tag:
        raise UsageError(f"{reference} has no tag that a signature could name")
    question = _Question(
        repository=repository,
        reference=reference,
        trusted=trusted,
        require_tag=require_tag,
        signed_as=(reference.name, *signed_as),
    )
    checks = tuple(_verify_tree(question, subject, with_children=with_children, depth=0))
    decisive = [c for c in checks if c.name in ("manifest", "signature")]
    return VerificationResult(
        digest=subject.digest,
        checks=checks,
        valid=bool(decisive) and all(c.status in _GOOD for c in decisive),
    )


def _verify_tree(
    question: _Question, subject: Descriptor, *, with_children: bool, depth: int
) -> Iterator[Check]:
    """Yield the checks of one manifest and, when asked, of all below it."""
    name = _name_of(subject)
    manifest, check = _check_manifest(question.repository, subject, name)
    yield check
    if manifest is None:
        return
    yield from _check_signatures(question, subject.digest, name)
    if not with_children or not isinstance(manifest, Index):
        return
    if depth >= MAX_DEPTH or len(manifest.images) > MAX_CHILDREN:
        detail = f"an index nested deeper than {MAX_DEPTH} or with more than {MAX_CHILDREN} images"
        yield Check(name="manifest", status=CheckStatus.ERROR, detail=detail, subject=name)
        return
    for child in manifest.images:
        yield from _verify_tree(question, child, with_children=True, depth=depth + 1)


def _name_of(subject: Descriptor) -> str:
    return f"{subject.digest} ({subject.platform})" if subject.platform else str(subject.digest)


def _check_manifest(
    repository: Repository, subject: Descriptor, name: str
) -> tuple[Manifest | Index | None, Check]:
    """Fetch the manifest and hash its bytes ourselves."""
    try:
        manifest = repository.fetch(subject.digest)
    except IntegrityError as error:
        return None, Check(
            name="manifest", status=CheckStatus.FAILED, detail=error.headline, subject=name
        )
    if digest_of(manifest.body, subject.digest.algorithm) != subject.digest:
        detail = "the registry returned other bytes than this digest"
        return None, Check(name="manifest", status=CheckStatus.FAILED, detail=detail, subject=name)
    detail = f"{len(manifest.body)} bytes hash to {subject.digest}"
    return manifest, Check(name="manifest", status=CheckStatus.PASSED, detail=detail, subject=name)


def _check_signatures(question: _Question, digest: Digest, name: str) -> Iterator[Check]:
    """Yield one check per format and the one that combines them."""
    found = []
    for kind in (SignFormat.SIG, SignFormat.BUNDLE):
        check = _check_format(question, kind, digest, name)
        found.append(check)
        yield check
    yield _combined(found, name)


def _combined(found: list[Check], name: str) -> Check:
    """One good format is enough; an undecided one without a good one leaves it open."""
    for status in (CheckStatus.PASSED, CheckStatus.WARNING, CheckStatus.ERROR, CheckStatus.FAILED):
        for check in found:
            if check.status is status:
                return Check(name="signature", status=status, detail=check.detail, subject=name)
    detail = "no signature: neither a .sig tag nor a bundle"
    return Check(name="signature", status=CheckStatus.FAILED, detail=detail, subject=name)


def _check_format(question: _Question, kind: SignFormat, digest: Digest, name: str) -> Check:
    """Look for the best signature of one format; stops at the first that is good without a warning."""
    problems: list[str] = []
    warning = ""
    try:
        for stored in read_signatures(question.repository, digest, kind):
            answer = _judge(question, stored, digest)
            if answer.valid and not answer.warning:
                return Check(
                    name=kind.value, status=CheckStatus.PASSED, detail=answer.detail, subject=name
                )
            if answer.valid:
                warning = warning or answer.detail
            problems.append(answer.detail)
    except IncompleteError as error:
        problems.append(error.headline)
        status = CheckStatus.WARNING if warning else CheckStatus.ERROR
        return Check(name=kind.value, status=status, detail=warning or error.headline, subject=name)
    except IntegrityError as error:
        problems.append(error.headline)  # the .sig tag holds something else
    if warning:
        return Check(name=kind.value, status=CheckStatus.WARNING, detail=warning, subject=name)
    if not problems:
        return Check(name=kind.value, status=CheckStatus.SKIPPED, detail="none there", subject=name)
    return Check(
        name=kind.value, status=CheckStatus.FAILED, detail=_summary(problems), subject=name
    )


def _summary(problems: list[str]) -> str:
    more = len(problems) - _SHOWN_PROBLEMS
    text = "; ".join(problems[:_SHOWN_PROBLEMS])
    return f"none valid: {text}" + (f"; and {more} more" if more > 0 else "")


def _judge(question: _Question, stored: StoredSignature, digest: Digest) -> _Answer:
    """Check the key first, then what is signed, then for which place."""
    if stored.problem:
        return _Answer(valid=False, detail=f"{stored.place}: {stored.problem}")
    try:
        key = question.trusted.signer_of(stored.signature, stored.signed_bytes)
        if key is None:
            return _Answer(valid=False, detail=f"{stored.place}: not signed by a trusted key")
        claims = read_claims(stored, digest)
    except (IntegrityError, SignatureError) as error:
        return _Answer(valid=False, detail=f"{stored.place}: {error.headline}")
    return _judge_place(question, stored.place, key, claims)


def _judge_place(question: _Question, place: str, key: TrustedKey, claims: Claims) -> _Answer:
    by = f"{place}: signed by key {key.fingerprint}"
    if claims.unnamed:
        detail = f"{by}, but it names no place"
        return _Answer(valid=not question.require_tag, warning=True, detail=detail)
    here = [r for r in claims.references if r.name in question.signed_as]
    if not here:
        named = ", ".join(str(r) for r in claims.references[:2]) or "an unknown place"
        return _Answer(valid=False, detail=f"{by} for another place: {named}")
    tag = question.reference.tag
    same_tag = next((r for r in here if r.tag == tag), None)
    if same_tag is not None:
        return _Answer(valid=True, detail=f"{by} as {same_tag}")
    if question.require_tag:
        return _Answer(valid=False, detail=f"{by} as {here[0]}, not with tag {tag}")
    general = next((r for r in here if not r.tag), None)
    if general is not None or not tag:
        return _Answer(valid=True, detail=f"{by} as {general or here[0]}")
    return _Answer(valid=True, warning=True, detail=f"{by} as {here[0]}, not with tag {tag}")
