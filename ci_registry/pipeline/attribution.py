"""Says of each package and finding whether the base image brought it, and what a newer base would fix."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ci_registry.comparison import BaseAttribution
from ci_registry.errors import CiRegistryError
from ci_registry.findings import Finding, Gap, Inventory, Package, ScanResult, ScanStatus
from ci_registry.inventory.inspect import InspectedImage
from ci_registry.inventory.layer_store import StoredLayers
from ci_registry.inventory.lower_layers import (
    inventory_of_lower_layers,
    needs_lower_layers,
    with_base,
)
from ci_registry.pipeline.base_inventories import taken_once
from ci_registry.pipeline.base_lookup import FoundBase, begins_with
from ci_registry.pipeline.base_names import SCRATCH, UNNAMED
from ci_registry.pipeline.state import ImageRun, RunContext
from ci_registry.policy.groups import Group, group_findings, package_identity
from ci_registry.results import PlatformImage
from ci_registry.scanners.interface import Scanner, matches_anew

_NO_LESS = frozenset({Gap.END_OF_LIFE, Gap.UNDECIDED, Gap.KEV_ABSENT, Gap.KEV_STALE})
"""Gaps in spite of which findings can be counted."""


def attribute(
    image: ImageRun,
    inspected: InspectedImage,
    run: RunContext,
    found: Iterable[FoundBase],
    why: str,
) -> InspectedImage:
    """Return the image with its packages marked, and keep in `image.bases` what is known of its bases.

    `why` is said where nothing was found.
    """
    by_platform = {base.named.platform: base for base in found}
    platforms, bases = [], []
    for platform in inspected.platforms:
        base = by_platform.get(str(platform.platform))
        marked, attribution = _of_platform(image, platform, base, why, run)
        platforms.append(marked)
        bases.append(attribution)
    image.bases = tuple(bases)
    return replace(inspected, platforms=tuple(platforms))


def _of_platform(
    image: ImageRun, platform: PlatformImage, base: FoundBase | None, why: str, run: RunContext
) -> tuple[PlatformImage, BaseAttribution]:
    name = str(platform.platform)
    if base is None:
        return platform, BaseAttribution(platform=name, reason=why or UNNAMED)
    reference = base.named.reference
    digest = base.layers.root if base.layers else base.named.digest
    known = BaseAttribution(platform=name, reference=reference, digest=digest)
    if reference == SCRATCH:
        own = replace(platform, inventory=with_base(platform.inventory, ()))
        return own, replace(known, layers_count=0)
    if base.layers is None:
        return platform, replace(known, reason=base.reason)
    diff_ids = base.layers.diff_ids
    if not begins_with(platform.diff_ids, diff_ids):
        return platform, replace(known, digest=base.named.digest, reason=_other_layers(base))
    known = replace(
        known,
        layers_count=len(diff_ids),
        newer_digest=base.newer.root if base.newer else "",
        newer_reason=base.newer_reason,
    )
    packages = _base_packages(image, platform, diff_ids, run)
    marked = replace(platform, inventory=with_base(platform.inventory, packages))
    return marked, known


def _other_layers(base: FoundBase) -> str:
    what = base.named.reference
    if not base.named.digest:
        return f"{what} points at another image now, and nobody says which one was built on"
    return f"the first layers of the image are not those of {what} ({base.named.digest})"


def _base_packages(
    image: ImageRun, platform: PlatformImage, diff_ids: tuple[str, ...], run: RunContext
) -> tuple[Package, ...] | None:
    """Return the packages of the base; None when every package of the image is the base's."""
    count = len(diff_ids)
    if not needs_lower_layers(platform, count):
        return None
    layout = image.layout
    if layout is None:
        raise AssertionError("attribution runs after build")

    def take() -> Inventory:
        return inventory_of_lower_layers(
            platform,
            count,
            open_blob=layout.unverified,
            cancel=run.cancel,
            layer_cache=StoredLayers(cache=run.cache),
            is_proven=lambda blob: image.proven.holds(blob, layout.blob_path(blob.digest)),
        )

    return taken_once(run, diff_ids, take).packages


def with_owners(scan: ScanResult, inventory: Inventory) -> ScanResult:
    """Return a scan whose findings say whose their packages are, by the inventory."""
    exact = {_exact(p): p.from_base for p in inventory.packages}
    loose: dict[tuple[str, ...], set[bool | None]] = {}
    for package in inventory.packages:
        loose.setdefault(_loose(package), set()).add(package.from_base)

    def owned(finding: Finding) -> Finding:
        package = finding.package
        answers = loose.get(_loose(package), set())
        owner = exact.get(_exact(package), answers.copy().pop() if len(answers) == 1 else None)
        return replace(finding, package=replace(package, from_base=owner))

    return replace(scan, findings=tuple(map(owned, scan.findings)))


def _exact(package: Package) -> tuple[str, ...]:
    return (*_loose(package), package.purl, package.path)


def _loose(package: Package) -> tuple[str, ...]:
    return (package.ecosystem, package.name, package.version)


def with_advice(
    image: ImageRun, scanner: Scanner, found: Iterable[FoundBase], run: RunContext
) -> Iterator[BaseAttribution]:
    """Yield what is known of each base, with what a newer one would fix."""
    newer = {base.named.platform: base.newer_inventory for base in found}
    scans = {scan.platform: scan for scan in image.scans}
    for base in image.bases:
        scan = scans.get(base.platform)
        if scan is None or base.layers_count is None or base.reference == SCRATCH:
            yield base
            continue
        groups = [g for g in group_findings((scan,)) if g.is_decided and g.from_base]
        counted = replace(base, findings_count=len(groups))
        inventory = newer.get(base.platform)
        yield _compared(counted, groups, scan, inventory, scanner, run) if inventory else counted


def _compared(  # noqa: PLR0917 - one caller
    base: BaseAttribution,
    groups: list[Group],
    scan: ScanResult,
    newer: Inventory,
    scanner: Scanner,
    run: RunContext,
) -> BaseAttribution:
    if not matches_anew(scanner):
        reason = f"scanner {scanner.name} can't match the inventory of the newer base"
        return replace(base, newer_reason=reason)
    try:
        matched = scanner.match(run.dated(replace(newer, platform=base.platform)))
    except CiRegistryError as error:
        run.cancel.check()
        return replace(base, newer_reason=error.headline)
    if reason := _sees_less(matched, scan):
        return replace(base, newer_reason=reason)
    there = [g for g in group_findings((matched,)) if g.is_decided]
    undecided = [g for g in group_findings((matched,)) if not g.is_decided]
    left = [g for g in groups if _has([*there, *undecided], g)]
    added = [g for g in there if not _has(groups, g)]
    return replace(base, fixed_count=len(groups) - len(left), added_count=len(added))


def _has(groups: Iterable[Group], wanted: Group) -> bool:
    package = package_identity(wanted.finding)
    return any(g.ids & wanted.ids and package_identity(g.finding) == package for g in groups)


def _sees_less(newer: ScanResult, scan: ScanResult) -> str:
    """Return why findings that the newer base lacks may be there all the same."""
    if newer.status is not ScanStatus.COMPLETE:
        return f"the match of the newer base ended as {newer.status}"
    known = {(gap.gap, gap.ecosystem) for gap in scan.coverage.gaps}
    for gap in newer.coverage.gaps:
        if gap.gap not in _NO_LESS and (gap.gap, gap.ecosystem) not in known:
            return f"the packages of the newer base are not all covered ({gap.gap})"
    return ""
