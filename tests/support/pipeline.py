"""Makes plans, runs and images for tests of the pipeline's steps: in-memory registries, no programs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ci_registry.builders.interface import Builder, CacheReferences
from ci_registry.cache import DiskCache
from ci_registry.cancel import Cancel
from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.tags import PlannedTag
from ci_registry.config.model import (
    ImageSettings,
    OnExisting,
    PublishSettings,
    Settings,
    SignFormat,
    SignSettings,
)
from ci_registry.errors import AccessError
from ci_registry.events import Event
from ci_registry.oci.platform import Platform
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.plan import ImagePlan
from ci_registry.pipeline.state import ImageRun, Parts, RunContext
from ci_registry.policy.builtin import BUILT_IN
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from ci_registry.scanners.interface import ImageView, Scanner, ScannerInfo
from ci_registry.signers.interface import Signer
from tests.support.findings import NOW, make_scan
from tests.support.images import ImageSpec, debian_layer, make_layout
from tests.support.inspection import inspect_layout
from tests.support.memory_repository import MemoryRepository
from tests.support.results import make_decision
from tests.support.signing import signer as make_signer

FIRST, SECOND = "registry.example/team/app", "mirror.example/team/app"
SHA_TAG = PlannedTag(template="{sha}", tag="abc1234", fixed=True)
BRANCH_TAG = PlannedTag(template="{branch}", tag="main", fixed=False)
LEFT_OUT = PlannedTag(template="{version}", tag="", fixed=True, reason="this event has no version")
MAIN = CiContext(
    provider=Provider.GITHUB,
    event=EventKind.PUSH,
    commit="a" * 40,
    branch="main",
    default_branch="main",
)


@dataclass
class FakeScanner:
    """A scanner that finds what it is told to, or fails."""

    error: Exception | None = None
    name: str = "fake"
    views: list[ImageView] = field(default_factory=list)

    def probe(self) -> ScannerInfo:
        if self.error is not None:
            raise self.error
        return ScannerInfo(name="fake", version="1", database="none")

    def scan(self, view: ImageView) -> Any:
        self.views.append(view)
        if self.error is not None:
            raise self.error
        return make_scan(platform=view.inventory.platform)


@dataclass
class World:
    """What is outside of the pipeline: registries by name, and what is refused."""

    registries: dict[str, MemoryRepository] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Names of repositories that nobody may push to."""
    scanner: Scanner = field(default_factory=FakeScanner)
    builders: Mapping[str, Builder] = field(default_factory=dict)
    signer: Callable[[], Signer | None] = make_signer
    events: list[Event] = field(default_factory=list)
    asked_hosts: list[tuple[str, ...]] = field(default_factory=list)
    exported: Callable[[str, Path, Platform], BuildOutcome] | None = None

    def open(self, reference: Reference) -> MemoryRepository:
        """Open a repository, empty when it is new."""
        return self.registries.setdefault(reference.name, MemoryRepository(name=reference.name))

    def check_push(self, reference: Reference) -> None:
        if reference.name in self.refused:
            raise AccessError(f"{reference.name}: push refused", hint="log in")

    def docker_config(self, hosts: tuple[str, ...], folder: Path) -> Path:
        self.asked_hosts.append(hosts)
        return folder

    def export(self, name: str, folder: Path, platform: Platform) -> BuildOutcome:
        assert self.exported is not None
        return self.exported(name, folder, platform)

    @property
    def parts(self) -> Parts:
        return Parts(
            builders=self.builders,
            export_from_engine=self.export,
            open_scanner=lambda: self.scanner,
            load_signer=self.signer,
            source=self.open,
            target=self.open,
            check_push=self.check_push,
            docker_config=self.docker_config,
        )


def make_context(tmp_path: Path, world: World, **changes: Any) -> RunContext:
    """Return the context of a run on the main branch."""
    on_existing = changes.pop("on_existing", OnExisting.FAIL)
    sign_format = changes.pop("sign_format", SignFormat.BOTH)
    for name in ("project", "work"):
        (tmp_path / name).mkdir(exist_ok=True)
    context = RunContext(
        settings=Settings(
            images={"app": ImageSettings()},
            publish=PublishSettings(on_existing=on_existing),
            sign=SignSettings(format=sign_format),
        ),
        ci=MAIN,
        policy=BUILT_IN,
        waivers=(),
        parts=world.parts,
        project=tmp_path / "project",
        work=tmp_path / "work",
        cache=DiskCache(folder=tmp_path / "cache", max_bytes=1 << 20),
        env={},
        now=lambda: NOW,
        cancel=Cancel(),
        on_event=world.events.append,
    )
    return replace(context, **changes)


def make_plan(name: str = "app", **changes: Any) -> ImagePlan:
    """Return a plan that builds, pushes to two places, signs, and gives a fixed and a moving tag."""
    plan = ImagePlan(
        name=name,
        action="build",
        reason="every run builds",
        dockerfile="Dockerfile",
        context=".",
        target="",
        platforms=("linux/amd64",),
        bases=(),
        builder="fake",
        builder_reason="it works",
        destinations=(parse_reference(FIRST), parse_reference(SECOND)),
        tags=(SHA_TAG, BRANCH_TAG, LEFT_OUT),
        existing=(),
        push=True,
        by_digest=False,
        push_reason="push event on main",
        sign=True,
        sign_reason="key from env://COSIGN_PRIVATE_KEY",
        cache=CacheReferences(),
        cache_reason="cache is off",
        scanner="fake",
        database="none",
        policy_source="built-in",
    )
    return replace(plan, **changes)


def make_image(tmp_path: Path, name: str = "app", **changes: Any) -> ImageRun:
    """Return an image before its first step; `plan` or settings of it may be given."""
    plan = changes.pop("plan", None) or make_plan(name)
    work = tmp_path / f"image-{name}"
    work.mkdir(exist_ok=True)
    return ImageRun(
        plan=plan,
        settings=changes.pop("settings", None) or ImageSettings(),
        work=work,
        **changes,
    )


def make_judged_image(tmp_path: Path, *, platforms: int = 2, **changes: Any) -> ImageRun:
    """Return an image that was built, inspected and let through, with the key loaded."""
    specs = [
        ImageSpec(
            layers=[debian_layer(("zlib1g", "1.2", "")), {"srv/app": f"platform {number}"}],
            architecture=architecture,
        )
        for number, architecture in enumerate(("amd64", "arm64")[:platforms])
    ]
    made = make_layout(tmp_path / "layout", *specs)
    image = make_image(tmp_path, **changes)
    image.layout = Layout(made.layout)
    image.inspected = inspect_layout(made.layout)
    image.decision = make_decision()
    image.signer = make_signer()
    return image
