"""Gives BuildKit the build context under a name that changes with its content.

BuildKit keeps a copy of each local folder under the client's node id and the folder's base name, and
fetches only files whose size, mode or mtime differ. A file changed within one mtime, or another context
with the same base name, would be built from the old copy (moby/buildkit#4950). A symbolic link named
after the hash of everything in the context gives every content a copy of its own.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.interface import BuildRequest
from ci_registry.dockerfile.model import Dockerfile
from ci_registry.dockerfile.parse import parse_dockerfile
from ci_registry.errors import SetupError
from ci_registry.files import read_file, storage_error

MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024
HashContext = Callable[[Path, Path], str]
"""`(context, dockerfile)` → sha256, hexadecimal, of everything that the build may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedContext:
    """The paths to give to the builder instead of the real ones."""

    context: Path
    dockerfile: Path


def check_inputs(request: BuildRequest) -> None:
    """Raise `SetupError` when the context, the Dockerfile or a secret's file is missing."""
    if not request.context.is_dir():
        raise SetupError(
            f"the build context of {request.image} is not a folder: {request.context}",
            hint="set `context` to the folder that the build may read",
        )
    if not request.dockerfile.is_file():
        raise SetupError(
            f"no Dockerfile for {request.image}: {request.dockerfile_name} does not exist",
            hint="set `dockerfile` to its path",
        )
    for secret in request.secrets:
        if secret.value is None and (secret.file is None or not secret.file.is_file()):
            raise SetupError(
                f"build secret {secret.id!r} of {request.image} is missing"
                + (f": {secret.file} does not exist" if secret.file else ""),
                hint="set its variable or file where the build runs",
            )


def read_dockerfile(request: BuildRequest) -> Dockerfile:
    """Parse the Dockerfile of a request.

    Raises:
        SetupError: the context, the Dockerfile or a secret's file is missing.
        BuildError: the Dockerfile is wrong.
        StorageError: it can't be read.
    """
    check_inputs(request)
    return parse_dockerfile(dockerfile_text(request), file=request.dockerfile_name)


def dockerfile_text(request: BuildRequest) -> str:
    """Return the Dockerfile of a request; raises `StorageError` when it can't be read."""
    return read_file(request.dockerfile, max_bytes=MAX_DOCKERFILE_BYTES).decode(errors="replace")


def link_context(request: BuildRequest, hash_context: HashContext) -> LinkedContext:
    """Make the links below `request.work` and return them.

    The name covers the Dockerfile and its ignore file too: they reach BuildKit in the same way and
    need not be part of the context.

    Raises:
        StorageError: the work folder can't be written, or the Dockerfile can't be read.
    """
    hasher = hashlib.sha256(hash_context(request.context, request.dockerfile).encode())
    ignore_file = request.dockerfile.with_name(f"{request.dockerfile.name}.dockerignore")
    for path in (request.dockerfile, ignore_file):
        present = path.is_file()
        content = read_file(path, max_bytes=MAX_DOCKERFILE_BYTES) if present else b""
        hasher.update(f"\0{present} {len(content)}\0".encode() + content)
    name = hasher.hexdigest()
    context = _link(request.work / "context" / name, request.context)
    folder = _link(request.work / "dockerfile" / name, request.dockerfile.parent)
    return LinkedContext(context=context, dockerfile=folder / request.dockerfile.name)


def _link(link: Path, target: Path) -> Path:
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target.absolute())
    except OSError as error:
        raise storage_error(error, link, "make") from error
    return link
