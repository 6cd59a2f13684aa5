"""Prints lists: tags as they come, referrers, the bytes of repositories."""

import json
from collections.abc import Iterable

from ci_registry.cli.console import clean
from ci_registry.cli.registry_text import size_text, table
from ci_registry.cli.streams import write_out
from ci_registry.registry.image_tree import NamedReferrer
from ci_registry.registry.listing import ListedTag
from ci_registry.registry.usage import Usage
from ci_registry.wiring.reading import ReferrerList

_AT_ONCE = 500


def print_tags(tags: Iterable[ListedTag], *, is_long: bool, as_json: bool) -> None:
    """Print tags, some hundred at a time; as JSON one document at the end."""
    if as_json:
        rows = [_as_json(tag, is_long=is_long) for tag in tags]
        write_out(json.dumps({"schema_version": 1, "tags": rows}, indent=2) + "\n")
        return
    lines: list[str] = []
    for tag in tags:
        lines.append(_line(tag, is_long=is_long))
        if len(lines) >= _AT_ONCE:
            write_out("".join(lines))
            lines.clear()
    write_out("".join(lines))


def _line(tag: ListedTag, *, is_long: bool) -> str:
    if not is_long:
        return f"{clean(tag.tag)}\n"
    if tag.descriptor is None:
        return f"{'gone':<71}  {'':>9}  {'':<58}  {clean(tag.tag)}\n"
    found = tag.descriptor
    size = size_text(found.size)
    return f"{found.digest:<71}  {size:>9}  {clean(found.media_type):<58}  {clean(tag.tag)}\n"


def _as_json(tag: ListedTag, *, is_long: bool) -> dict[str, object]:
    if not is_long:
        return {"tag": tag.tag}
    found = tag.descriptor
    if found is None:
        return {"tag": tag.tag, "digest": None}
    return {
        "tag": tag.tag,
        "digest": found.digest,
        "media_type": found.media_type,
        "size": found.size,
    }


def referrers_as_text(found: ReferrerList) -> str:
    """Return a line per referrer."""
    rows = [
        (
            str(item.descriptor.digest),
            size_text(item.descriptor.size),
            item.tag or item.descriptor.artifact_type or item.descriptor.media_type,
        )
        for item in found.referrers
    ]
    return table(rows) or f"nothing refers to {found.subject.digest}\n"


def referrers_as_json(found: ReferrerList) -> dict[str, object]:
    """Return the referrers as JSON values."""
    return {
        "schema_version": 1,
        "reference": str(found.place),
        "subject": found.subject.digest,
        "referrers": [referrer_json(item) for item in found.referrers],
    }


def referrer_json(item: NamedReferrer) -> dict[str, object]:
    """Return one referrer as JSON values."""
    found = item.descriptor
    return {
        "digest": found.digest,
        "media_type": found.media_type,
        "artifact_type": found.artifact_type,
        "size": found.size,
        "tag": item.tag,
        "annotations": dict(found.annotations),
    }


def usage_as_text(usages: tuple[Usage, ...]) -> str:
    """Return a line per repository and, for several, the sum."""
    head = ("REPOSITORY", "TAGS", "MANIFESTS", "LOGICAL", "STORED", "UNIQUE", "SHARED", "SHARE")
    rows = [head, *(_usage_row(usage) for usage in usages)]
    text = table(rows)
    if len(usages) > 1:
        stored = sum(usage.charged_bytes for usage in usages)
        text += f"together {size_text(stored)} stored\n"
    missing = sum(usage.contents.missing for usage in usages)
    if missing:
        text += f"note: {missing} platforms that an index lists are not there\n"
    return text


def _usage_row(usage: Usage) -> tuple[str, ...]:
    contents = usage.contents
    sizes = (
        contents.logical_bytes,
        usage.stored_bytes,
        usage.unique_bytes,
        usage.shared_bytes,
        usage.charged_bytes,
    )
    counts = (str(contents.tags), str(contents.manifests))
    return (contents.name, *counts, *(size_text(size) for size in sizes))


def usage_as_json(usages: tuple[Usage, ...]) -> dict[str, object]:
    """Return the bytes of repositories as JSON values."""
    return {
        "schema_version": 1,
        "repositories": [
            {
                "name": usage.contents.name,
                "tags": usage.contents.tags,
                "manifests": usage.contents.manifests,
                "missing_manifests": usage.contents.missing,
                "logical_bytes": usage.contents.logical_bytes,
                "stored_bytes": usage.stored_bytes,
                "unique_bytes": usage.unique_bytes,
                "shared_bytes": usage.shared_bytes,
                "charged_bytes": usage.charged_bytes,
            }
            for usage in usages
        ],
        "stored_bytes": sum(usage.charged_bytes for usage in usages),
    }
