"""Image references: `registry/repository:tag@digest`, in Docker's familiar short forms too."""

import re
from dataclasses import dataclass, replace
from typing import Self

from ci_registry.errors import UsageError
from ci_registry.oci.digest import Digest, is_digest

DEFAULT_REGISTRY = "docker.io"
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?")
_MAX_PORT = 65535


def is_tag(text: str) -> bool:
    """Whether `text` is a valid tag of the distribution specification."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where an image is: a repository, and in it nothing, a tag, a digest, or both."""

    registry: str
    """Host, with port when there is one; `docker.io` for Docker Hub."""
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest when known, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    def at(self, digest: Digest) -> Self:
        """Return the same repository at `digest`, without a tag."""
        return replace(self, tag="", digest=digest)

    def tagged(self, tag: str) -> Self:
        """Return the same repository at `tag`, without a digest."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def _split_host(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
        match = _HOST.fullmatch(first)
        if match is None or int(match[1] or 1) not in range(1, _MAX_PORT + 1):
            raise UsageError(f"not a registry host: {first!r}")
        host = first.lower()
        return (DEFAULT_REGISTRY, rest) if host == "index.docker.io" else (host, rest)
    return DEFAULT_REGISTRY, text


def parse_reference(text: str) -> Reference:
    """Parse a reference as Docker does: `alpine` is `docker.io/library/alpine`.

    Raises:
        UsageError: the text is no reference; says which part is wrong.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise UsageError(f"not an image reference: {text!r}: {digest!r} is not a sha256 digest")
    registry, path = _split_host(rest)
    path, colon, tag = path.partition(":")
    if colon and not is_tag(tag):
        raise UsageError(f"not an image reference: {text!r}: {tag!r} is not a tag")
    if registry == DEFAULT_REGISTRY and path and "/" not in path:
        path = f"library/{path}"
    if not _REPOSITORY.fullmatch(path):
        hint = "repository names are lower case" if path != path.lower() else ""
        raise UsageError(
            f"not an image reference: {text!r}: {path!r} is not a repository", hint=hint
        )
    if len(path) + len(registry) > 255:
        raise UsageError(f"not an image reference: {text[:60]!r}…: longer than 255 characters")
    return Reference(
        registry=registry, repository=path, tag=tag, digest=Digest(digest) if at else None
    )


def is_loopback(registry: str) -> bool:
    """Whether a registry host is this machine, so that plain HTTP is allowed without being named."""
    if registry.startswith("["):
        return registry[1:].partition("]")[0] == "::1"
    host = registry.rpartition(":")[0] or registry
    return host == "localhost" or re.fullmatch(r"127(?:\.\d{1,3}){3}", host) is not None
