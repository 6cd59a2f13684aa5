"""What a builder is: it turns a build context into an OCI layout directory."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from ci_registry.errors import ExitCode
from ci_registry.oci.platform import Platform
from ci_registry.results import BuildOutcome
from ci_registry.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSecret:
    """One secret for `RUN --mount=type=secret,id=…`; exactly one of `value` and `file` is set."""

    id: str
    value: Secret | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReferences:
    """Where layer cache comes from and goes to; references in registries."""

    imports: tuple[str, ...] = ()
    """Tried in order; one that is absent is no error."""
    export: str = ""
    """Empty: nothing is written."""
    export_mode: str = "max"
    """`max` or `min`."""


class BlobOffer(Protocol):
    """Blobs that are known from an earlier build."""

    def offered_to(self, layout: Path) -> AbstractContextManager[None]:
        """Put them into a layout folder while it is written; take out what is not used at the end.

        The end may raise `registry.known_blobs.DamagedOfferError`: then build again without the offer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything that decides one build."""

    image: str
    """Name in the settings, for events."""
    context: Path
    """Absolute."""
    dockerfile: Path
    """Absolute."""
    dockerfile_name: str = "Dockerfile"
    """As the user knows it, for messages."""
    layout: Path
    """Folder to make; it holds an OCI layout directory afterwards."""
    work: Path
    """Private scratch folder of this build; the caller removes it."""
    target: str = ""
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[BuildSecret, ...] = ()
    cache: CacheReferences = field(default_factory=CacheReferences)
    no_cache: bool = False
    pull: bool = False
    network: str = "default"
    source_date_epoch: int = 0
    """Seconds; the time stamped into layers and config where the builder can."""
    docker_config: Path | None = None
    """Private `DOCKER_CONFIG` folder with credentials for the hosts that this build needs."""
    plain_http: tuple[str, ...] = ()
    """Registry hosts without TLS, beside loopback."""
    timeout: timedelta = timedelta(hours=2)
    known_blobs: BlobOffer | None = None
    """Blobs of the last build, for builders that can skip those that are in the layout already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a builder can do here, found out without building."""

    usable: bool
    reason: str
    """Why it is not usable, or how it will work: printed in the plan, one line."""
    version: str = ""
    program: str = ""
    """Path of the program, for the record."""
    sha256: str = ""
    exports_cache: bool = False
    multi_platform: bool = False
    notes: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.CONFIG
    """Of a run that names this builder when it is not usable: 4 when its engine or program is missing."""


class Builder(Protocol):
    """Builds one image. Raises `BuildError`, `SetupError`, `ToolError`, `CancelledError` only."""

    @property
    def name(self) -> str:
        """The builder's name in the settings."""

    def probe(self, request: BuildRequest) -> Probe:
        """Say whether this builder can serve `request` here, and why not; never raises for absence."""

    def build(self, request: BuildRequest) -> BuildOutcome:
        """Build into `request.layout`: every requested platform, nothing else, no attestation manifests."""
