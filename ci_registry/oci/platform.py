"""Platforms as in the image index: operating system, architecture, variant."""

import re
from dataclasses import dataclass

from ci_registry.errors import UsageError

_SYSTEMS = {"macos": "darwin"}
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_PART = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """One platform of an image, normalised: `linux/arm64/v8` is `linux/arm64`, `linux/arm` is `linux/arm/v7`."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def slug(self) -> str:
        """The platform for file names: `linux-amd64`."""
        return str(self).replace("/", "-")

    def to_json(self) -> dict[str, str]:
        """Return the `platform` member of a descriptor."""
        result = {"architecture": self.architecture, "os": self.os}
        return result | ({"variant": self.variant} if self.variant else {})


def normalise_platform(os: str, architecture: str, variant: str = "") -> Platform:
    """Return the platform with the aliases and default variants of containerd resolved."""
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    architecture, variant = _ARCHITECTURES.get(architecture, (architecture, variant))
    if architecture == "arm64" and variant in ("v8", "8"):
        variant = ""
    if architecture == "arm":
        variant = f"v{variant}" if variant.isdecimal() else variant or "v7"
    if architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(_SYSTEMS.get(os, os), architecture, variant)


def is_platform_part(text: str) -> bool:
    """Whether `text` can be an operating system, architecture or variant; it goes into file names."""
    return _PART.fullmatch(text) is not None and bool(text.strip("."))


def parse_platform(text: str) -> Platform:
    """Parse `os/architecture[/variant]`.

    Raises:
        UsageError: the text has another shape.
    """
    parts = text.strip().split("/")
    if len(parts) not in (2, 3) or not all(is_platform_part(part) for part in parts):
        raise UsageError(
            f"not a platform: {text!r}", hint="write it as linux/amd64 or linux/arm/v7"
        )
    return normalise_platform(*parts)
