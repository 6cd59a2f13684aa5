"""Inspects an image: proves every blob and every diff id, and takes the inventory of each platform."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

from ci_registry.cancel import Cancel
from ci_registry.errors import IntegrityError
from ci_registry.events import EventSink, Progress, ignore_events
from ci_registry.findings import Inventory
from ci_registry.inventory.layer import Layer, compression_of, read_layer
from ci_registry.inventory.layer_store import LayerCache
from ci_registry.inventory.layers import Found, ImageTree, files_of_interest, missing_content
from ci_registry.inventory.limits import DEFAULT_LIMITS, Limits
from ci_registry.inventory.packages import read_contents
from ci_registry.inventory.select import Candidate, ReadBlob, select_images
from ci_registry.inventory.verified import OnBytes, OpenBlob, verify_blob
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.results import PlatformImage

_PROGRESS_BYTES = 4 << 20
IsProven = Callable[[Descriptor], bool]


def _nothing_is_proven(_blob: Descriptor) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedImage:
    """An image of which every byte was proven."""

    root: Manifest | Index
    platforms: tuple[PlatformImage, ...]
    """In the order of the index."""
    others: tuple[Manifest, ...]
    """Attestation manifests in the index; their blobs are proven too, their content is not read."""


def inspect_image(
    root: Descriptor,
    *,
    read: ReadBlob,
    open_blob: OpenBlob,
    requested: tuple[Platform, ...] = (),
    cancel: Cancel,
    on_event: EventSink = ignore_events,
    image: str = "",
    workers: int = 2,
    limits: Limits = DEFAULT_LIMITS,
    layer_cache: LayerCache | None = None,
    is_proven: IsProven = _nothing_is_proven,
) -> InspectedImage:
    """Verify everything behind `root` and read the packages of each platform.

    Args:
        root: an index or a manifest.
        read: returns the bytes of a manifest or config.
        open_blob: yields the bytes of any blob; called from several threads, and a second time for a
            layer in which a link made a file important that its own name did not.
        requested: platforms that must be there; empty takes what there is.
        cancel: reaches every piece that is read.
        on_event: told about progress, in compressed bytes of each layer.
        image: name of the image in events.
        workers: layers read at the same time; each is read once, however many platforms share it.
        limits: bounds of what is read.
        layer_cache: layers that it knows are hashed, not inflated and read again.
        is_proven: says that a blob was hashed in this run already and has not changed since.

    Raises:
        IntegrityError: something is not what it claims to be; names the layer and its digest.
        CancelledError: the run was cancelled.
    """
    selection = select_images(root, read, requested, limits)
    with _Pool(cancel, workers) as pool:
        reader = LayerReader(
            open_blob, limits, pool.cancel, on_event, image, layer_cache, is_proven
        )
        tasks = [*reader.tasks(selection.images), *_other_tasks(selection.others, reader)]
        pool.run(tasks)
        layers = reader.layers
        for candidate in selection.images:
            _compare_diff_ids(candidate, layers)
        platforms = tuple(_platform_image(c, layers, reader) for c in selection.images)
    return InspectedImage(root=selection.root, platforms=platforms, others=selection.others)


class _Pool:
    """Runs tasks on threads; the first that fails stops the others, and its error is raised."""

    def __init__(self, cancel: Cancel, workers: int) -> None:
        self.cancel = Cancel()
        self._remove = cancel.on_cancel(lambda: self.cancel.set(cancel.reason))
        self._executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="inspect")
        self._lock = threading.Lock()
        self._first: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._remove()

    def run(self, tasks: Iterable[Callable[[], None]]) -> None:
        futures = [self._executor.submit(self._guarded, task) for task in tasks]
        for future in futures:
            future.result()
        if self._first is not None:
            raise self._first

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            self.cancel.check()
            task()
        except BaseException as error:  # noqa: BLE001 - kept and raised by run()
            with self._lock:
                self._first = self._first or error
            self.cancel.set("another layer failed")


class LayerReader:
    """Reads the layers of one image, each once, from the cache where it has them."""

    def __init__(  # noqa: PLR0917 - one caller
        self,
        open_blob: OpenBlob,
        limits: Limits,
        cancel: Cancel,
        on_event: EventSink,
        image: str,
        cache: LayerCache | None,
        is_proven: IsProven,
    ) -> None:
        """See `inspect_image`."""
        self.open_blob = open_blob
        self.cancel = cancel
        self._limits = limits
        self._on_event = on_event
        self._image = image
        self._cache = cache
        self._is_proven = is_proven
        self.layers: dict[Digest, Layer] = {}

    def tasks(self, images: Iterable[Candidate]) -> Iterator[Callable[[], None]]:
        """Yield one task per distinct layer, the largest first."""
        wanted: dict[Digest, tuple[Descriptor, str]] = {}
        for candidate in images:
            for number, layer in enumerate(candidate.manifest.layers, 1):
                what = f"layer {number} of {candidate.platform}"
                known = wanted.setdefault(layer.digest, (layer, what))[0]
                if known.size != layer.size or compression_of(known, what) != compression_of(
                    layer, what
                ):
                    raise IntegrityError(
                        f"{what} ({layer.digest}): described in two ways in one image"
                    )
        for descriptor, what in sorted(wanted.values(), key=lambda item: -item[0].size):
            yield self._task(descriptor, what)

    def _task(self, descriptor: Descriptor, what: str) -> Callable[[], None]:
        def task() -> None:
            self.layers[descriptor.digest] = self.read(descriptor, what)

        return task

    def read(
        self, descriptor: Descriptor, what: str, extra_paths: frozenset[str] = frozenset()
    ) -> Layer:
        """Read one layer, now; of a known one the bytes are compared with its digest, once in a run."""
        on_bytes = self._progress(descriptor)
        known = None
        if self._cache is not None:
            known = self._cache.get(descriptor, extra_paths, self._limits)
        if known is not None:
            if not self._is_proven(descriptor):
                verify_blob(
                    descriptor, self.open_blob, cancel=self.cancel, what=what, on_bytes=on_bytes
                )
            return known
        layer = read_layer(
            descriptor,
            self.open_blob,
            what=what,
            limits=self._limits,
            cancel=self.cancel,
            extra_paths=extra_paths,
            on_bytes=on_bytes,
        )
        if self._cache is not None:
            self._cache.put(descriptor, extra_paths, self._limits, layer)
        return layer

    def _progress(self, descriptor: Descriptor) -> OnBytes:
        last = 0

        def on_bytes(done: int) -> None:
            nonlocal last
            if done - last >= _PROGRESS_BYTES or done == descriptor.size:
                last = done
                self._on_event(
                    Progress(
                        image=self._image,
                        step="inspect",
                        what=str(descriptor.digest),
                        done=done,
                        total=descriptor.size,
                    )
                )

        return on_bytes


def _other_tasks(others: Iterable[Manifest], reader: LayerReader) -> Iterator[Callable[[], None]]:
    def task_for(descriptor: Descriptor, what: str) -> Callable[[], None]:
        return lambda: verify_blob(descriptor, reader.open_blob, cancel=reader.cancel, what=what)

    for manifest in others:
        for descriptor in manifest.blobs:
            yield task_for(descriptor, f"blob of attestation {manifest.digest.short}")


def _compare_diff_ids(candidate: Candidate, layers: dict[Digest, Layer]) -> None:
    pairs = zip(candidate.manifest.layers, candidate.config.diff_ids, strict=True)
    for number, (descriptor, diff_id) in enumerate(pairs, 1):
        found = layers[descriptor.digest].diff_id
        if found != diff_id:
            raise IntegrityError(
                f"layer {number} of {candidate.platform} ({descriptor.digest}): has the diff id {found},"
                f" its config says {diff_id}",
                hint="layer and config do not belong together; build or pull the image again",
            )


def _platform_image(
    candidate: Candidate, layers: dict[Digest, Layer], reader: LayerReader
) -> PlatformImage:
    manifest = candidate.manifest
    stack = [layers[descriptor.digest] for descriptor in manifest.layers]
    tree, found, files_count = merged(manifest.layers, candidate.platform, stack, reader)
    diff_ids = tuple(str(d) for d in candidate.config.diff_ids)
    contents = read_contents(tree, found, diff_ids)
    inventory = Inventory(
        platform=str(candidate.platform),
        manifest_digest=str(manifest.digest),
        config_digest=str(manifest.config.digest),
        distribution=contents.distribution,
        packages=contents.packages,
        unread=contents.unread,
        files_count=files_count,
    )
    return PlatformImage(
        platform=candidate.platform,
        manifest=candidate.descriptor,
        config_digest=manifest.config.digest,
        layers=manifest.layers,
        diff_ids=diff_ids,
        inventory=inventory,
    )


def merged(
    layers: Sequence[Descriptor], platform: Platform, stack: list[Layer], reader: LayerReader
) -> tuple[ImageTree, tuple[Found, ...], int]:
    """Merge the layers; read those again in which a link made further files important."""
    tree = ImageTree(stack)
    found, count = files_of_interest(tree)
    missing = missing_content(found)
    if not missing:
        return tree, found, count
    for number, paths in missing.items():
        what = f"layer {number + 1} of {platform}"
        stack[number] = reader.read(layers[number], what, paths)
    tree = ImageTree(stack)
    return tree, *files_of_interest(tree)
