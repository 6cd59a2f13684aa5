"""Moves and removes tags of one repository; the manifests stay as they are."""

from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.errors import NotFoundError, RegistryError, UsageError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.interface import EditableRepository, Repository

UNSUPPORTED = "UNSUPPORTED"
_OWN_INTERFACE = "use the registry's own interface to remove it"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedTag:
    """Where a tag is now, and where it was."""

    tag: str
    digest: Digest
    before: Digest | None
    """None: it is new."""


def put_tags(
    repository: Repository, source: Descriptor, tags: tuple[str, ...]
) -> Iterator[MovedTag]:
    """Put tags on a manifest of the same repository, bytes unchanged; each is read back.

    Raises:
        AccessError: a tag may not be moved; those before it have been.
        RegistryError: a tag gives something else afterwards.
    """
    manifest = repository.fetch(source.digest)
    for tag in tags:
        there = repository.resolve(tag)
        if there is None or there.digest != source.digest:
            repository.push(tag, manifest.body, manifest.media_type)
            if repository.fetch(tag).body != manifest.body:
                raise RegistryError(
                    f"{repository.name}:{tag} gives another manifest than was put there",
                    hint="somebody else moves this tag at the same time: run again",
                )
        yield MovedTag(
            tag=tag, digest=source.digest, before=there.digest if there is not None else None
        )


def remove_tag(repository: EditableRepository, tag: str, expected: Digest | None) -> Digest:
    """Remove one tag and check that its manifest is still there; returns the manifest's digest.

    A tag that the registry can't delete alone stays: deleting the manifest instead would take every
    other tag on it along.

    Raises:
        NotFoundError: there is no such tag.
        UsageError: the tag is not at `expected`, or this registry can't delete a tag.
        RegistryError: the tag is still there, or the registry deleted the manifest too.
    """
    name = f"{repository.name}:{tag}"
    there = repository.resolve(tag)
    if there is None:
        raise NotFoundError(f"{name} does not exist", hint="list the tags: ci-registry ls")
    if expected is not None and there.digest != expected:
        raise UsageError(f"{name} is at {there.digest}, not at {expected}: it was not removed")
    try:
        repository.untag(tag)
    except RegistryError as error:
        if error.code != UNSUPPORTED:
            raise
        raise UsageError(
            f"this registry can't delete a tag: {error.message}",
            hint=f"the tag stays. {error.hint or 'Delete it in the interface of the registry'}; or"
            f" delete the manifest with all of its tags: ci-registry rm {repository.name}@{there.digest}",
        ) from error
    now = repository.resolve(tag)
    if now is not None:
        moved = " (somebody put it back)" if now.digest != there.digest else ""
        raise RegistryError(f"{name} is still there{moved}", hint="try again later")
    if repository.resolve(there.digest) is None:
        raise RegistryError(
            f"{name} is removed, and the registry dropped its manifest {there.digest} with it",
            hint="it had no other tag, or this registry deletes more than the tag: push it again to keep it",
        )
    return there.digest
