"""The facts about a run that several reports print: counts, references, who was pushed and signed."""

from collections.abc import Iterable
from dataclasses import replace

from ci_registry.findings import ScanStatus, Severity
from ci_registry.results import (
    ImageResult,
    JudgedFinding,
    RunResult,
    Step,
    StepStatus,
    Treatment,
    Verdict,
)

Counts = dict[str, dict[str, int]]
"""Platform → severity → number of counted findings."""


def judged(image: ImageResult) -> tuple[JudgedFinding, ...]:
    """Return the judged findings of an image; none when it was not judged."""
    return image.decision.findings if image.decision is not None else ()


def counts_of(images: Iterable[ImageResult]) -> Counts:
    """Count findings by platform and severity, waived ones left out; worst severity first."""
    counts: Counts = {}
    for image in images:
        for scan in image.scans:
            if scan.status is ScanStatus.COMPLETE:
                counts.setdefault(scan.platform, {})
        for item in judged(image):
            if item.treatment is not Treatment.WAIVED:
                row = counts.setdefault(item.platform, {})
                row[item.effective_severity] = row.get(item.effective_severity, 0) + 1
    order = sorted(Severity, key=lambda s: -s.rank)
    return {
        platform: {str(s): counts[platform][s] for s in order if s in counts[platform]}
        for platform in sorted(counts)
    }


def counts_lines(image: ImageResult) -> tuple[str, ...]:
    """Return `linux/amd64: 1 CRITICAL, 2 LOW` per platform; nothing found is not called clean lightly."""
    gaps = image.decision.gaps if image.decision is not None else ()
    open_platforms = {g.platform for g in gaps if g.verdict is Verdict.INCOMPLETE}
    lines = []
    for platform, counts in counts_of((image,)).items():
        words = ", ".join(f"{number} {severity}" for severity, number in counts.items())
        if platform in open_platforms:
            words = f"{words or 'nothing found'}, but the scan did not cover everything"
        lines.append(f"{platform}: {words or 'no findings'}")
    return tuple(lines)


def count_treated(images: Iterable[ImageResult], treatment: Treatment) -> int:
    """Count the findings that got this treatment."""
    return sum(item.treatment is treatment for image in images for item in judged(image))


def pushed_name(image: ImageResult) -> str:
    """Return the first place that the image was put to, else the first that it is meant for."""
    if image.published:
        return image.published[0].name
    return image.destinations[0] if image.destinations else ""


def image_ref(image: ImageResult) -> str:
    """Return `name@digest` of a published image; empty for one that nobody can pull."""
    return f"{image.published[0].name}@{image.published[0].digest}" if image.published else ""


def refs_of(image: ImageResult) -> tuple[str, ...]:
    """Return every reference that was written: `name@digest`, then `name:tag`."""
    refs: list[str] = []
    for place in image.published:
        refs.append(f"{place.name}@{place.digest}")
        refs += [f"{place.name}:{tag}" for tag in place.tags_moved]
    return tuple(refs)


def tags_of(image: ImageResult) -> tuple[str, ...]:
    """Return the tags that point at the image now, in the order of the plan."""
    moved = dict.fromkeys(tag for place in image.published for tag in place.tags_moved)
    planned = [tag for _, tag in image.planned_tags if tag in moved]
    return tuple(dict.fromkeys([*planned, *moved]))


def platform_digests(image: ImageResult) -> dict[str, str]:
    """Return platform → manifest digest."""
    return {str(p.platform): str(p.manifest.digest) for p in image.platforms}


def failed_step(result: RunResult) -> str:
    """Return the step that stopped the first image that was stopped; empty when none was."""
    if result.error:
        return str(Step.GATHER)
    return next((i.failed_step for i in result.images if i.failed_step), "")


def is_resting(status: StepStatus) -> bool:
    """Whether a step ended without anything to complain about."""
    return status in (StepStatus.PASSED, StepStatus.SKIPPED)


def written_images(result: RunResult) -> tuple[ImageResult, ...]:
    """Return the images as a deploy job must see them: after a dry run nothing is pushed or signed."""
    if not result.dry_run:
        return result.images
    return tuple(replace(image, published=(), signed=False) for image in result.images)


def plural(count: int, noun: str) -> str:
    """Return `1 finding`, `2 findings`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
