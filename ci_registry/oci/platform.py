"""Platforms as in the image index: operating system, architecture, variant."""

from dataclasses import dataclass

from ci_registry.errors import UsageError

_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm"}


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
    architecture = _ARCHITECTURES.get(architecture.lower(), architecture.lower())
    variant = variant.lower()
    if architecture == "arm64" and variant in ("v8", "8"):
        variant = ""
    if architecture == "arm" and not variant:
        variant = "v7"
    if architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(os.lower(), architecture, variant)


def parse_platform(text: str) -> Platform:
    """Parse `os/architecture[/variant]`.

    Raises:
        UsageError: the text has another shape.
    """
    parts = text.strip().split("/")
    if len(parts) not in (2, 3) or not all(part.isascii() and part for part in parts):
        raise UsageError(
            f"not a platform: {text!r}", hint="write it as linux/amd64 or linux/arm/v7"
        )
    return normalise_platform(*parts)
