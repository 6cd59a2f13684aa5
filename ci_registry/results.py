"""What the steps of a run produced: verdicts, decisions, step results, image results, the run's result.

Reports and policy read these; nothing here does anything.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from ci_registry.comparison import BaseAttribution, Change, Comparison
from ci_registry.errors import ExitCode
from ci_registry.findings import CoverageGap, Finding, Inventory, ScanResult, Severity
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.platform import Platform


class Verdict(StrEnum):
    """What policy says of an image; `incomplete` is not a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    BLOCK = "block"
    INCOMPLETE = "incomplete"

    @property
    def rank(self) -> int:
        """Worst wins: incomplete > block > warn > pass."""
        return list(Verdict).index(self)

    @property
    def lets_through(self) -> bool:
        """Whether an image with this verdict may be published."""
        return self in (Verdict.PASS, Verdict.WARN)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that belongs to this verdict."""
        codes = {Verdict.BLOCK: ExitCode.BLOCK, Verdict.INCOMPLETE: ExitCode.INCOMPLETE}
        return codes.get(self, ExitCode.OK)


class Step(StrEnum):
    """The steps of the pipeline, in order; also the stages of the JUnit report."""

    GATHER = "gather"
    DECIDE = "decide"
    PREFLIGHT = "preflight"
    OBTAIN = "build"
    INSPECT = "inspect"
    SCAN = "scan"
    UPLOAD = "upload"
    JUDGE = "judge"
    PUBLISH = "publish"
    SIGN = "sign"
    TAG = "tag"
    REPORT = "report"


class StepStatus(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    """Decided against: policy blocks, a signature is invalid."""
    ERROR = "error"
    """Could not decide or could not do it."""
    SKIPPED = "skipped"


class CaseStatus(StrEnum):
    """Outcome of one test case of a report; JUnit's own four words."""

    PASSED = "passed"
    FAILURE = "failure"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a report. Its name holds no digest, count or version, so runs can be compared."""

    name: str
    status: CaseStatus = CaseStatus.PASSED
    message: str = ""
    """Headline of a failure or error; the reason of a skip."""
    body: str = ""
    """Details of a failure or error; standing text (`system-out`) of a passing case."""
    kind: str = ""
    """`type` of a failure: `policy`, `vulnerability`, `coverage`, `infrastructure`, `signature`, …"""
    line: int = 0
    """Line of the Dockerfile it is about; 0 = the `FROM` line or unknown."""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step of one image did."""

    step: Step
    status: StepStatus
    reason: str = ""
    """Why it was skipped, failed or could not decide: one line."""
    hint: str = ""
    """What to do next."""
    detail: str = ""
    """What else is known of a failure: the last lines of a program or build; several lines."""
    line: int = 0
    """Line of the Dockerfile that the reason is about; 0 = none."""
    exit_code: ExitCode = ExitCode.OK
    started_at: datetime | None = None
    duration_s: float = 0.0
    cases: tuple[Case, ...] = ()
    """What this step has to say in the reports; the reports add one case per finding and rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformImage:
    """One platform of a built image, with every digest verified by us."""

    platform: Platform
    manifest: Descriptor
    config_digest: Digest
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    inventory: Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """What a builder did; the image itself lies in the layout that it was told to write."""

    builder: str
    builder_version: str
    duration_s: float = 0.0
    steps_total: int = 0
    steps_cached: int = 0
    warnings: tuple[str, ...] = ()
    """One line each; `path:line: text` when the builder said where."""
    notes: tuple[str, ...] = ()
    """What the user should know: cache not exported because …, one platform only because …"""
    materials: tuple[tuple[str, str], ...] = ()
    """(reference, digest) of the base images that the builder reports to have used."""


class Treatment(StrEnum):
    """What the policy did with one finding."""

    BLOCK = "block"
    WARN = "warn"
    LISTED = "listed"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFinding:
    """One counted finding: an alias group in one package of one platform, versions and paths together."""

    finding: Finding
    """The first of the group; its severity is the worst of the group."""
    platform: str
    versions: tuple[str, ...]
    paths: tuple[str, ...]
    effective_severity: Severity
    """After UNKNOWN was mapped by the policy."""
    treatment: Treatment
    rule_id: str = ""
    """The rule that decided the treatment; empty when no rule selected it."""
    waiver_id: str = ""
    reason: str = ""
    """For waived ones: owner, reason and expiry in one line."""
    from_base: bool | None = None
    """Whether only packages of the base image have it; None when the base is not known."""
    change: Change | None = None
    """How it stands to the baseline; None when there is none."""
    change_detail: str = ""
    """Of a worsened one: what it was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGap:
    """One coverage gap of one platform and what the policy said to it."""

    gap: CoverageGap
    platform: str
    verdict: Verdict
    """`incomplete`, or `warn` when accepted by name (and for `end-of-life`)."""
    accepted_by: str = ""
    """Owner, reason and expiry of the acceptance; empty when not accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """One rule of the policy on the platform where it came out worst."""

    rule_id: str
    sentence: str
    """The rule in one English sentence, as `policy explain` prints it."""
    verdict: Verdict
    count: int
    max_count: int | None
    platform: str
    findings: tuple[tuple[str, str], ...] = ()
    """Keys (`Finding.key`) of the findings that it counted, worst first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverNote:
    """Something to tell about a waiver: unused, expired, or about to expire."""

    waiver_id: str
    message: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict of one image, with everything needed to explain it."""

    verdict: Verdict
    enforced_verdict: Verdict
    """What `mode: enforce` would say; differs from `verdict` only in audit mode."""
    mode: str
    """`enforce` or `audit`."""
    policy_name: str
    policy_source: str
    """`built-in`, `main:policy.yml`, `policy.yml (checkout)`, `untrusted`, …"""
    policy_digest: str
    """sha256 of the exact policy bytes."""
    decided_at: datetime
    reasons: tuple[str, ...]
    """One sentence each, worst first; never empty."""
    rules: tuple[RuleOutcome, ...]
    findings: tuple[JudgedFinding, ...]
    gaps: tuple[JudgedGap, ...]
    waiver_notes: tuple[WaiverNote, ...] = ()
    not_after: datetime | None = None
    """The earliest expiry of what the decision leans on: waivers and accepted gaps."""
    comparison: Comparison | None = None
    """With the baseline; None when none is named and no rule asks for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedReference:
    """What was written to one destination."""

    name: str
    """`registry/repository`."""
    digest: Digest
    tags_moved: tuple[str, ...] = ()
    """Tags that point at `digest` now, whether moved or already there."""
    previous: tuple[tuple[str, str], ...] = ()
    """(tag, digest before), for tags that pointed elsewhere."""
    signatures: tuple[str, ...] = ()
    """What was written or found valid: `sig`, `bundle`."""
    blobs_uploaded: int = 0
    blobs_mounted: int = 0
    blobs_present: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageResult:
    """Everything about one image of a run."""

    name: str
    dockerfile: str
    """Path relative to the project; empty when the image was not built from one."""
    destinations: tuple[str, ...]
    """`registry/repository` of every place it is meant for."""
    planned_tags: tuple[tuple[str, str], ...] = ()
    """(template, tag); an empty tag means that the template is left out for this event."""
    action: str = "build"
    """`build`, `import` or `reuse`, with the reason in `action_reason`."""
    action_reason: str = ""
    steps: tuple[StepResult, ...] = ()
    build: BuildOutcome | None = None
    digest: Digest | None = None
    """Of the index, or of the manifest when there is no index."""
    platforms: tuple[PlatformImage, ...] = ()
    scans: tuple[ScanResult, ...] = ()
    bases: tuple[BaseAttribution, ...] = ()
    """What is known of the base image, per platform."""
    decision: Decision | None = None
    published: tuple[PublishedReference, ...] = ()
    signed: bool = False
    verdict: Verdict = Verdict.INCOMPLETE
    exit_code: ExitCode = ExitCode.OK
    error: str = ""
    """First line of what stopped the image; empty when nothing did."""
    failed_step: str = ""

    @property
    def pushed(self) -> bool:
        """Whether manifests were put into a registry."""
        return bool(self.published)

    @property
    def was_to_be_judged(self) -> bool:
        """Whether the command has a verdict at all; `build` alone has none."""
        return self.decision is not None or any(step.step is Step.JUDGE for step in self.steps)

    @property
    def word(self) -> str:
        """The verdict for people; `built` when nothing was to be judged and all went well."""
        unjudged = not self.was_to_be_judged and self.exit_code is ExitCode.OK
        return "built" if unjudged and self.steps else str(self.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingValue:
    """One effective setting, printable: secrets are already `***`."""

    key: str
    value: str
    source: str
    """`default`, `.ci-registry.yml:7`, `CIREG_SCANNER`, `--scanner`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a whole run; `result.json` is this, versioned."""

    tool_version: str
    command: str
    """`run`, `scan`, …"""
    dry_run: bool
    started_at: datetime
    duration_s: float
    verdict: Verdict
    exit_code: ExitCode
    images: tuple[ImageResult, ...]
    settings: tuple[SettingValue, ...] = ()
    ci: dict[str, str] = field(default_factory=dict)
    """Printable facts of the CI context: provider, commit, branch, event, run_url, …"""
    error: str = ""
    """What stopped the run before any image was begun; empty otherwise."""
    error_hint: str = ""
    notes: tuple[str, ...] = ()
    """For a dry run: what would have been pushed where, and what could not be checked."""
