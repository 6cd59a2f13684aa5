"""Copies one image: blobs, platform manifests, what belongs to them, and its tags last."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, CiRegistryError, RegistryError, UsageError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.platform import Platform
from ci_registry.registry.copy_attached import Attached, AttachedCopier, AttachedOutcome
from ci_registry.registry.interface import BlobOutcome, PushedBlob, PushedManifest, Repository
from ci_registry.registry.parallel import in_parallel
from ci_registry.registry.selection import Selection, select
from ci_registry.registry.shared_uploads import SharedUploads
from ci_registry.registry.transfer import blobs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """What is copied of each image."""

    platforms: tuple[Platform, ...] = ()
    """Empty: all."""
    rewrite_index: bool = False
    with_referrers: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedImage:
    """What copying one image took."""

    digest: Digest
    """What the target has now; another one than the source's only when an index was rewritten."""
    manifests: int
    referrers: int
    blobs: int
    mounted: int
    bytes_sent: int
    changed: bool
    """Whether anything at all had to be written."""
    notes: tuple[str, ...] = ()


class ImageCopier:
    """Copies images between two repositories; may be used from several threads."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        options: CopyOptions,
        *,
        attached: AttachedCopier,
        uploads: SharedUploads,
        lookups: ThreadPoolExecutor,
        cancel: Cancel,
        is_new: bool,
    ) -> None:
        """`is_new`: the target has nothing yet, so nothing is looked for in it."""
        self._source = source
        self._target = target
        self._options = options
        self._attached = attached
        self._uploads = uploads
        self._lookups = lookups
        self._cancel = cancel
        self._is_new = is_new

    def copy(
        self,
        root: Descriptor,
        tags: Mapping[str, Digest | None],
        *,
        is_there: bool | None = None,
        image: str,
    ) -> CopiedImage:
        """Copy an image and put its tags; the target confirms each by its digest, or it is read back.

        Args:
            root: the image in the source.
            tags: to put, and where each one is now.
            is_there: whether the target has the image itself, None when nobody has looked.
            image: for events.

        Raises:
            UsageError: the image lacks a platform, or the target takes no index with only some.
            CiRegistryError: something else failed; no tag has moved unless it is said.
        """
        options = self._options
        selection = select(self._source, root, options.platforms, rewrite=options.rewrite_index)
        found = self._find_attached(selection)
        missing = self._missing(
            selection, is_there if selection.root.digest == root.digest else None
        )
        pushed = self._uploads.ensure(blobs_of(missing), image=image)
        # put under a tag alone, it would be known by its sha256 only
        is_long = selection.root.digest.algorithm != "sha256"
        by_digest = not tags or is_long or any(attached.all for attached in found)
        for manifest in missing:
            if manifest is not selection.root or by_digest:
                self._push(manifest.digest, manifest, selection)
        extra = self._attached.copy(found, image=image)
        moved = [tag for tag, there in tags.items() if there != selection.root.digest]
        for tag in moved:
            self._put_tag(tag, selection)
        return _outcome(selection, missing, (*pushed, *extra.blobs), extra, changed=bool(moved))

    def _find_attached(self, selection: Selection) -> tuple[Attached, ...]:
        """Return what belongs to the manifests that are copied as they are."""
        if not self._options.with_referrers:
            return ()
        kept = [
            m
            for m in selection.manifests
            if selection.rewritten_from is None or m is not selection.root
        ]
        return self._attached.find(manifest.digest for manifest in kept)

    def _missing(self, selection: Selection, is_there: bool | None) -> tuple[Manifest | Index, ...]:
        """Return the manifests that the target lacks; one that it has, has its blobs too."""
        if is_there is None and self._is_new and len(selection.manifests) == 1:
            is_there = False
        unknown = selection.manifests if is_there is None else selection.manifests[:-1]
        there = in_parallel(
            lambda manifest: self._target.resolve(manifest.digest), unknown, pool=self._lookups
        )
        try:
            missing = [m for m, found in zip(unknown, there, strict=True) if found is None]
        except AccessError as error:
            self._uploads.refusal = error
            raise
        return (*missing, selection.root) if is_there is False else tuple(missing)

    def _push(
        self, reference: str, manifest: Manifest | Index, selection: Selection
    ) -> PushedManifest:
        self._cancel.check()
        try:
            pushed = self._target.push(reference, manifest.body, manifest.media_type)
        except RegistryError as error:
            if selection.is_sparse and manifest is selection.root and _is_about_children(error):
                raise UsageError(
                    f"{self._target.name} takes no index with only some of its platforms: {error.message}",
                    hint="use --rewrite-index for an index of those platforms alone; it has another"
                    " digest, so signatures of the index do not carry over",
                ) from error
            raise
        if reference == manifest.digest and pushed.digest != manifest.digest:
            raise RegistryError(
                f"{self._target.name} stored {pushed.digest}, not {manifest.digest}"
            )
        return pushed

    def _put_tag(self, tag: str, selection: Selection) -> None:
        """Move a tag; where the answer does not name the digest that was stored, read back what it gives."""
        root = selection.root
        if self._push(tag, root, selection).confirmed:
            return
        if self._target.fetch(tag).body != root.body:
            raise RegistryError(
                f"{self._target.name}:{tag} gives another manifest than was put there",
                hint="somebody else moves this tag at the same time: copy again",
            )


def _is_about_children(error: CiRegistryError) -> bool:
    return isinstance(error, RegistryError) and (
        error.status in (400, 404)
        or error.code in ("MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN")
    )


def _outcome(
    selection: Selection,
    missing: tuple[Manifest | Index, ...],
    blobs: tuple[PushedBlob, ...],
    extra: AttachedOutcome,
    *,
    changed: bool,
) -> CopiedImage:
    notes = [*extra.notes, *_foreign(selection)]
    if selection.rewritten_from is not None:
        notes.append(
            f"index {selection.rewritten_from} became {selection.root.digest}:"
            " signatures and referrers of the index do not carry over"
        )
    new = [blob for blob in blobs if blob.outcome is not BlobOutcome.PRESENT]
    return CopiedImage(
        digest=selection.root.digest,
        manifests=len(missing),
        referrers=extra.copied,
        blobs=len(new),
        mounted=sum(1 for blob in new if blob.outcome is BlobOutcome.MOUNTED),
        bytes_sent=sum(blob.bytes_sent for blob in new),
        changed=changed or bool(missing or new or extra.copied),
        notes=tuple(notes),
    )


def _foreign(selection: Selection) -> list[str]:
    """Name the layers that live elsewhere and are not copied."""
    layers = {
        layer.digest: layer
        for manifest in selection.manifests
        if isinstance(manifest, Manifest)
        for layer in manifest.layers
        if layer.media_type in media_types.FOREIGN_LAYERS
    }
    return [
        f"layer {digest} ({layer.size} bytes) is foreign: it is not copied and stays where its maker keeps it"
        for digest, layer in layers.items()
    ]
