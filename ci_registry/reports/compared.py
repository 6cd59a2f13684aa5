"""Puts into words what an image is compared with: its base image, and the baseline of its findings."""

from collections.abc import Iterable, Iterator

from ci_registry.comparison import BaseAttribution, Change, Comparison, KnownFinding
from ci_registry.reports.escape import one_line
from ci_registry.reports.totals import judged, plural
from ci_registry.results import Case, ImageResult, JudgedFinding

_SCRATCH = "scratch"
_SHORT_DIGEST_CHARS = 19
_SHOWN = 20
_OWNERS = {True: "base image", False: "own layers"}


def owner_of(item: JudgedFinding) -> str:
    """Return `base image` or `own layers`; empty when the base is not known."""
    return "" if item.from_base is None else _OWNERS[item.from_base]


def change_of(item: JudgedFinding) -> str:
    """Return `new`, `unchanged`, or `worsened (was HIGH)`; empty without a baseline."""
    if item.change is None:
        return ""
    return f"{item.change} ({item.change_detail})" if item.change_detail else str(item.change)


def standing(item: JudgedFinding) -> str:
    """Return whose a finding is and how it stands to the baseline, in brackets; empty when nobody knows."""
    words = [word for word in (owner_of(item), change_of(item)) if word]
    return f" [{', '.join(words)}]" if words else ""


def owner_line(image: ImageResult) -> str:
    """Return how many findings are whose; empty when the base is known of none."""
    counts: dict[bool | None, set[tuple[str, str]]] = {}
    for item in judged(image):
        counts.setdefault(item.from_base, set()).add(item.finding.key)
    if not any(owner is not None for owner in counts):
        return ""
    line = f"base image: {plural(len(counts.get(True, ())), 'finding')}"
    line += f", own layers: {len(counts.get(False, ()))}"
    return line + (f", not known: {len(counts[None])}" if None in counts else "")


def base_lines(image: ImageResult) -> tuple[str, ...]:
    """Return what is known of the base image, and what a newer one would fix."""
    lines: dict[str, list[str]] = {}
    for base in image.bases:
        for line in _base_lines(base):
            lines.setdefault(line, []).append(base.platform)
    return tuple(
        line if len(platforms) == len(image.bases) else f"{line} [{', '.join(platforms)}]"
        for line, platforms in lines.items()
    )


def _base_lines(base: BaseAttribution) -> Iterator[str]:
    name = one_line(base.reference, 200)
    if base.reference == _SCRATCH:
        yield "no base image: FROM scratch"
        return
    if base.layers_count is None:
        what = f"base image {name}" if name else "base image"
        yield one_line(f"{what} not known: {base.reason or 'nobody names it'}")
        return
    yield f"built on {name} ({_short(base.digest)}), {plural(base.layers_count, 'layer')}"
    if base.newer_digest:
        yield _newer_line(base, name)
    elif base.newer_reason:
        yield one_line(f"whether there is a newer {name} is not known: {base.newer_reason}")


def _newer_line(base: BaseAttribution, name: str) -> str:
    newer = _short(base.newer_digest)
    if base.fixed_count is None or base.findings_count is None:
        why = f" (how many is not known: {base.newer_reason})" if base.newer_reason else ""
        return one_line(f"{name} has a newer digest {newer}; rebuild to pick up its fixes{why}")
    fixes = f"fixes {base.fixed_count} of {plural(base.findings_count, 'base finding')}"
    added = f" and brings {plural(base.added_count, 'new one')}" if base.added_count else ""
    return f"rebuild on {name} ({newer}) {fixes}{added}"


def _short(digest: str) -> str:
    if len(digest) <= _SHORT_DIGEST_CHARS:
        return digest or "digest not known"
    return f"{digest[:_SHORT_DIGEST_CHARS]}…"


def comparison_lines(image: ImageResult) -> tuple[str, ...]:
    """Return how the findings stand to the baseline, first the counts; nothing when nothing is compared."""
    found = image.decision.comparison if image.decision is not None else None
    if found is None:
        return ()
    if found.problem:
        line = f"no baseline, so {plural(found.new, 'finding')} count as new: {found.problem}"
        return (one_line(line), *map(one_line, found.notes))
    counts = f"{found.new} new, {found.worsened} worsened, {found.unchanged} unchanged"
    line = f"against {found.source}: {counts}, {len(found.fixed)} fixed"
    return (one_line(line), *map(one_line, found.notes))


def fixed_lines(comparison: Comparison | None) -> tuple[str, ...]:
    """Return what the baseline has and the image has not, each once."""
    if comparison is None:
        return ()
    lines = tuple(dict.fromkeys(_fixed_line(item) for item in comparison.fixed))
    more = len(lines) - _SHOWN
    return (*lines[:_SHOWN], f"and {more} more in result.json") if more > 0 else lines


def _fixed_line(item: KnownFinding) -> str:
    return one_line(f"{item.ids[0]} ({item.severity}) in {item.package}", 300)


def change_counts(images: Iterable[ImageResult]) -> dict[str, int]:
    """Return the sum of each kind of change; empty when no image has a usable baseline."""
    found = [
        image.decision.comparison
        for image in images
        if image.decision is not None and image.decision.comparison is not None
    ]
    usable = [item for item in found if not item.problem]
    if not usable:
        return {}
    return {
        str(Change.NEW): sum(item.new for item in usable),
        str(Change.WORSENED): sum(item.worsened for item in usable),
        str(Change.UNCHANGED): sum(item.unchanged for item in usable),
        str(Change.FIXED): sum(len(item.fixed) for item in usable),
    }


def base_cases(image: ImageResult) -> tuple[Case, ...]:
    """Return one passing case per platform that says what is known of its base."""
    return tuple(
        Case(name=f"base image {base.platform}", body="\n".join(_base_lines(base)))
        for base in image.bases
    )


def comparison_cases(image: ImageResult) -> tuple[Case, ...]:
    """Return one passing case that says how the findings stand to the baseline."""
    lines = comparison_lines(image)
    if not lines or image.decision is None:
        return ()
    fixed = [f"fixed: {line}" for line in fixed_lines(image.decision.comparison)]
    changed = [
        one_line(f"{change_of(item)}: {item.finding.id} in {item.finding.package.name}", 300)
        for item in judged(image)
        if item.change is not None and item.change.is_new
    ]
    kept = tuple(dict.fromkeys(changed))
    more = [f"and {len(kept) - _SHOWN} more"] if len(kept) > _SHOWN else []
    return (Case(name="baseline", body="\n".join([*lines, *kept[:_SHOWN], *more, *fixed])),)
