"""Finds what the findings of an image are compared with: a stored result, or an image that was released.

A released image is matched again with today's advisories by its attested inventory, so that nothing
is new only because the database moved. What can't be read or trusted is a problem of the baseline,
and every finding is new then: a comparison never lets through what would not pass without it.
"""

from collections.abc import Sequence

from ci_registry.comparison import Baseline
from ci_registry.errors import (
    CiRegistryError,
    IncompleteError,
    NotFoundError,
    SetupError,
    UsageError,
)
from ci_registry.findings import ScanResult
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.policy.baseline import known_findings
from ci_registry.policy.coverage import judge_coverage
from ci_registry.policy.groups import group_findings
from ci_registry.reports.stored_findings import StoredImage, StoredResult
from ci_registry.results import Verdict
from ci_registry.scanners.interface import Scanner, matches_anew
from ci_registry.verification.published import inventories_of

RELEASE = "release"
RELEASE_TAG = "latest"


def find_baseline(image: ImageRun, run: RunContext, scanner: Scanner) -> Baseline | None:
    """Return the baseline of an image; None when none is named. A problem is part of it, no error.

    Raises:
        CancelledError: the run was cancelled.
    """
    name = run.settings.scan.baseline
    if not name:
        return None
    try:
        if run.stored_baseline is not None:
            return stored_baseline(run.stored_baseline(), image, name)
        return _released(image, run, scanner, _place(name, image, run))
    except CiRegistryError as error:
        run.cancel.check()
        return Baseline(source=name, problem=error.headline)


def _place(name: str, image: ImageRun, run: RunContext) -> Reference:
    """Return the image that is named.

    Raises:
        SetupError: the image has no destination, so nothing of it was released.
        UsageError: the name is no reference.
    """
    first, _, tag = name.partition(":")
    if first != RELEASE:
        return parse_reference(name)
    if run.released_at is not None:
        return run.released_at(image.name).tagged(tag or RELEASE_TAG)
    places = [*image.plan.destinations[:1]]
    if image.given is None and image.pull is not None:
        places = [image.pull]
    if not places:
        raise SetupError("no registry is named, so there is no released image")
    return places[0].tagged(tag or RELEASE_TAG)


def _released(image: ImageRun, run: RunContext, scanner: Scanner, place: Reference) -> Baseline:
    if not matches_anew(scanner):
        raise UsageError(f"scanner {scanner.name} can't match the inventory of {place}")
    if run.dry_run and run.settings.runtime.offline:
        raise SetupError(f"{place} is not read in a dry run with --offline")
    trusted = run.trusted_keys()
    if trusted is None:
        raise SetupError(f"there is no public key to trust the inventory of {place} by, see trust")
    repository = run.parts.source(place)
    root = repository.resolve(place.target)
    if root is None:
        raise NotFoundError(f"{place} does not exist")
    found = inventories_of(repository, root, trusted)
    scans = []
    for inventory in found.inventories:
        run.cancel.check()
        scans.append(scanner.match(run.dated(inventory)))
    source = f"{place} ({root.digest.short}), {found.source}, with the advisories of this run"
    _insist_on_coverage(image, run, scans, place)
    return Baseline(
        source=source,
        platforms=tuple(scan.platform for scan in scans),
        findings=known_findings(group_findings(tuple(scans))),
        gaps=frozenset(
            (scan.platform, str(gap.gap), gap.ecosystem)
            for scan in scans
            for gap in scan.coverage.gaps
        ),
    )


def _insist_on_coverage(
    image: ImageRun, run: RunContext, scans: Sequence[ScanResult], place: Reference
) -> None:
    """Refuse a baseline that would itself be incomplete."""
    covered = judge_coverage(
        run.policy,
        image=image.name,
        repositories=tuple(p.name for p in image.plan.destinations),
        scans=tuple(scans),
        platforms=tuple(scan.platform for scan in scans),
        now=run.now(),
    )
    for verdict, reason in covered.reasons:
        if verdict is Verdict.INCOMPLETE:
            raise IncompleteError(f"{place} is not covered itself: {reason}")


def stored_baseline(stored: StoredResult, image: ImageRun, name: str) -> Baseline:
    """Return what a stored result says of an image: by name, else by digest, else by destination."""
    source = f"{name} of {stored.started_at}"
    found = _stored_image(stored, image)
    problem = ""
    if found is None:
        problem = f"{name} has no image {image.name}"
    elif not found.is_judged:
        problem = f"{image.name} was not judged in {name}"
    elif found.verdict is Verdict.INCOMPLETE:
        problem = f"{image.name} is incomplete in {name}"
    if found is None or problem:
        return Baseline(source=source, problem=problem)
    moved = f"its advisories are of {found.advisories or 'an unknown date'}"
    return Baseline(
        source=source,
        platforms=found.platforms,
        findings=found.findings,
        gaps=found.gaps,
        notes=(f"{moved}: what became known since is new",),
    )


def _stored_image(stored: StoredResult, image: ImageRun) -> StoredImage | None:
    places = {place.name for place in image.plan.destinations}
    digest = str(image.digest or "")
    ways = (
        [item for item in stored.images if item.name == image.name],
        [item for item in stored.images if digest and item.digest == digest],
        [item for item in stored.images if places.intersection(item.destinations)],
    )
    return next((found[0] for found in ways if len(found) == 1), None)
