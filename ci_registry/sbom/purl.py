"""Reads package URLs: what a purl says about name, version and distribution (purl specification)."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from ci_registry.errors import IntegrityError
from ci_registry.findings import Distribution

MAX_PURL_BYTES = 4096
_SEPARATORS = {"npm": "/", "golang": "/", "composer": "/", "maven": ":"}
"""What stands between namespace and name in the name that advisories use; else the name is alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purl:
    """The parts of a purl, decoded."""

    type: str
    namespace: str
    name: str
    version: str
    qualifiers: dict[str, str]

    @property
    def package_name(self) -> str:
        """The name in advisories, for example `@scope/name` or `group:artifact`."""
        separator = _SEPARATORS.get(self.type)
        return (
            f"{self.namespace}{separator}{self.name}" if separator and self.namespace else self.name
        )

    @property
    def distribution(self) -> Distribution | None:
        """The distribution that an OS package's `distro` qualifier names; None without one."""
        told = self.qualifiers.get("distro", "")
        identity, dash, version = told.partition("-")
        if told and not dash and not identity.isalpha():
            identity, version = self.namespace, told  # trivy's way for Alpine: `distro=3.20.1`
        return Distribution(id=identity, version=version) if identity else None


def parse_purl(text: str) -> Purl:
    """Take a purl apart.

    Raises:
        IntegrityError: it has no type or no name, or is too long.
    """
    scheme, colon, rest = text.partition(":")
    if scheme.lower() != "pkg" or not colon or len(text) > MAX_PURL_BYTES:
        raise IntegrityError(f"{text[:100]!r} is no package URL")
    rest = rest.partition("#")[0].lstrip("/")
    rest, _, query = rest.partition("?")
    path, at, version = rest.rpartition("@")
    if not at or "/" in version:
        path, version = rest, ""
    kind, *names = [unquote(part) for part in path.split("/") if part]
    if not names or not kind:
        raise IntegrityError(f"{text[:100]!r} is a package URL without type or name")
    return Purl(
        type=kind.lower(),
        namespace="/".join(names[:-1]),
        name=names[-1],
        version=unquote(version),
        qualifiers=dict(parse_qsl(query)),
    )
