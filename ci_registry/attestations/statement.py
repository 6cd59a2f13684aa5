"""in-toto statements v1: the writer, a strict reader, and the statement that is an image signature."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from ci_registry.attestations.shape import exact_members
from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.strict import MAX_JSON_BYTES, as_list, as_object, as_text, parse_json

STATEMENT_V1 = "https://in-toto.io/Statement/v1"
STATEMENT_V01 = "https://in-toto.io/Statement/v0.1"
"""cosign's `attest` still writes this one."""
IMAGE_SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of an image signature; its predicate is empty."""
MAX_SUBJECTS = 1024
MAX_DIGESTS = 32
_WHAT = "in-toto statement"
_SUBJECT_MEMBERS = ("name", "uri", "content", "downloadLocation", "mediaType", "annotations")
_DIGEST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOWER_HEX = re.compile(r"(?:[0-9a-f]{2}){1,256}")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing that a statement is about."""

    digests: dict[str, str]
    """Algorithm → lower-case hexadecimal."""
    name: str = ""
    """Ours: `registry/repo[:tag]`. Empty in what cosign signs."""
    annotations: dict[str, object] = field(default_factory=dict)

    def names(self, digest: Digest) -> bool:
        """Whether this is the manifest with `digest`."""
        return self.digests.get(digest.algorithm) == digest.hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A predicate about subjects."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, object] = field(default_factory=dict)


def image_signature(digest: Digest, names: Iterable[str]) -> Statement:
    """Return the statement that signs one manifest under each of `names` (`registry/repo[:tag]`)."""
    return Statement(
        subjects=tuple(Subject(name=n, digests={digest.algorithm: digest.hex}) for n in names),
        predicate_type=IMAGE_SIGNATURE,
    )


def write_statement(statement: Statement) -> bytes:
    """Return the statement as compact JSON; the same input gives the same bytes."""
    document = {
        "_type": STATEMENT_V1,
        "subject": [_subject_to_json(subject) for subject in statement.subjects],
        "predicateType": statement.predicate_type,
        "predicate": statement.predicate,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _subject_to_json(subject: Subject) -> dict[str, object]:
    result: dict[str, object] = {"name": subject.name} if subject.name else {}
    result["digest"] = dict(subject.digests)
    return result | ({"annotations": subject.annotations} if subject.annotations else {})


def parse_statement(payload: bytes, *, max_bytes: int = MAX_JSON_BYTES) -> Statement:
    """Parse a statement v1 or v0.1: no unknown member, at least one subject, lower-case digests.

    Raises:
        IntegrityError: it breaks one of these rules or a limit.
    """
    data = exact_members(
        parse_json(payload, what=_WHAT, max_bytes=max_bytes),
        ("_type", "subject", "predicateType"),
        optional=("predicate",),
        what=_WHAT,
    )
    if data["_type"] not in (STATEMENT_V1, STATEMENT_V01):
        raise IntegrityError(f"{_WHAT}: its _type is not {STATEMENT_V1!r}")
    entries = as_list(data["subject"], what=f"{_WHAT}: subject")
    if not 1 <= len(entries) <= MAX_SUBJECTS:
        raise IntegrityError(f"{_WHAT}: {len(entries)} subjects, expected 1 to {MAX_SUBJECTS}")
    predicate_type = as_text(data["predicateType"], what=f"{_WHAT}: predicateType")
    if not predicate_type:
        raise IntegrityError(f"{_WHAT}: predicateType is empty")
    return Statement(
        subjects=tuple(_parse_subject(entry) for entry in entries),
        predicate_type=predicate_type,
        predicate=as_object(data.get("predicate", {}), what=f"{_WHAT}: predicate"),
    )


def _parse_subject(value: object) -> Subject:
    what = f"{_WHAT}: subject"
    data = exact_members(value, ("digest",), optional=_SUBJECT_MEMBERS, what=what)
    digests = as_object(data["digest"], what=f"{what}: digest")
    if not 1 <= len(digests) <= MAX_DIGESTS:
        raise IntegrityError(f"{what}: {len(digests)} digests, expected 1 to {MAX_DIGESTS}")
    return Subject(
        name=as_text(data.get("name", ""), what=f"{what}: name"),
        digests={name: _parse_digest(name, text) for name, text in digests.items()},
        annotations=as_object(data.get("annotations", {}), what=f"{what}: annotations"),
    )


def _parse_digest(name: str, value: object) -> str:
    what = f"{_WHAT}: subject: digest"
    text = as_text(value, what=what)
    pattern = _SHA256_HEX if name.lower() == "sha256" else _LOWER_HEX
    if not _DIGEST_NAME.fullmatch(name) or not pattern.fullmatch(text):
        raise IntegrityError(f"{what}: not lower-case hexadecimal of {name[:64]!r}")
    return text
