"""Makes results of runs for tests of the reports: passing, blocked, incomplete, crashed, waived."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ci_registry.comparison import BaseAttribution, Change, Comparison, KnownFinding
from ci_registry.errors import ExitCode
from ci_registry.findings import (
    CoverageGap,
    Finding,
    FindingKind,
    Gap,
    Inventory,
    ScanResult,
    Severity,
)
from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.platform import Platform
from ci_registry.results import (
    BuildOutcome,
    Case,
    CaseStatus,
    Decision,
    ImageResult,
    JudgedFinding,
    JudgedGap,
    PlatformImage,
    PublishedReference,
    RuleOutcome,
    RunResult,
    Step,
    StepResult,
    StepStatus,
    Treatment,
    Verdict,
    WaiverNote,
)
from tests.support.findings import (
    AMD64,
    ARM64,
    NOW,
    make_coverage,
    make_finding,
    make_package,
    make_scan,
)

DIGEST = digest_of(b"image")
PIPELINE = (
    Step.PREFLIGHT,
    Step.OBTAIN,
    Step.INSPECT,
    Step.SCAN,
    Step.UPLOAD,
    Step.JUDGE,
    Step.PUBLISH,
    Step.SIGN,
    Step.TAG,
)
_CASES = {
    Step.PREFLIGHT: ("builder available", "credentials accepted", "push allowed"),
    Step.OBTAIN: ("build linux/amd64", "build linux/arm64"),
    Step.INSPECT: ("every digest verified linux/amd64", "every digest verified linux/arm64"),
    Step.SCAN: ("scan linux/amd64", "scan linux/arm64"),
    Step.UPLOAD: ("blobs uploaded",),
    Step.PUBLISH: ("manifests stored, digest equal",),
    Step.SIGN: ("signature", "decision"),
    Step.TAG: ("tag {sha}", "tag {branch}"),
}
SENTENCES = {
    "critical-block": "Findings of severity CRITICAL with a fix block.",
    "high-warn": "Findings of severity HIGH with a fix warn; more than 5 block.",
}


def make_steps(
    *, until: Step | None = None, last: StepResult | None = None
) -> tuple[StepResult, ...]:
    """Return passing steps before `until`, then `last`, then skipped ones; all pass without it."""
    steps, is_over, start = [], False, NOW
    for number, step in enumerate(PIPELINE):
        if is_over:
            reason = f"{until} did not pass"
            steps.append(StepResult(step=step, status=StepStatus.SKIPPED, reason=reason))
        elif step is until and last is not None:
            steps.append(replace(last, started_at=start, duration_s=1.5))
            is_over = True
        else:
            names = _CASES.get(step, ())
            cases = tuple(Case(name=name, duration_s=0.25) for name in names)
            steps.append(
                StepResult(
                    step=step,
                    status=StepStatus.PASSED,
                    started_at=start,
                    duration_s=0.5 + number,
                    cases=cases,
                )
            )
        start += timedelta(seconds=10)
    return tuple(steps)


def make_platforms() -> tuple[PlatformImage, ...]:
    """Return two platforms of an image."""
    return tuple(
        PlatformImage(
            platform=Platform("linux", name),
            manifest=Descriptor(
                media_type=media_types.OCI_MANIFEST, digest=digest_of(name.encode()), size=400
            ),
            config_digest=digest_of(f"{name} config".encode()),
            layers=(),
            diff_ids=(digest_of(b"layer"),),
            inventory=Inventory(
                platform=f"linux/{name}",
                manifest_digest=digest_of(name.encode()),
                config_digest=digest_of(f"{name} config".encode()),
                distribution=None,
                packages=(make_package(),),
            ),
        )
        for name in ("amd64", "arm64")
    )


def make_judged(
    name: str = "CVE-2026-0001",
    severity: Severity = Severity.CRITICAL,
    treatment: Treatment = Treatment.BLOCK,
    *,
    rule_id: str = "critical-block",
    platform: str = AMD64,
    waiver_id: str = "",
    reason: str = "",
    finding: Finding | None = None,
) -> JudgedFinding:
    """Return one judged finding of openssl."""
    found = finding or make_finding(name, severity)
    return JudgedFinding(
        finding=found,
        platform=platform,
        versions=(found.package.version,),
        paths=(found.package.path,) if found.package.path else (),
        effective_severity=severity,
        treatment=treatment,
        rule_id=rule_id,
        waiver_id=waiver_id,
        reason=reason,
    )


def make_rule(
    rule_id: str = "critical-block",
    verdict: Verdict = Verdict.PASS,
    findings: Sequence[JudgedFinding] = (),
    max_count: int | None = None,
) -> RuleOutcome:
    """Return the outcome of a rule."""
    return RuleOutcome(
        rule_id=rule_id,
        sentence=SENTENCES.get(rule_id, "A rule."),
        verdict=verdict,
        count=len(findings),
        max_count=max_count,
        platform=AMD64,
        findings=tuple(item.finding.key for item in findings),
    )


def make_decision(
    verdict: Verdict = Verdict.PASS,
    *,
    reasons: tuple[str, ...] = ("no rule objects: 0 blocking findings, 0 listed",),
    rules: tuple[RuleOutcome, ...] = (),
    findings: tuple[JudgedFinding, ...] = (),
    gaps: tuple[JudgedGap, ...] = (),
    notes: tuple[WaiverNote, ...] = (),
    enforced: Verdict | None = None,
) -> Decision:
    """Return a decision under the policy `prod`."""
    mode = "audit" if enforced not in (None, verdict) else "enforce"
    return Decision(
        verdict=verdict,
        enforced_verdict=enforced or verdict,
        mode=mode,
        policy_name="prod",
        policy_source="main:policy.yml",
        policy_digest=digest_of(b"policy"),
        decided_at=NOW + timedelta(minutes=1),
        reasons=reasons,
        rules=rules or (make_rule(), make_rule("high-warn", max_count=5)),
        findings=findings,
        gaps=gaps,
        waiver_notes=notes,
    )


def make_published(name: str = "ghcr.io/acme/api") -> PublishedReference:
    """Return what was written to one destination."""
    return PublishedReference(
        name=name,
        digest=DIGEST,
        tags_moved=("main", "0123abc"),
        previous=(("main", digest_of(b"before")),),
        signatures=("sig", "bundle"),
        blobs_uploaded=3,
        blobs_mounted=1,
        blobs_present=2,
        bytes_sent=12345,
    )


def _scans(*items: JudgedFinding, gaps: tuple[CoverageGap, ...] = ()) -> tuple[ScanResult, ...]:
    found = {p: [i.finding for i in items if i.platform == p] for p in (AMD64, ARM64)}
    return (
        make_scan(*found[AMD64], platform=AMD64, gaps=gaps),
        make_scan(*found[ARM64], platform=ARM64),
    )


def passing_image(name: str = "api") -> ImageResult:
    """Return an image that passed, was pushed, signed and tagged; one finding is waived, one listed."""
    waived = make_judged(
        "CVE-2026-0100",
        treatment=Treatment.WAIVED,
        rule_id="",
        waiver_id="W-12",
        reason="team-a until 2026-12-31: not reachable",
    )
    listed = make_judged("CVE-2026-0101", Severity.LOW, Treatment.LISTED, rule_id="")
    note = WaiverNote(
        waiver_id="W-3",
        message="matches nothing in image api: remove it",
        file="waivers.yml",
        line=9,
    )
    return ImageResult(
        name=name,
        dockerfile=f"services/{name}/Dockerfile",
        destinations=(f"ghcr.io/acme/{name}",),
        planned_tags=(("{sha}", "0123abc"), ("{branch}", "main"), ("{version}", "")),
        action_reason="the context changed: app.py",
        steps=make_steps(),
        build=BuildOutcome(
            builder="buildx",
            builder_version="0.29",
            duration_s=12.5,
            steps_total=8,
            steps_cached=5,
            warnings=("Dockerfile:3: no tag on FROM",),
        ),
        digest=DIGEST,
        platforms=make_platforms(),
        scans=_scans(waived, listed),
        decision=make_decision(
            reasons=("no rule objects: 0 blocking findings, 1 listed, 1 waived",),
            findings=(waived, listed),
            notes=(note,),
        ),
        published=(make_published(f"ghcr.io/acme/{name}"),),
        signed=True,
        verdict=Verdict.PASS,
    )


def blocked_image(name: str = "web") -> ImageResult:
    """Return an image that policy blocks: one finding blocks on two platforms, one warns."""
    critical = make_finding(
        "CVE-2026-0001",
        Severity.CRITICAL,
        make_package(path="var/lib/dpkg/status"),
        aliases=("GHSA-aaaa-bbbb-cccc",),
        fixed=("3.0.11-2",),
    )
    critical = replace(
        critical,
        title="Remote code execution in the parser",
        url="https://example.com/CVE-2026-0001",
        severity_source="debian",
        severities=(("nvd", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"),),
    )
    blocking = tuple(make_judged(finding=critical, platform=p) for p in (AMD64, ARM64))
    warning = make_judged("CVE-2026-0002", Severity.HIGH, Treatment.WARN, rule_id="high-warn")
    reason = "rule critical-block blocks: 1 finding on linux/amd64: CVE-2026-0001 in openssl"
    stopped = StepResult(
        step=Step.JUDGE,
        status=StepStatus.FAILED,
        exit_code=ExitCode.BLOCK,
        reason=f"blocked by policy: {reason}",
    )
    return ImageResult(
        name=name,
        dockerfile="Dockerfile",
        destinations=(f"ghcr.io/acme/{name}",),
        planned_tags=(("{sha}", "0123abc"),),
        steps=make_steps(until=Step.JUDGE, last=stopped),
        digest=DIGEST,
        platforms=make_platforms(),
        scans=_scans(*blocking, warning),
        decision=make_decision(
            Verdict.BLOCK,
            reasons=(reason,),
            rules=(
                make_rule("critical-block", Verdict.BLOCK, blocking[:1]),
                make_rule("high-warn", Verdict.WARN, (warning,), max_count=5),
            ),
            findings=(*blocking, warning),
        ),
        verdict=Verdict.BLOCK,
        exit_code=ExitCode.BLOCK,
        error=f"blocked by policy: {reason}",
        failed_step="judge",
    )


def compared_image(name: str = "shop") -> ImageResult:
    """Return a blocked image with a known base, a newer one, and a baseline."""
    image = blocked_image(name)
    assert image.decision is not None
    first, *others = image.decision.findings
    found = (
        replace(first, from_base=True, change=Change.WORSENED, change_detail="was HIGH"),
        *(replace(item, from_base=False, change=Change.NEW) for item in others),
    )
    fixed = KnownFinding(
        platform=AMD64,
        ids=("CVE-2026-0200",),
        package="pkg:deb/debian/zlib1g",
        severity=Severity.HIGH,
    )
    comparison = Comparison(
        source="ghcr.io/acme/shop:latest (0123456789ab)",
        notes=("it has no linux/arm64: every finding there is new",),
        new=len(others),
        worsened=1,
        unchanged=0,
        fixed=(fixed,),
    )
    base = BaseAttribution(
        platform=AMD64,
        reference="debian:12",
        digest="sha256:" + "a" * 64,
        layers_count=1,
        newer_digest="sha256:" + "b" * 64,
        findings_count=9,
        fixed_count=7,
        added_count=1,
    )
    unread = replace(
        base, platform=ARM64, layers_count=None, reason="registry.example does not answer"
    )
    coverage = replace(
        make_coverage(),
        skipped_count=3,
        skipped=(("owned by a package of the operating system", 3),),
        with_data=("deb",),
        scanner="osv 1",
        scanned_at=NOW,
    )
    return replace(
        image,
        scans=(replace(image.scans[0], coverage=coverage), *image.scans[1:]),
        bases=(base, unread),
        decision=replace(image.decision, findings=found, comparison=comparison),
    )


def incomplete_image(name: str = "tiny") -> ImageResult:
    """Return an image whose scan did not cover it, with one finding that could not be decided."""
    undecided = make_judged(
        "CVE-2026-0003",
        Severity.UNKNOWN,
        Treatment.LISTED,
        rule_id="",
        finding=make_finding(
            "CVE-2026-0003",
            Severity.UNKNOWN,
            kind=FindingKind.UNDECIDED,
            detail="version 'abc' is not in the grammar of deb",
        ),
    )
    gaps = (
        CoverageGap(gap=Gap.UNDECIDED, detail="1 version could not be compared", ecosystem="deb"),
        CoverageGap(gap=Gap.END_OF_LIFE, detail="debian 9 gets no more fixes"),
    )
    judged = (
        JudgedGap(gap=gaps[0], platform=AMD64, verdict=Verdict.INCOMPLETE),
        JudgedGap(gap=gaps[1], platform=AMD64, verdict=Verdict.WARN, accepted_by="team-a"),
    )
    reason = "incomplete: undecided on linux/amd64: 1 version could not be compared"
    stopped = StepResult(
        step=Step.JUDGE,
        status=StepStatus.ERROR,
        exit_code=ExitCode.INCOMPLETE,
        reason=reason,
        hint="accept the gap by name and owner, or fix the package",
    )
    return ImageResult(
        name=name,
        dockerfile="",
        destinations=(),
        steps=make_steps(until=Step.JUDGE, last=stopped),
        digest=DIGEST,
        scans=_scans(undecided, gaps=gaps),
        decision=make_decision(
            Verdict.INCOMPLETE, reasons=(reason,), findings=(undecided,), gaps=judged
        ),
        verdict=Verdict.INCOMPLETE,
        exit_code=ExitCode.INCOMPLETE,
        error=reason,
        failed_step="judge",
    )


def crashed_image(name: str = "broken") -> ImageResult:
    """Return an image whose build failed in line 7 of its Dockerfile."""
    message = "RUN make: exit code 2"
    case = Case(
        name="build linux/amd64",
        status=CaseStatus.ERROR,
        message=message,
        body=f"{message}\nmake: *** no rule to make target",
        kind="build",
        line=7,
    )
    stopped = StepResult(
        step=Step.OBTAIN,
        status=StepStatus.ERROR,
        exit_code=ExitCode.BUILD,
        reason=message,
        hint="run the same command on your machine",
        cases=(case,),
    )
    return ImageResult(
        name=name,
        dockerfile="Dockerfile",
        destinations=(f"ghcr.io/acme/{name}",),
        steps=make_steps(until=Step.OBTAIN, last=stopped),
        verdict=Verdict.INCOMPLETE,
        exit_code=ExitCode.BUILD,
        error=message,
        failed_step="build",
    )


def make_run(
    *images: ImageResult,
    error: str = "",
    error_hint: str = "",
    exit_code: ExitCode | None = None,
    dry_run: bool = False,
    started_at: datetime = NOW,
    notes: tuple[str, ...] = (),
) -> RunResult:
    """Return a run with these images; verdict and exit code are the worst of them."""
    worst = max(
        (image.verdict for image in images), key=lambda v: v.rank, default=Verdict.INCOMPLETE
    )
    codes = [image.exit_code for image in images if image.exit_code]
    return RunResult(
        tool_version="1.2.3",
        command="run",
        dry_run=dry_run,
        started_at=started_at,
        duration_s=95.0,
        verdict=worst,
        exit_code=exit_code if exit_code is not None else (codes or [ExitCode.OK])[0],
        images=images,
        ci={"provider": "github", "branch": "main"},
        error=error,
        error_hint=error_hint,
        notes=notes,
    )


def sample_runs() -> dict[str, RunResult]:
    """Return one run of each kind, by name."""
    return {
        "passing": make_run(passing_image()),
        "blocked": make_run(blocked_image()),
        "incomplete": make_run(incomplete_image()),
        "compared": make_run(compared_image()),
        "crashed": make_run(crashed_image()),
        "several": make_run(blocked_image(), passing_image(), crashed_image("b.c")),
        "dry-run": make_run(
            passing_image(), dry_run=True, notes=("not checked: the right to push to ghcr.io",)
        ),
        "config-error": make_run(
            error="policy.yml:3: unknown key 'sevrity'",
            error_hint="did you mean 'severity'?",
            exit_code=ExitCode.CONFIG,
        ),
    }
