"""The steps that decide: scan each platform, then judge with the policy."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ci_registry.findings import ScanResult
from ci_registry.inventory.os_release import with_end_of_life
from ci_registry.pipeline.state import Done, ImageRun, RunContext
from ci_registry.policy.evaluate import judge
from ci_registry.registry.layout import one_image_view
from ci_registry.results import Case, PlatformImage, StepStatus, Verdict
from ci_registry.scanners.interface import ImageView, Scanner

_SCAN_WORKERS = 2


def scan(image: ImageRun, run: RunContext) -> Done:
    """Scan every platform from a layout view that holds it alone."""
    if image.inspected is None:
        raise AssertionError("scan runs after inspect")
    scanner = run.parts.open_scanner()
    with ThreadPoolExecutor(max_workers=_SCAN_WORKERS) as pool:
        futures = [
            pool.submit(_scan_platform, image, run, scanner, platform)
            for platform in image.inspected.platforms
        ]
        image.scans = tuple(future.result() for future in futures)
    cases = tuple(
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
        for result in image.scans
    )
    return Done(cases=cases)


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
    inventory = platform.inventory
    if inventory.distribution is not None:
        inventory = replace(
            inventory, distribution=with_end_of_life(inventory.distribution, run.now())
        )
    result = scanner.scan(
        ImageView(layout=view.path, inventory=inventory, work=work, proven=image.proven)
    )
    return replace(result, notes=(*result.notes, *run.scan_notes()))


def judge_image(image: ImageRun, run: RunContext) -> Done:
    """Apply policy and waivers to what the scans found and could see."""
    if image.inspected is None:
        raise AssertionError("judge runs after inspect")
    repositories = tuple(place.name for place in image.plan.destinations)
    if image.pull is not None:
        repositories = (image.pull.name,)
    image.decision = judge(
        run.policy,
        run.waivers,
        image=image.name,
        repositories=repositories,
        scans=image.scans,
        platforms=tuple(str(p.platform) for p in image.inspected.platforms),
        now=run.now(),
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
