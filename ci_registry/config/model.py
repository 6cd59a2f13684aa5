"""The only list of settings.

Every field says in its metadata what it means. From here come the YAML reader, the JSON schema, the
reference page, the command-line options, the `CIREG_…` names and the inputs of both wrappers.

A field with `surface` has that name everywhere: `--scanner`, `CIREG_SCANNER`, action input
`scanner`, template input `scanner`. A field without one is called after its section and key:
`--scan-max-db-age`, `CIREG_SCAN_MAX_DB_AGE`, and is no input of the wrappers.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from ci_registry.config.choices import (
    BuilderChoice,
    CacheMode,
    DatabaseSignature,
    FailOn,
    NetworkMode,
    OnExisting,
    PushMode,
    ReportFormat,
    ScannerChoice,
    SignFormat,
    SignMode,
    ToolsMode,
    UploadMode,
)
from ci_registry.config.registry_settings import AuthSettings, NetworkSettings
from ci_registry.config.scan_settings import ScanSettings, ToolsSettings
from ci_registry.config.setting_field import (
    IMAGE_NAME_PATTERN,
    NO_KEY_PATTERN,
    PLACEHOLDERS,
    TAG_PATTERN,
    mapping_setting,
    setting,
)
from ci_registry.oci.platform import Platform

__all__ = [
    "IMAGE_NAME_PATTERN",
    "PLACEHOLDERS",
    "AuthSettings",
    "BuildSettings",
    "BuilderChoice",
    "CacheMode",
    "DatabaseSignature",
    "FailOn",
    "ImageSettings",
    "InlineDocument",
    "NetworkMode",
    "NetworkSettings",
    "OnExisting",
    "PublishSettings",
    "PushMode",
    "ReportFormat",
    "ReportSettings",
    "RunOptions",
    "RuntimeSettings",
    "ScanSettings",
    "ScannerChoice",
    "Settings",
    "SignFormat",
    "SignMode",
    "SignSettings",
    "ToolsMode",
    "ToolsSettings",
    "UploadMode",
    "setting",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineDocument:
    """A document written inside the settings file instead of a file of its own."""

    text: str
    """The YAML source of the value, dedented so that it parses alone."""
    file: str
    line: int
    """1-based line of the first line of `text` in `file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """`images.<name>`: one image."""

    repository: str = setting(
        "",
        "Repository below each registry, or a full name with host; default: the image's key.",
        surface="image",
    )
    context: str = setting(".", "Folder that the build may read.", surface="context")
    dockerfile: str = setting(
        "", "Path of the Dockerfile; default: `Dockerfile` in the context.", surface="dockerfile"
    )
    target: str = setting("", "Stage to build; default: the last one.", surface="target")
    platforms: tuple[Platform, ...] = setting(
        (Platform("linux", "amd64"),),
        "Platforms to build, for example linux/amd64.",
        surface="platforms",
    )
    build_args: dict[str, str] = mapping_setting(
        "Build arguments, NAME=value lines; a bare NAME takes its value from the environment.",
        surface="build-args",
        key_pattern=r"[^=\s]+",
        bare_names=True,
    )
    labels: dict[str, str] = mapping_setting(
        "Labels added to the OCI labels that are set from the CI context, NAME=value lines.",
        surface="labels",
        key_pattern=r"[^=\s]+",
    )
    secret_envs: tuple[str, ...] = setting(
        (),
        "Build secrets from the environment: NAME, or id=NAME; never values.",
        surface="secret-envs",
        pattern=r"(?:[A-Za-z0-9_.-]+=)?[A-Za-z_][A-Za-z0-9_]*",
        pattern_hint="the NAME of an environment variable, or id=NAME",
        masked=True,
    )
    secret_files: dict[str, str] = mapping_setting(
        "Build secrets from files, id=path lines.",
        surface="secret-files",
        key_pattern=r"[A-Za-z0-9_.-]+",
    )
    tags: tuple[str, ...] = setting(
        (),
        "Tag templates; placeholders branch, sha, short_sha, tag, version, major, minor, change, date. Automatic when left out: sha always, branch slug, semantic versions of a tag, latest on the default branch.",
        surface="tags",
        pattern=TAG_PATTERN,
        pattern_hint="a tag of letters, digits, '_', '.', '-' and placeholders such as {branch} or {sha}",
        commas=True,
    )
    from_engine: str = setting(
        "", "Take this image from the Docker engine instead of building.", surface="from-engine"
    )
    from_layout: str = setting(
        "", "Take this OCI layout directory instead of building.", surface="from-layout"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """`build`: how images are built."""

    builder: BuilderChoice = setting(
        BuilderChoice.AUTO,
        "Who builds: auto picks the first that works and says which and why.",
        surface="builder",
    )
    cache: CacheMode = setting(
        CacheMode.AUTO,
        "Layer cache: auto is the registry where the event allows it; change requests read and never write.",
        surface="cache",
    )
    cache_ref: str = setting(
        "", "Repository of the layer cache; default: the image's repository with `/cache` added."
    )
    max_parallel: int = setting(2, "How many images are built at once.", minimum=1, maximum=64)
    network: NetworkMode = setting(NetworkMode.DEFAULT, "Network of RUN instructions.")
    no_cache: bool = setting(False, "Build without using any cached layer.")
    pull: bool = setting(False, "Ask the registry for newer base images.")
    buildkit_image: str = setting(
        "",
        "BuildKit image, pinned by digest, for engines that can't export OCI layouts themselves.",
    )
    timeout: timedelta = setting(timedelta(hours=2), "Longest time that one build may take.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSettings:
    """`publish`: what is written to the registries."""

    push: PushMode = setting(
        PushMode.AUTO,
        "auto: not for change requests and forks; always: still never for forks; by-digest: manifest without tag or signature.",
        surface="push",
        trusted=True,
    )
    on_existing: OnExisting = setting(
        OnExisting.FAIL,
        "When a tag meant never to move (sha, version) points at another image: fail, keep or overwrite. An equal digest is always success.",
        surface="on-existing",
        trusted=True,
    )
    upload: UploadMode = setting(
        UploadMode.OVERLAP,
        "overlap: blobs travel while the scanner works; after-verdict: nothing leaves before.",
        trusted=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSettings:
    """`sign`: signatures."""

    mode: SignMode = setting(
        SignMode.AUTO,
        "auto: with the key if its source is present, else unsigned and said so; key; off.",
        surface="sign",
        trusted=True,
    )
    key: str = setting(
        "env://COSIGN_PRIVATE_KEY",
        "Source of the private key, never the key itself: env://NAME or a path.",
        surface="sign-key",
        trusted=True,
        pattern=NO_KEY_PATTERN,
        pattern_hint="env://NAME or a path, never the key itself",
        masked=True,
    )
    format: SignFormat = setting(
        SignFormat.BOTH,
        "Signature formats: sig (cosign 2 and most admission controllers), bundle (cosign 3), both.",
        trusted=True,
    )
    sbom: bool = setting(
        True,
        "Attest the SBOM of each platform with the same key, for `rescan`; not with format sig.",
        trusted=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """`report`: files that are written in every outcome."""

    dir: str = setting("ci-registry-report", "Folder for the reports.", surface="report-dir")
    formats: tuple[ReportFormat, ...] = setting(
        (ReportFormat.JUNIT, ReportFormat.GITLAB, ReportFormat.CYCLONEDX),
        "Optional report files: junit, gitlab, and an SBOM per platform as cyclonedx or spdx.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSettings:
    """`runtime`: about this run only."""

    offline: bool = setting(False, "No network except the registries named.", surface="offline")
    cache_max_size: str = setting(
        "2GiB",
        "Largest size of the local cache folder.",
        pattern=r"[1-9][0-9]{0,5}(?:KiB|MiB|GiB|TiB)",
        pattern_hint="a size such as 500MiB or 2GiB",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`.ci-registry.yml`: everything. With no file, `--image NAME` makes one image."""

    version: int = setting(1, "Version of this file format.", minimum=1, maximum=1, file_only=True)
    registry: str = setting(
        "", "Registry, with an optional path, that image names are below.", surface="registry"
    )
    registries: tuple[str, ...] = setting((), "Several registries that get the same bytes.")
    images: dict[str, ImageSettings] = mapping_setting(
        "The images, by name.", key_pattern=IMAGE_NAME_PATTERN
    )
    build: BuildSettings = field(default_factory=BuildSettings)
    scan: ScanSettings = field(default_factory=ScanSettings)
    tools: ToolsSettings = field(default_factory=ToolsSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)
    policy: str | InlineDocument = setting(
        "",
        "Policy file, or the policy itself; default: the built-in policy.",
        surface="policy",
        trusted=True,
    )
    fail_on: FailOn = setting(
        FailOn.NONE,
        "Adds a BLOCK rule from that severity up; it can only make the policy stricter.",
        surface="fail-on",
        trusted=True,
    )
    waivers: str = setting(
        "", "Waiver file; default: waivers.yml if present.", surface="waivers", trusted=True
    )
    sign: SignSettings = field(default_factory=SignSettings)
    trust: str = setting(
        "env://COSIGN_PUBLIC_KEY",
        "Public key for verifying: env://NAME or a path to a PEM file.",
        surface="trust",
        trusted=True,
        pattern=NO_KEY_PATTERN,
        pattern_hint="env://NAME or a path, not the key itself",
    )
    report: ReportSettings = field(default_factory=ReportSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    policy_ref: str = setting(
        "",
        "Git ref that the deciding files are read from; default: the trusted ref of the CI event.",
        surface="policy-ref",
        hidden=True,
        no_input=True,
    )
    work_dir: str = setting(
        "",
        "Folder for the private work folder; default: RUNNER_TEMP or the system's.",
        surface="work-dir",
        hidden=True,
        no_input=True,
    )
    cache_dir: str = setting(
        "",
        "Folder for caches; default: the XDG cache folder.",
        surface="cache-dir",
        hidden=True,
        no_input=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of one call that are no settings: they are never in the file."""

    config: str = setting(
        "", "Settings file; default: .ci-registry.yml if present.", surface="config", hidden=True
    )
    working_directory: str = setting(
        "",
        "Folder that relative paths start from; default: the current one.",
        surface="working-directory",
        hidden=True,
    )
    only: tuple[str, ...] = setting(
        (),
        "Names of the images to work on; default: all.",
        surface="only",
        hidden=True,
        commas=True,
    )
    dry_run: bool = setting(
        False,
        "Run everything against an embedded registry with a throw-away key.",
        surface="dry-run",
        hidden=True,
    )
