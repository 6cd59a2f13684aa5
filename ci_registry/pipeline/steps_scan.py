"""The steps that decide: scan each platform, then judge with the policy."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ci_registry.comparison import Baseline
from ci_registry.errors import UsageError
from ci_registry.findings import ScanResult
from ci_registry.inventory.inspect import InspectedImage
from ci_registry.pipeline.given import GivenImage
from ci_registry.pipeline.state import Done, ImageRun, RunContext
from ci_registry.policy.evaluate import judge
from ci_registry.registry.layout import one_image_view
from ci_registry.results import Case, PlatformImage, StepStatus, Verdict
from ci_registry.scanners.interface import CanMatchInventory, ImageView, Scanner
from ci_registry.scanners.record import with_record

_SCAN_WORKERS = 2


def scan(image: ImageRun, run: RunContext) -> Done:
    """Scan every platform from a layout view that holds it alone, or match the inventories given."""
    if image.given is not None:
        scanner = run.parts.open_scanner()
        image.scans = _match(image.given, scanner, run)
        image.baseline = _baseline(image, scanner, run)
        return Done(cases=_cases(image.scans))
    if image.inspected is None:
        raise AssertionError("scan runs after inspect")
    scanner = run.parts.open_scanner()
    with ThreadPoolExecutor(max_workers=_SCAN_WORKERS) as pool:
        futures = [
            pool.submit(_scan_platform, image, run, scanner, platform)
            for platform in image.inspected.platforms
        ]
        known = pool.submit(_baseline, image, scanner, run)
        image.scans = tuple(future.result() for future in futures)
        image.baseline = known.result()
    _attribute(image, image.inspected, scanner, run)
    return Done(cases=_cases(image.scans))


def _baseline(image: ImageRun, scanner: Scanner, run: RunContext) -> Baseline | None:
    """Return what findings are compared with; None when nothing is named."""
    if not run.settings.scan.baseline:
        return None
    from ci_registry.pipeline.baselines import find_baseline  # noqa: PLC0415 - only when it is named

    return find_baseline(image, run, scanner)


def _attribute(
    image: ImageRun, inspected: InspectedImage, scanner: Scanner, run: RunContext
) -> None:
    """Say whose the packages and findings are; what can't be known is a reason in the reports."""
    from ci_registry.pipeline import attribution  # noqa: PLC0415 - late, as the steps themselves

    found, why = image.base_lookup.result() if image.base_lookup else ((), "")
    run.cancel.check()
    # an upload that runs meanwhile reads digests and layers, which stay the same
    image.inspected = attribution.attribute(image, inspected, run, found, why)
    inventories = {str(p.platform): p.inventory for p in image.inspected.platforms}
    image.scans = tuple(
        attribution.with_owners(scan, inventories[scan.platform]) for scan in image.scans
    )
    image.bases = tuple(attribution.with_advice(image, scanner, found, run))


def _cases(scans: tuple[ScanResult, ...]) -> tuple[Case, ...]:
    return tuple(
        Case(
            name=f"scan {result.platform}",
            body="\n".join(
                (
                    f"{result.scanner} {result.scanner_version}: {len(result.findings)} findings",
                    *(
                        f"database: {d.name} {d.built_at or 'undated'}"
                        for d in (*result.coverage.databases, *result.coverage.lists)
                    ),
                    *result.notes,
                )
            ),
            duration_s=result.duration_s,
        )
        for result in scans
    )


def _match(given: GivenImage, scanner: Scanner, run: RunContext) -> tuple[ScanResult, ...]:
    """Match each inventory with the advisories of today.

    Raises:
        CiRegistryError: there is no inventory to go by.
        UsageError: the scanner needs the image itself.
    """
    if given.error is not None:
        raise given.error
    if not isinstance(scanner, CanMatchInventory):
        raise UsageError(
            f"scanner {scanner.name} reads images, it can't match an inventory",
            hint="use the built-in scanner: --scanner osv",
        )
    results = []
    for inventory in given.inventories:
        run.cancel.check()
        matched = scanner.match(run.dated(inventory))
        results.append(with_record(matched, run.now()))
    return tuple(results)


def _scan_platform(
    image: ImageRun, run: RunContext, scanner: Scanner, platform: PlatformImage
) -> ScanResult:
    if image.layout is None:
        raise AssertionError("scan runs after build")
    run.cancel.check()
    folder = image.work / f"scan-{platform.platform.slug}"
    work = folder / "work"
    work.mkdir(parents=True)
    view = one_image_view(image.layout, platform.manifest, folder / "layout")
    inventory = run.dated(platform.inventory)
    result = scanner.scan(
        ImageView(
            layout=view.path,
            inventory=inventory,
            work=work,
            proven=image.proven,
            published=image.pull.at(platform.manifest.digest) if image.pull else None,
        )
    )
    result = with_record(result, run.now())
    return replace(result, notes=(*result.notes, *run.scan_notes()))


def _platforms(image: ImageRun) -> tuple[str, ...]:
    """Return the platforms that there must be a scan of."""
    if image.given is not None:
        return tuple(inventory.platform for inventory in image.given.inventories)
    if image.inspected is None:
        raise AssertionError("judge runs after inspect")
    return tuple(str(p.platform) for p in image.inspected.platforms)


def judge_image(image: ImageRun, run: RunContext) -> Done:
    """Apply policy and waivers to what the scans found and could see."""
    repositories = tuple(place.name for place in image.plan.destinations)
    if image.pull is not None:
        repositories = (image.pull.name,)
    image.decision = judge(
        run.policy,
        run.waivers,
        image=image.name,
        repositories=repositories,
        scans=image.scans,
        platforms=_platforms(image),
        now=run.now(),
        baseline=image.baseline,
    )
    verdict = image.decision.verdict
    if verdict.lets_through:
        return Done()
    status = StepStatus.FAILED if verdict is Verdict.BLOCK else StepStatus.ERROR
    word = "blocked by policy" if verdict is Verdict.BLOCK else "incomplete"
    return Done(
        status=status,
        exit_code=verdict.exit_code,
        reason=f"{word}: {image.decision.reasons[0]}",
    )
