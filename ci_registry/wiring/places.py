"""Opens the places that the registry commands name: registries, layouts, archives."""

import contextlib
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.errors import CiRegistryError, IntegrityError, NotFoundError, UsageError
from ci_registry.events import Level, Log
from ci_registry.files import work_folder, work_root
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.companions import is_companion
from ci_registry.registry.interface import EditableRepository, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.place import Place, PlaceKind
from ci_registry.wiring.basis import Caller, read_basis
from ci_registry.wiring.registries import Registries, open_registries

if TYPE_CHECKING:
    from ci_registry.registry.archive import ArchiveWriter

_READ_ONLY = (PlaceKind.OCI_ARCHIVE, PlaceKind.DOCKER_ARCHIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Opens places for one command."""

    registries: Registries
    caller: Caller
    stack: contextlib.ExitStack

    def scratch(self) -> Path:
        """Return a private folder that is gone at the end of the command."""
        return self.stack.enter_context(work_folder(work_root(self.caller.env)))

    def readable(self, place: Place, *, every_image: bool = False) -> Repository:
        """Open a place for reading; of a Docker archive the image that is named, or every one.

        Raises:
            NotFoundError: there is no such file or folder.
            IntegrityError: it is not what its name says.
        """
        if place.reference is not None:
            return self.registries.open(place.reference)
        path = _existing(place)
        if place.kind is PlaceKind.LAYOUT:
            layout = Layout(path)
            layout.entries()
            return layout
        if place.kind is PlaceKind.OCI_ARCHIVE:
            from ci_registry.registry.archive import open_archive

            return open_archive(path)
        return self._unpacked(path, place, every_image=every_image)

    def _unpacked(self, path: Path, place: Place, *, every_image: bool) -> Layout:
        from ci_registry.registry.docker_archive import convert_all, convert_archive

        layout = Layout.create(self.scratch() / "layout")
        try:
            if every_image:
                convert_all(path, layout)
                return layout
            descriptor = convert_archive(path, layout, name=place.tag)
        except IntegrityError as error:
            if str(path) in error.message:
                raise
            raise IntegrityError(f"{path}: {error.message}", hint=error.hint) from error
        if place.tag:
            layout.set_root(descriptor, tag=place.tag)
        return layout

    def writable(self, place: Place, *, dry_run: bool = False) -> EditableRepository:
        """Open a registry or layout for writing; a layout that does not exist is made.

        Raises:
            UsageError: an archive, which can't be changed.
        """
        if place.reference is not None:
            return self.registries.open(place.reference)
        if place.kind in _READ_ONLY or place.path is None:
            raise UsageError(f"{place} can't be changed", hint="unpack it with ci-registry copy")
        if place.path.exists() and not place.path.is_dir():
            raise UsageError(
                f"{place.path} is a file: {place.name} would be a folder",
                hint=f"name another folder, or write one file: oci-archive:{place.path}",
            )
        exists = (place.path / "index.json").exists()
        return Layout.create(self.scratch() / "layout" if dry_run and not exists else place.path)

    def archive(self, path: Path) -> "ArchiveWriter":
        """Begin a new OCI archive; what is not finished leaves nothing behind."""
        from ci_registry.registry.archive import ArchiveWriter

        return self.stack.enter_context(ArchiveWriter.creating(path))


def _existing(place: Place) -> Path:
    path = place.path
    if path is None or not path.exists():
        near = difflib.get_close_matches(path.name, _names_in(path.parent), 1) if path else []
        hint = f"there is {path.parent / near[0]}" if path and near else "check the path"
        raise NotFoundError(f"{place.name} does not exist", hint=hint)
    if place.kind is not PlaceKind.LAYOUT and not path.is_file():
        raise UsageError(f"{place.name} is no file", hint="name a folder with oci:")
    return path


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []  # no such folder: there is nothing to suggest


@contextlib.contextmanager
def open_places(caller: Caller, *written: Place) -> Iterator[Places]:
    """Open what is needed to reach places; `written` are those that may be written to.

    The given user name and password (`registry-username`) count for the hosts of `written` alone.
    """
    basis = read_basis(caller, needs_images=False, decides_verdict=False)
    if basis.trusted.note:
        caller.on_event(Log(message=basis.trusted.note, level=Level.DEBUG))
    hosts = tuple(p.reference.registry for p in written if p.reference is not None)
    with (
        contextlib.ExitStack() as stack,
        open_registries(caller, basis, hosts=hosts) as registries,
    ):
        yield Places(registries=registries, caller=caller, stack=stack)


def missing_image(repository: Repository, place: Place) -> NotFoundError:
    """Return the error for an image that is not there, with what is there instead."""
    shown = place if place.target else f"{place}:latest"
    return NotFoundError(f"{shown} does not exist", hint=_what_is_there(repository, place))


def _what_is_there(repository: Repository, place: Place) -> str:
    check = "check the name and the login" if place.reference is not None else "check the path"
    if place.digest is not None:
        return check
    try:
        tags = [tag for tag in repository.tags() if not is_companion(tag)]
    except CiRegistryError as error:
        return f"{check}; its tags can't be listed either: {error.headline}"
    if not tags:
        return f"{place.name} has no tags: {check}"
    near = difflib.get_close_matches(place.tag, tags, 3) if place.tag else []
    some = ", ".join(near or tags[-3:])
    listing = (
        f"; all {len(tags)}: ci-registry ls {place.name}"
        if len(tags) > len(near or tags[-3:])
        else ""
    )
    return f"{'did you mean' if near else 'it has'} {some}{'?' if near else ''}{listing}"


def resolve_place(repository: Repository, place: Place) -> Descriptor:
    """Return the manifest that a place names: its digest, its tag, `latest`, or the only image of a layout.

    Raises:
        NotFoundError: there is none.
    """
    if isinstance(repository, Layout) and not place.target:
        return repository.root()
    found = repository.resolve(place.target or "latest")
    if found is None:
        raise missing_image(repository, place)
    if place.tag and place.digest:
        tagged = repository.resolve(place.tag)
        if tagged is None or tagged.digest != place.digest:
            now = tagged.digest if tagged is not None else "gone"
            raise UsageError(f"{place.name}:{place.tag} is not at {place.digest} but {now}")
    return found
