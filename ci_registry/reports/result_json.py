"""Writes `result.json`, describes it as a JSON schema, and reads back what signing needs of it."""

import json
from dataclasses import dataclass
from typing import Any

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest
from ci_registry.reports.json_shape import SchemaWriter, to_plain
from ci_registry.reports.totals import (
    count_treated,
    counts_of,
    failed_step,
    image_ref,
    platform_digests,
    pushed_name,
    refs_of,
    tags_of,
    written_images,
)
from ci_registry.results import ImageResult, RunResult, Treatment, Verdict
from ci_registry.strict import as_list, as_object, as_text, parse_json

SCHEMA_VERSION = 1
MAX_RESULT_BYTES = 64 * 1024 * 1024
_STRING = {"type": "string"}
_BOOLEAN = {"type": "boolean"}
_STRINGS = {"type": "array", "items": _STRING}
_COUNT = {"type": "integer", "minimum": 0}
_COUNTS = {
    "type": "object",
    "additionalProperties": {"type": "object", "additionalProperties": _COUNT},
}
_NO_IMAGE: dict[str, Any] = {
    "digest": "",
    "image": "",
    "image_ref": "",
    "tags": [],
    "platform_digests": {},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """What a saved result says of one image."""

    name: str
    digest: Digest | None
    verdict: Verdict
    enforced_verdict: Verdict
    """What `mode: enforce` would have said; equal to `verdict` when there was no decision."""
    policy_digest: str
    """Empty when there was no decision."""
    decided_at: str = ""
    """RFC 3339, UTC; empty when there was no decision."""
    destinations: tuple[str, ...] = ()
    policy_source: str = ""
    """Empty when there was no decision."""

    @property
    def passed(self) -> bool:
        """Whether it was judged, by a policy that a change can't have written, and enforce lets it through."""
        return (
            bool(self.policy_digest)
            and not self.policy_source.startswith("untrusted")
            and self.verdict.lets_through
            and self.enforced_verdict.lets_through
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedResult:
    """What was read back from `result.json`."""

    tool_version: str
    dry_run: bool
    images: tuple[SavedImage, ...]


def summary_of(result: RunResult) -> dict[str, Any]:
    """Return the facts that are also outputs of the action; with several images no digest stands for all."""
    images = written_images(result)
    one = image_summary(images[0]) if len(images) == 1 else _NO_IMAGE
    return {
        "verdict": str(result.verdict),
        "exit_code": int(result.exit_code),
        "failed_step": failed_step(result),
        "digest": one["digest"],
        "image": one["image"],
        "image_ref": one["image_ref"],
        "refs": [ref for image in images for ref in refs_of(image)],
        "tags": one["tags"],
        "platform_digests": one["platform_digests"],
        "pushed": bool(images) and all(image.pushed for image in images),
        "reused": bool(images) and all(image.action == "reuse" for image in images),
        "signed": bool(images) and all(image.signed for image in images),
        "counts": counts_of(images),
        "blocking_count": count_treated(images, Treatment.BLOCK),
        "waived_count": count_treated(images, Treatment.WAIVED),
    }


def image_summary(image: ImageResult) -> dict[str, Any]:
    """Return the same facts for one image of several."""
    return {
        "verdict": str(image.verdict),
        "exit_code": int(image.exit_code),
        "failed_step": image.failed_step,
        "digest": str(image.digest or ""),
        "image": pushed_name(image),
        "image_ref": image_ref(image),
        "refs": list(refs_of(image)),
        "tags": list(tags_of(image)),
        "platform_digests": platform_digests(image),
        "pushed": image.pushed,
        "reused": image.action == "reuse",
        "signed": image.signed,
        "counts": counts_of((image,)),
        "blocking_count": count_treated((image,), Treatment.BLOCK),
        "waived_count": count_treated((image,), Treatment.WAIVED),
    }


def render_result(result: RunResult) -> str:
    """Return `result.json`: everything about the run but the package lists, which the SBOMs have."""
    whole = to_plain(result)
    for plain, image in zip(whole["images"], written_images(result), strict=True):
        plain.update(image_summary(image))
    document = {"schema_version": SCHEMA_VERSION, **summary_of(result), **whole}
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def result_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `result.json`; readers must accept additional keys."""
    writer = SchemaWriter()
    writer.of(RunResult)
    summary = {
        "verdict": {"enum": [str(v) for v in Verdict]},
        "exit_code": {"type": "integer"},
        "failed_step": _STRING,
        "digest": _STRING,
        "image": _STRING,
        "image_ref": _STRING,
        "refs": _STRINGS,
        "tags": _STRINGS,
        "platform_digests": {"type": "object", "additionalProperties": _STRING},
        "pushed": _BOOLEAN,
        "reused": _BOOLEAN,
        "signed": _BOOLEAN,
        "counts": _COUNTS,
        "blocking_count": _COUNT,
        "waived_count": _COUNT,
    }
    for name in ("RunResult", "ImageResult"):
        definition = writer.definitions[name]
        definition["properties"] = {**summary, **definition["properties"]}
        definition["required"] = list(definition["properties"])
    image = writer.definitions["ImageResult"]["properties"]
    image["digest"] = {"type": "string"}  # empty when there is none: one type is easier to read
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "result.json of ci-registry",
        "allOf": [{"$ref": "#/$defs/RunResult"}],
        "type": "object",
        "required": ["schema_version"],
        "properties": {"schema_version": {"const": SCHEMA_VERSION}},
        "$defs": writer.definitions,
    }


def read_result(data: bytes) -> SavedResult:
    """Read a saved result; unknown keys are ignored.

    Raises:
        IntegrityError: not JSON, not a result, of a newer version, or a key is missing or misshapen.
    """
    what = "result.json"
    root = as_object(parse_json(data, what=what, max_bytes=MAX_RESULT_BYTES), what=what)
    version = root.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise IntegrityError(
            f"{what}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}",
            hint="use the result.json that this version of ci-registry wrote",
        )
    dry_run = root.get("dry_run")
    if not isinstance(dry_run, bool):
        raise IntegrityError(f"{what}: dry_run is {dry_run!r}, not true or false")
    images = as_list(root.get("images"), what=f"{what}: images")
    return SavedResult(
        tool_version=as_text(root.get("tool_version"), what=f"{what}: tool_version"),
        dry_run=dry_run,
        images=tuple(
            _read_image(item, f"{what}: images[{number}]") for number, item in enumerate(images)
        ),
    )


def _read_image(value: object, what: str) -> SavedImage:
    data = as_object(value, what=what)
    digest = as_text(data.get("digest"), what=f"{what}.digest")
    verdict = _verdict(data.get("verdict"), f"{what}.verdict")
    decision: dict[str, object] = {}
    if data.get("decision") is not None:
        decision = as_object(data["decision"], what=f"{what}.decision")
    if decision and _verdict(decision.get("verdict"), f"{what}.decision.verdict") is not verdict:
        raise IntegrityError(f"{what}: the verdict is not that of the decision")
    destinations = as_list(data.get("destinations"), what=f"{what}.destinations")
    return SavedImage(
        name=as_text(data.get("name"), what=f"{what}.name"),
        digest=Digest(digest) if digest else None,
        verdict=verdict,
        enforced_verdict=_verdict(
            decision.get("enforced_verdict", str(verdict)), f"{what}.decision.enforced_verdict"
        ),
        policy_digest=as_text(
            decision.get("policy_digest", ""), what=f"{what}.decision.policy_digest"
        ),
        policy_source=as_text(
            decision.get("policy_source", ""), what=f"{what}.decision.policy_source"
        ),
        decided_at=as_text(decision.get("decided_at", ""), what=f"{what}.decision.decided_at"),
        destinations=tuple(as_text(d, what=f"{what}.destinations") for d in destinations),
    )


def _verdict(value: object, what: str) -> Verdict:
    text = as_text(value, what=what)
    if text not in set(Verdict):
        raise IntegrityError(f"{what}: {text[:40]!r} is no verdict")
    return Verdict(text)
