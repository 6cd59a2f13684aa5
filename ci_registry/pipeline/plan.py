"""The plan of a run: what would happen to each image and why; pure values, printable."""

from dataclasses import dataclass, replace

from ci_registry.builders.interface import CacheReferences, Probe
from ci_registry.ci.tags import PlannedTag
from ci_registry.config.model import ImageSettings
from ci_registry.errors import ExitCode, Problem
from ci_registry.oci.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem:
    """Something that preflight will stop at."""

    message: str
    hint: str = ""
    exit_code: ExitCode = ExitCode.CONFIG
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return str(Problem(message=self.message, file=self.file, line=self.line, hint=self.hint))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingTag:
    """A tag that exists already at a destination."""

    destination: str
    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalBase:
    """The image that the last stage lies on, for one platform."""

    platform: str
    """Of the image that is built."""
    reference: str
    """As in the Dockerfile, arguments put in; `scratch` when there is none."""
    base_platform: str
    """Of the base; another one only with `FROM --platform`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredImage:
    """What was read about one image before anything is decided."""

    name: str
    settings: ImageSettings
    pulled: str = ""
    """The reference that the image is pulled from; empty when it is built or imported."""
    dockerfile_name: str
    """Path as the user knows it; relative to the project."""
    bases: tuple[str, ...] = ()
    final_bases: tuple[FinalBase, ...] = ()
    tags: tuple[PlannedTag, ...] = ()
    destinations: tuple[Reference, ...] = ()
    probes: tuple[tuple[str, Probe], ...] = ()
    """(builder, what it can do here), in order of preference."""
    existing: tuple[ExistingTag, ...] = ()
    problems: tuple[PlanProblem, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be read, and what that means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredRun:
    """What was read about the run."""

    key_present: bool
    """Whether the source of the signing key has something in it."""
    key_source: str
    policy_source: str
    scanner: str
    database: str
    is_policy_trusted: bool = True
    """False: no trusted ref could be read, so what decides is the change's own."""
    is_dry_run: bool = False
    """Nothing may leave this machine, the layer cache included."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """What will happen to one image."""

    name: str
    action: str
    """`build` or `import`."""
    reason: str
    dockerfile: str
    context: str
    target: str
    platforms: tuple[str, ...]
    bases: tuple[str, ...]
    builder: str
    builder_reason: str
    destinations: tuple[Reference, ...]
    tags: tuple[PlannedTag, ...]
    existing: tuple[ExistingTag, ...]
    push: bool
    by_digest: bool
    push_reason: str
    sign: bool
    sign_reason: str
    cache: CacheReferences
    cache_reason: str
    scanner: str
    database: str
    policy_source: str
    final_bases: tuple[FinalBase, ...] = ()
    """One per platform; none for images that are not built from a Dockerfile."""
    problems: tuple[PlanProblem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def live_tags(self) -> tuple[PlannedTag, ...]:
        """The tags that this event gives the image."""
        return () if self.by_digest else tuple(tag for tag in self.tags if tag.tag)

    def without_writes(self, why: str) -> "ImagePlan":
        """Return the same plan for a command that writes to no registry, not even a cache."""
        return replace(
            self,
            push=False,
            push_reason=why,
            sign=False,
            sign_reason=why,
            cache=replace(self.cache, export=""),
        )

    @property
    def writes(self) -> tuple[str, ...]:
        """Everything that a passing run would write, in order."""
        if not self.push:
            return ()
        lines = [f"cache {self.cache.export}"] if self.cache.export else []
        for place in self.destinations:
            lines.append(f"manifests {place.name}@<digest>")
            lines += [f"signatures {place.name}@<digest>"] if self.sign else []
            lines += [f"tag {place.name}:{tag.tag}" for tag in self.live_tags]
        return tuple(lines)
