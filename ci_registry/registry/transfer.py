"""Moves images between repositories: blobs in threads, then manifests, children before their index."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError, IntegrityError
from ci_registry.events import EventSink, Progress
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.content import CheckedSource
from ci_registry.registry.interface import BlobOutcome, PushedBlob, Repository
from ci_registry.results import Step

MAX_DEPTH = 4
"""How deep indexes may be nested."""
MAX_MANIFESTS = 1000
"""How many manifests one image may have in all."""
_EVERY_BYTES = 1024 * 1024


def manifests_of(source: Repository, root: Descriptor) -> tuple[Manifest | Index, ...]:
    """Return every manifest of an image, children before the index that lists them, each once.

    Raises:
        NotFoundError: one is missing.
        IntegrityError: nested too deep, too many, or not what its descriptor says.
    """
    found: dict[Digest, Manifest | Index] = {}

    def visit(descriptor: Descriptor, depth: int) -> None:
        if descriptor.digest in found:
            return
        if depth > MAX_DEPTH or len(found) >= MAX_MANIFESTS:
            raise IntegrityError(f"{root.digest}: indexes nested too deep, or too many manifests")
        manifest = source.fetch(descriptor.digest)
        if len(manifest.body) != descriptor.size:
            raise IntegrityError(
                f"manifest {descriptor.digest} has {len(manifest.body)} bytes, its descriptor says {descriptor.size}"
            )
        if isinstance(manifest, Index):
            for child in manifest.manifests:
                visit(child, depth + 1)
        found[descriptor.digest] = manifest

    visit(root, 1)
    return tuple(found.values())


def blobs_of(manifests: tuple[Manifest | Index, ...]) -> tuple[Descriptor, ...]:
    """Return configs and layers of all manifests, each digest once, foreign layers left out."""
    blobs: dict[Digest, Descriptor] = {}
    for manifest in manifests:
        if isinstance(manifest, Manifest):
            for blob in manifest.blobs:
                if blob.media_type not in media_types.FOREIGN_LAYERS:
                    blobs.setdefault(blob.digest, blob)
    return tuple(blobs.values())


def upload_blobs(
    source: Repository,
    target: Repository,
    blobs: tuple[Descriptor, ...],
    *,
    workers: int,
    cancel: Cancel,
    on_event: EventSink,
    image: str,
    mount_from: tuple[str, ...] = (),
    step: str = Step.UPLOAD,
) -> tuple[PushedBlob, ...]:
    """Make sure that all blobs are in the target, several at once, large ones first.

    Args:
        source: where the bytes are read, again for each retry.
        target: where they go.
        blobs: may name a digest twice; it travels once.
        workers: how many travel at the same time.
        cancel: ends the transfer at the next piece.
        on_event: gets a `Progress` in bytes for each blob.
        image: for events.
        mount_from: repositories (by `name`) that may hold the blobs on the target's registry.
        step: for events.

    Returns:
        One entry per digest, in the order of `blobs`.

    Raises:
        CiRegistryError: the first error; the other uploads are stopped.
    """
    unique = {blob.digest: blob for blob in blobs}
    one = _OneUpload(
        source=source,
        target=target,
        cancel=cancel,
        mount_from=mount_from,
        report=lambda blob: BlobProgress(on_event, image=image, step=step, blob=blob),
    )
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="blob") as pool:
        order = sorted(unique.values(), key=lambda blob: -blob.size)
        futures = {blob.digest: pool.submit(one, blob) for blob in order}
        _settle(futures)
    if one.errors:
        raise one.errors[0]
    return tuple(futures[digest].result() for digest in unique)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OneUpload:
    """Uploads one blob after another of a transfer; the first error stops every other thread's."""

    source: Repository
    target: Repository
    cancel: Cancel
    mount_from: tuple[str, ...]
    report: Callable[[Descriptor], "BlobProgress"]
    stop: threading.Event = field(default_factory=threading.Event)
    errors: list[BaseException] = field(default_factory=list)

    def __call__(self, blob: Descriptor) -> PushedBlob:
        report = self.report(blob)
        try:
            self.cancel.check()
            pushed = self.target.push_blob(
                blob,
                CheckedSource(lambda: self._pieces(blob, report)),
                mount_from=self.mount_from,
            )
        except BaseException as error:
            if not self.stop.is_set():
                self.errors.append(error)
            self.stop.set()
            raise
        report.end(pushed.outcome)
        return pushed

    def _pieces(self, blob: Descriptor, report: "BlobProgress") -> Iterator[bytes]:
        report.begin()
        for piece in self.source.open(blob.digest):
            self.cancel.check()
            if self.stop.is_set():
                raise CancelledError("stopped because another blob failed")
            yield piece
            report.add(len(piece))


def _settle(futures: dict[Digest, Future[PushedBlob]]) -> None:
    """Wait for the end of all, or for the first error; then nothing more is begun."""
    wait(futures.values(), return_when=FIRST_EXCEPTION)
    for future in futures.values():
        future.cancel()


class BlobProgress:
    """Sends the progress of one blob, at most once per MiB."""

    def __init__(self, on_event: EventSink, *, image: str, step: str, blob: Descriptor) -> None:
        self._on_event = on_event
        self._image = image
        self._step = step
        self._blob = blob
        self._done = 0
        self._sent = 0

    def begin(self) -> None:
        """Start at zero, also for a retry."""
        self._done = self._sent = 0
        self._send(0)

    def add(self, size_bytes: int) -> None:
        """Count bytes that went out."""
        self._done += size_bytes
        if self._done - self._sent >= _EVERY_BYTES:
            self._sent = self._done
            self._send(self._done)

    def end(self, outcome: BlobOutcome) -> None:
        """Say that the blob is there, and how it got there."""
        self._send(self._blob.size, outcome)

    def _send(self, done: int, outcome: str = "") -> None:
        self._on_event(
            Progress(
                image=self._image,
                step=self._step,
                what=self._blob.digest,
                done=done,
                total=self._blob.size,
                detail={"outcome": outcome} if outcome else {},
            )
        )


def publish_manifests(source: Repository, target: Repository, root: Descriptor) -> Digest:
    """Put every manifest of an image by digest, children first, bytes as stored; blobs must be there.

    Raises:
        IntegrityError: the target stored something else.
    """
    _push_all(target, manifests_of(source, root))
    return root.digest


def _push_all(target: Repository, manifests: tuple[Manifest | Index, ...]) -> None:
    for manifest in manifests:
        pushed = target.push(manifest.digest, manifest.body, manifest.media_type)
        if pushed.digest != manifest.digest:
            raise IntegrityError(f"{target.name} stored {pushed.digest}, not {manifest.digest}")


def copy_image(
    source: Repository,
    target: Repository,
    root: Descriptor,
    *,
    workers: int = 4,
    cancel: Cancel,
    on_event: EventSink,
    image: str,
    mount_from: tuple[str, ...] = (),
    step: str = Step.UPLOAD,
) -> Digest:
    """Copy an image with all its platforms, by digest; neither tags nor referrers."""
    manifests = manifests_of(source, root)
    upload_blobs(
        source,
        target,
        blobs_of(manifests),
        workers=workers,
        cancel=cancel,
        on_event=on_event,
        image=image,
        mount_from=mount_from,
        step=step,
    )
    _push_all(target, manifests)
    return root.digest
