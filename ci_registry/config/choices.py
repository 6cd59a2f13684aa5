"""The closed sets of words that settings may have."""

from enum import StrEnum


class BuilderChoice(StrEnum):
    """Who builds."""

    AUTO = "auto"
    BUILDX = "buildx"
    DOCKER_ENGINE = "docker_engine"
    BUILDAH = "buildah"
    ASSEMBLE = "assemble"


class CacheMode(StrEnum):
    """Which layer cache a build uses."""

    AUTO = "auto"
    REGISTRY = "registry"
    OFF = "off"


class NetworkMode(StrEnum):
    """Network of `RUN` instructions."""

    DEFAULT = "default"
    NONE = "none"
    HOST = "host"


class ScannerChoice(StrEnum):
    """Who scans; never what happens to be installed."""

    OSV = "osv"
    TRIVY = "trivy"
    GRYPE = "grype"
    HARBOR = "harbor"
    ECR = "ecr"
    QUAY = "quay"


class ToolsMode(StrEnum):
    """Which programs may be started."""

    ANY = "any"
    LOCKED = "locked"


class PushMode(StrEnum):
    """When images are pushed."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"
    BY_DIGEST = "by-digest"


class OnExisting(StrEnum):
    """What to do when a tag that is meant never to move exists and points at another image."""

    FAIL = "fail"
    KEEP = "keep"
    OVERWRITE = "overwrite"


class UploadMode(StrEnum):
    """When unnamed blobs travel."""

    OVERLAP = "overlap"
    AFTER_VERDICT = "after-verdict"


class DatabaseSignature(StrEnum):
    """Whether an advisory database that is named by tag must be signed."""

    REQUIRED = "required"
    OFF = "off"


class SignMode(StrEnum):
    """How images are signed."""

    AUTO = "auto"
    KEY = "key"
    OFF = "off"


class SignFormat(StrEnum):
    """Which signature formats are written."""

    BOTH = "both"
    SIG = "sig"
    BUNDLE = "bundle"


class FailOn(StrEnum):
    """A BLOCK rule from this severity up, added to the policy."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ReportFormat(StrEnum):
    """Optional report files; `result.json` and `summary.md` are always written."""

    JUNIT = "junit"
    GITLAB = "gitlab"
    CYCLONEDX = "cyclonedx"
    SPDX = "spdx"
