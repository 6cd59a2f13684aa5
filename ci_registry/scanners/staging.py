"""Puts an image into a staging repository for the time of a registry-side scan, and takes it away again."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, CiRegistryError
from ci_registry.events import EventSink, Level, Log
from ci_registry.oci.manifest import Manifest
from ci_registry.oci.reference import Reference
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.remote import check_push_right
from ci_registry.registry.transfer import blobs_of, upload_blobs
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.registry_side import Placed

_WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """The staging repository of the settings."""

    repository: Reference
    open: Callable[[Reference], Repository]
    open_remover: Callable[[], AbstractContextManager[Callable[[Reference], None]]]
    """Opens what takes a manifest away by digest; it works after a cancellation too, for seconds."""
    cancel: Cancel
    on_event: EventSink
    refusal: str = ""
    """Why nothing may be put there in this run; empty when it may."""

    def check(self) -> None:
        """Find out whether images can be put there.

        Raises:
            AccessError: this run may write nothing, or the login has no right.
            CiRegistryError: the registry can't be asked.
        """
        if self.refusal:
            raise AccessError(
                f"nothing is put into the staging repository {self.repository.name}: {self.refusal}",
                hint="scan with the built-in scanner here: --scanner osv",
            )
        check_push_right(self.open(self.repository))

    @contextlib.contextmanager
    def placed(self, view: ImageView) -> Iterator[Placed]:
        """Put the image there by digest, without a tag; an image that was there before stays.

        Raises:
            CiRegistryError: it can't be put there.
        """
        self.check()
        layout = Layout(view.layout)
        (entry,) = layout.entries()
        manifest = layout.fetch(entry.digest)
        place = self.repository.at(entry.digest)
        placed = Placed(reference=place, notes=[])
        target = self.open(self.repository)
        if target.resolve(entry.digest) is not None:
            yield placed
            return
        blobs = blobs_of((manifest,)) if isinstance(manifest, Manifest) else ()
        upload_blobs(
            layout,
            target,
            blobs,
            workers=_WORKERS,
            cancel=self.cancel,
            on_event=self.on_event,
            image=self.repository.repository,
            step="scan",
        )
        try:
            target.push(entry.digest, manifest.body, manifest.media_type)
            yield placed
        finally:
            self._remove(placed)

    def _remove(self, placed: Placed) -> None:
        """Take the manifest away; when that fails people must know, and the scan counts all the same."""
        try:
            with self.open_remover() as remove:
                remove(placed.reference)
        except CiRegistryError as error:
            note = f"{placed.reference} could not be taken away again: {error.headline}"
            placed.notes.append(note)
            self.on_event(Log(message=note, level=Level.WARNING, step="scan"))
