"""What the steps of a run work with: the parts that wiring made, and the state of each image."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.builders.interface import Builder
from ci_registry.cache import DiskCache
from ci_registry.cancel import Cancel
from ci_registry.ci.context import CiContext
from ci_registry.comparison import BaseAttribution, Baseline
from ci_registry.config.model import ImageSettings, Settings
from ci_registry.errors import ExitCode
from ci_registry.events import EventSink
from ci_registry.findings import Inventory, ScanResult
from ci_registry.oci.digest import Digest
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.given import GivenImage
from ci_registry.pipeline.plan import ImagePlan
from ci_registry.registry.proven import ProvenBlobs
from ci_registry.results import (
    BuildOutcome,
    Case,
    Decision,
    PublishedReference,
    Step,
    StepResult,
    StepStatus,
)
from ci_registry.secret import Secret

if TYPE_CHECKING:  # imported by the steps that use them, most of them while the build runs
    from ci_registry.inventory.inspect import InspectedImage
    from ci_registry.pipeline.base_lookup import BaseLookup
    from ci_registry.policy.model import Policy
    from ci_registry.policy.waivers import Waiver
    from ci_registry.registry.interface import Repository
    from ci_registry.registry.layout import Layout
    from ci_registry.reports.stored_findings import StoredResult
    from ci_registry.scanners.interface import Scanner
    from ci_registry.signers.interface import Signer
    from ci_registry.verification.trust import TrustedKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The objects that a run is made of; chosen by `wiring`, replaced by fakes in tests."""

    builders: Mapping[str, Builder]
    """By name, in the order in which `auto` tries them."""
    export_from_engine: Callable[[str, Path, Platform], BuildOutcome]
    """Writes an image of the Docker engine as a layout."""
    open_scanner: "Callable[[], Scanner]"
    load_signer: "Callable[[], Signer | None]"
    """Raises `SetupError` when the key is there but unusable; None when its source is empty."""
    source: "Callable[[Reference], Repository]"
    """Opens a repository for reading."""
    target: "Callable[[Reference], Repository]"
    """Opens where a destination is written: the registry itself, or the embedded one in a dry run."""
    check_push: Callable[[Reference], None]
    """Raises `AccessError` when the credentials can't push there."""
    docker_config: Callable[[tuple[str, ...], Path], Path]
    """Writes a private `DOCKER_CONFIG` with the credentials for these hosts into a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all images of a run share."""

    settings: Settings
    ci: CiContext
    policy: "Policy"
    waivers: "tuple[Waiver, ...]"
    parts: Parts
    project: Path
    """Absolute folder that relative paths start from."""
    work: Path
    """Private work folder of the run."""
    cache: DiskCache
    env: Mapping[str, str]
    now: Callable[[], datetime]
    cancel: Cancel
    on_event: EventSink
    dry_run: bool = False
    scan_notes: Callable[[], tuple[str, ...]] = tuple
    """What people should know beside every scan; found out once, while the build runs."""
    trusted_keys: "Callable[[], TrustedKeys | None]" = lambda: None
    """Whose attested inventories count; None when no key is named. Raises `SetupError`."""
    stored_baseline: "Callable[[], StoredResult] | None" = None
    """Reads the result that `scan.baseline` names as a file, once. Raises `CiRegistryError`."""
    released_at: Callable[[str], Reference] | None = None
    """Says where an image is released, when the settings of a change may not. Raises `CiRegistryError`."""

    def dated(self, inventory: Inventory) -> Inventory:
        """Return the inventory with what is known today about the end of its distribution."""
        if inventory.distribution is None:
            return inventory
        from ci_registry.inventory.os_release import with_end_of_life  # noqa: PLC0415 - late: only a scan asks

        return replace(inventory, distribution=with_end_of_life(inventory.distribution, self.now()))

    @property
    def source_date_epoch(self) -> int:
        """The time of the commit in seconds; 0 outside git, so that builds stay reproducible."""
        return int(self.ci.committed_at.timestamp()) if self.ci.committed_at else 0


@dataclass(slots=True, kw_only=True)
class ImageRun:
    """The state of one image; each step writes only its own fields, the next ones read them."""

    plan: ImagePlan
    settings: ImageSettings
    work: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    pull: Reference | None = None
    """The reference to fetch instead of building, for the single step `scan REFERENCE`."""
    given: GivenImage | None = None
    """The inventories, when the image itself is not read."""
    keep_layout: Path | None = None
    """Where the layout stays after the run, for the single step `build`."""
    layout: "Layout | None" = None
    proven: ProvenBlobs = field(default_factory=ProvenBlobs)
    """The blob files that were hashed in this run."""
    build: BuildOutcome | None = None
    inspected: "InspectedImage | None" = None
    base_lookup: "BaseLookup | None" = None
    """Asks for the base image while the image is inspected and scanned."""
    bases: tuple[BaseAttribution, ...] = ()
    scans: tuple[ScanResult, ...] = ()
    baseline: Baseline | None = None
    """What findings are compared with; None when none is named."""
    decision: Decision | None = None
    signer: "Signer | None" = None
    uploads: dict[str, PublishedReference] = field(default_factory=dict)
    """By destination name: the blobs that travelled, while nothing is published yet."""
    published: dict[str, PublishedReference] = field(default_factory=dict)
    skipped_tags: dict[str, str] = field(default_factory=dict)
    """Tag → why it is not moved."""
    signed: bool = False

    @property
    def name(self) -> str:
        """The image's name in the settings."""
        return self.plan.name

    @property
    def places(self) -> tuple[PublishedReference, ...]:
        """What was published, in the order of the plan: destinations are written at the same time."""
        names = (place.name for place in self.plan.destinations)
        return tuple(self.published[name] for name in names if name in self.published)

    @property
    def digest(self) -> Digest | None:
        """Of the index, or of the manifest when there is none."""
        if self.given is not None:
            return self.given.digest
        return self.inspected.root.digest if self.inspected else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step hands back when it did not raise."""

    status: StepStatus = StepStatus.PASSED
    reason: str = ""
    hint: str = ""
    detail: str = ""
    line: int = 0
    exit_code: ExitCode = ExitCode.OK
    cases: tuple[Case, ...] = ()


def skipped(reason: str, *cases: Case) -> Done:
    """Return the value of a step that had nothing to do, with the reason."""
    return Done(status=StepStatus.SKIPPED, reason=reason, cases=cases)


StepAction = Callable[[ImageRun, RunContext], Done]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One line of the pipeline's table."""

    step: Step
    needs: tuple[Step, ...]
    action: StepAction
    limit: str = ""


def not_run(step: Step, reason: str) -> StepResult:
    """Return the result of a step that never started."""
    return StepResult(step=step, status=StepStatus.SKIPPED, reason=reason)
