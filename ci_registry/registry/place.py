"""Where images are, as people name it: a reference, a layout folder, an OCI or Docker archive."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ci_registry.errors import UsageError
from ci_registry.oci.digest import Digest, is_digest
from ci_registry.oci.reference import DEFAULT_REGISTRY, Reference, is_tag, parse_reference

_TRANSPORT = re.compile(r"(docker|oci|oci-archive|docker-archive):(.*)", re.DOTALL)
_FOREIGN = re.compile(
    r"(https?://|[a-z-]+://|(?:dir|docker-daemon|containers-storage|ostree|sif|tarball):)(.*)",
    re.DOTALL,
)
"""How other tools name places that are none here."""
_FORMS = "a place is REGISTRY/REPOSITORY[:TAG], oci:DIR, oci-archive:FILE or docker-archive:FILE"


class PlaceKind(StrEnum):
    """What kind of place."""

    REGISTRY = "docker"
    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place, and in it nothing, a tag, a digest, or both."""

    kind: PlaceKind
    reference: Reference | None = None
    """Of a registry."""
    path: Path | None = None
    """Of a folder or archive, as the user wrote it."""
    tag: str = ""
    digest: Digest | None = None

    @property
    def target(self) -> str:
        """What to ask for: the digest when known, else the tag; empty: whatever is there."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        """The place without tag and digest."""
        if self.reference is not None:
            return self.reference.name
        return f"{self.kind}:{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_place(text: str, *, folder: Path) -> Place:
    """Parse `REFERENCE`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]` or a folder.

    `docker://REFERENCE` is a reference too, and `@DIGEST` may stand behind each form.

    Args:
        text: as given.
        folder: what relative paths start from. A folder there with an `index.json` is a layout,
            so that `./image` needs no prefix.

    Raises:
        UsageError: none of these forms.
    """
    match = _TRANSPORT.fullmatch(text)
    if match is not None and match[1] == PlaceKind.REGISTRY and match[2].startswith("//"):
        return _registry(match[2][2:])
    if match is not None and match[1] != PlaceKind.REGISTRY:
        return _file(PlaceKind(match[1]), match[2], folder)
    if text and _exists(folder / text / "index.json"):
        return Place(kind=PlaceKind.LAYOUT, path=folder / text)
    _refuse_foreign(text)
    try:
        return _registry(text, beside=folder)
    except UsageError as error:
        if text.startswith(("/", "./", "../")):
            raise UsageError(
                f"{text} is no OCI layout folder: it has no index.json",
                hint="name a file with oci-archive: or docker-archive:, a new folder with oci:",
            ) from error
        raise


def _refuse_foreign(text: str) -> None:
    """Refuse what would be taken for an image of Docker Hub, but is how others name something else.

    Raises:
        UsageError: such a name.
    """
    match = _FOREIGN.match(text)
    if match is None:
        return
    if match[1].startswith("http"):
        hint = (
            f"leave {match[1]} out: {match[2][:140]}; hosts without TLS stand in network.plain_http"
        )
    else:
        hint = f"{_FORMS}; an image of Docker Hub with that name is docker://{text[:140]}"
    raise UsageError(f"{match[1]} is no kind of place", hint=hint)


def _registry(text: str, *, beside: Path | None = None) -> Place:
    """Parse a reference; a bare name of something that is in the folder `beside` is refused."""
    found = parse_reference(text)
    if beside is not None and found.registry == DEFAULT_REGISTRY and _exists(beside / text):
        raise UsageError(
            f"{text} is here, but is no OCI layout folder",
            hint=f"{_FORMS}; the image of Docker Hub is docker://{text}",
        )
    return Place(kind=PlaceKind.REGISTRY, reference=found, tag=found.tag, digest=found.digest)


def _file(kind: PlaceKind, text: str, folder: Path) -> Place:
    rest, at, digest = text.rpartition("@")
    if not at or not is_digest(digest):
        rest, digest = text, ""
    path, tag = _split_tag(rest, folder)
    if not path:
        raise UsageError(f"{kind}: names no file or folder: {text!r}")
    return Place(kind=kind, path=folder / path, tag=tag, digest=Digest(digest) if digest else None)


def _split_tag(text: str, folder: Path) -> tuple[str, str]:
    """Split `PATH:TAG`; colons may be in both, so what exists is the path, and its longest form counts."""
    colons = [position for position, char in enumerate(text) if char == ":"]
    for end in (len(text), *reversed(colons)):
        if text[:end] and _exists(folder / text[:end]):
            return text[:end], text[end + 1 :]
    before, _, after = text.rpartition(":")
    return (before, after) if is_tag(after) and colons else (text, "")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # too long for a name, or in a folder that we may not look into
