"""Tags and labels of an image, from the CI context."""

import difflib
import re
from dataclasses import dataclass

from ci_registry.ci.context import CiContext
from ci_registry.errors import UsageError
from ci_registry.oci.reference import is_tag

PLACEHOLDERS = ("branch", "sha", "short_sha", "tag", "version", "major", "minor", "change", "date")
_FIXED = ("{sha}", "{short_sha}", "{version}", "{tag}")
_SEMVER = re.compile(
    r"v?(?P<version>(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?:0|[1-9]\d*)"
    r"(?P<pre>-[0-9A-Za-z.-]+)?)(?:\+[0-9A-Za-z.-]+)?"
)
_SHORT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTag:
    """One tag that an image is to get, or the reason why a template gives none."""

    template: str
    tag: str
    """Empty: left out for this event."""
    fixed: bool
    """Meant never to move: it holds the commit or the version."""
    reason: str = ""


def slug(text: str) -> str:
    """Turn a ref name into the characters that a tag may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:128].rstrip("-.")


def placeholder_values(context: CiContext) -> dict[str, str]:
    """Return what each placeholder stands for; empty when this event has no such thing."""
    match = _SEMVER.fullmatch(context.tag)
    release = match if match and not match["pre"] else None
    dirty = "-dirty" if context.is_dirty and context.commit else ""
    day = context.committed_at
    return {
        "branch": "" if context.is_change_request else slug(context.branch),
        "sha": context.commit + dirty,
        "short_sha": context.commit[:_SHORT] + dirty,
        "tag": slug(context.tag),
        "version": match["version"] if match else "",
        "major": release["major"] if release and release["major"] != "0" else "",
        "minor": f"{release['major']}.{release['minor']}" if release else "",
        "change": context.change,
        "date": day.strftime("%Y%m%d") if day else "",
    }


def automatic_templates(context: CiContext) -> tuple[str, ...]:
    """Return the templates used when the settings name none."""
    always = ("{sha}", "{branch}", "{version}", "{minor}", "{major}")
    return (*always, "latest") if context.is_default_branch else always


def plan_tags(templates: tuple[str, ...], context: CiContext) -> tuple[PlannedTag, ...]:
    """Fill in tag templates; an explicit list gets nothing added, an empty one is automatic.

    Raises:
        UsageError: a placeholder is unknown, or the result is no tag.
    """
    values = placeholder_values(context)
    planned: dict[str, PlannedTag] = {}
    for template in templates or automatic_templates(context):
        names = re.findall(r"{([^{}]*)}", template)
        for name in names:
            if name not in values:
                close = difflib.get_close_matches(name, PLACEHOLDERS, 1)
                hint = (
                    f"did you mean {{{close[0]}}}?"
                    if close
                    else f"known: {', '.join(PLACEHOLDERS)}"
                )
                raise UsageError(f"unknown placeholder {{{name}}} in tag {template!r}", hint=hint)
        empty = [name for name in names if not values[name]]
        tag = "" if empty else re.sub(r"{([^{}]*)}", lambda m: values[m[1]], template)
        reason = f"this event has no {empty[0].replace('_', ' ')}" if empty else ""
        if tag and not is_tag(tag):
            raise UsageError(f"tag template {template!r} gives {tag!r}, which is no valid tag")
        if tag and any(other.tag == tag for other in planned.values()):
            continue
        fixed = any(word in template for word in _FIXED)
        planned[template] = PlannedTag(template=template, tag=tag, fixed=fixed, reason=reason)
    return tuple(planned.values())


def oci_labels(context: CiContext) -> dict[str, str]:
    """Return the `org.opencontainers.image.*` labels that the context knows."""
    values = placeholder_values(context)
    created = context.committed_at
    labels = {
        "created": created.isoformat().replace("+00:00", "Z") if created else "",
        "revision": context.commit,
        "source": context.repository_url,
        "version": values["version"] or values["tag"] or values["branch"],
    }
    return {f"org.opencontainers.image.{key}": text for key, text in labels.items() if text}
