"""`rescan`: the images of repositories, matched with the advisories of today by their attested inventory."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ci_registry.errors import CiRegistryError, NotFoundError, UsageError
from ci_registry.files import read_file
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.drive import Opened, Work
from ci_registry.pipeline.given import GivenImage
from ci_registry.pipeline.read_image import image_reader
from ci_registry.registry.companions import is_companion
from ci_registry.registry.interface import Repository
from ci_registry.registry.listing import tags_as_listed
from ci_registry.registry.parallel import in_parallel, lookup_pool
from ci_registry.results import RunResult
from ci_registry.verification.published import ReadImage, inventories_of
from ci_registry.verification.trust import TrustedKeys, load_trust
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.begin import begin_run
from ci_registry.wiring.command import run_pipeline

MAX_LIST_BYTES = 16 * 1024 * 1024
MAX_IMAGES = 20_000
_READ_AT_ONCE = 2
"""Images that are pulled at the same time; each reads several layers at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RescanChoice:
    """Which images are looked at again."""

    targets: tuple[str, ...]
    """Repositories (every tag), or images by tag or digest."""
    in_use: Path | None = None
    """A file that lists images, one per line; `#` begins a comment."""
    tags: tuple[str, ...] = ()
    """Patterns of the tags of repositories that count; empty takes every tag."""
    pull: bool = False
    """Whether images without a trusted inventory are pulled and read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """One image, with the first of its names."""

    reference: Reference
    root: Descriptor | None = None
    error: CiRegistryError | None = None


def rescan(caller: Caller, choice: RescanChoice) -> tuple[RunResult, tuple[Path, ...]]:
    """Match and judge images that were published earlier; returns the result and the reports.

    Each image stands for itself: one that can't be read, or has no trusted inventory, is in the
    reports with the reason, and the others are judged all the same.
    """
    places = tuple(_references(caller, choice))
    if not places:
        raise UsageError("no image is named", hint="name repositories or images, or --in-use FILE")
    options = dict(caller.options) | {"only": (), "image": "rescan", "push": "never"}
    lone = replace(caller, options=options, lone_image=True)
    begun = begin_run(lone)

    def given(opened: Opened) -> tuple[GivenImage, ...]:
        basis = begun().basis
        trusted = load_trust(basis.settings.trust, caller.env, basis.trusted.read)
        named = list(_distinct(opened, places, choice.tags))
        names = _names(named)
        read_image = image_reader(opened.context) if choice.pull else None

        def one(image: _Named) -> GivenImage:
            return _given(opened, image, names[image.reference], trusted, read_image)

        with lookup_pool() if read_image is None else ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            return tuple(in_parallel(one, named, pool=pool))

    return run_pipeline(lone, Work(command="rescan", given=given), begun)


def _references(caller: Caller, choice: RescanChoice) -> Iterator[Reference]:
    for text in choice.targets:
        yield parse_reference(text)
    if choice.in_use is None:
        return
    data = read_file(caller.folder / choice.in_use, max_bytes=MAX_LIST_BYTES)
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            yield parse_reference(text)
        except UsageError as error:
            raise UsageError(
                f"{choice.in_use}:{number}: {error.message}", hint="one image per line"
            ) from error


def _distinct(
    opened: Opened, places: Iterable[Reference], patterns: Sequence[str]
) -> Iterator[_Named]:
    """Yield each image once, in the order named, whatever number of tags it has."""
    seen: set[tuple[str, Digest]] = set()
    for place in dict.fromkeys(places):
        for image in _images_at(opened, place, patterns):
            if image.root is not None:
                key = (image.reference.name, image.root.digest)
                if key in seen:
                    continue
                seen.add(key)
                if len(seen) > MAX_IMAGES:
                    raise UsageError(
                        f"more than {MAX_IMAGES} images", hint="choose some with --tags"
                    )
            yield image


def _images_at(opened: Opened, place: Reference, patterns: Sequence[str]) -> Iterator[_Named]:
    """Yield the image that is named, or those of a repository; what fails is said of what failed."""
    run = opened.context
    try:
        repository = run.parts.source(place)
        if place.tag or place.digest:
            yield _named(repository, place)
            return
        listed = sorted(t for t in tags_as_listed(repository) if not is_companion(t))
        chosen = [t for t in listed if not patterns or _matches(t, patterns)]
        if not chosen:
            what = f"no tag that matches {', '.join(patterns)}" if listed else "no tags"
            raise NotFoundError(f"{place.name} has {what}", hint="check the name and the login")
        with lookup_pool() as pool:
            tagged = (place.tagged(tag) for tag in chosen)
            yield from in_parallel(lambda p: _named(repository, p), tagged, pool=pool)
    except CiRegistryError as error:
        run.cancel.check()
        yield _Named(reference=place, error=error)


def _matches(tag: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(tag, pattern) for pattern in patterns)


def _named(repository: Repository, place: Reference) -> _Named:
    try:
        root = repository.resolve(place.target)
        if root is None:
            raise NotFoundError(f"{place} does not exist", hint="check the name and the login")
        return _Named(reference=place, root=root)
    except CiRegistryError as error:
        return _Named(reference=place, error=error)


def _names(images: Sequence[_Named]) -> dict[Reference, str]:
    """Return names for reports that are stable from run to run and different from each other."""
    names: dict[Reference, str] = {}
    for image in images:
        reference = image.reference
        tag = reference.tag or (reference.digest.short if reference.digest else "")
        text = f"{reference.name}-{tag}" if tag else reference.name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-200:]
        taken = set(names.values())
        number = 2
        while name in taken:
            name, number = f"{name}-{number}", number + 1
        names[reference] = name
    return names


def _given(
    opened: Opened,
    image: _Named,
    name: str,
    trusted: TrustedKeys,
    read_image: ReadImage | None,
) -> GivenImage:
    opened.context.cancel.check()
    reference, root, error = image.reference, image.root, image.error
    if root is not None and error is None:
        try:
            repository = opened.context.parts.source(reference)
            found = inventories_of(repository, root, trusted, read_image=read_image)
            return GivenImage(
                name=name,
                inventories=found.inventories,
                source=found.source,
                reference=reference,
                digest=root.digest,
            )
        except CiRegistryError as caught:
            error = caught
    return GivenImage(
        name=name,
        inventories=(),
        source="nowhere",
        reference=reference,
        digest=root.digest if root else None,
        error=error,
    )
