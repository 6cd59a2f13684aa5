"""An OCI image layout directory as a repository: the form in which images are built, scanned and kept."""

import contextlib
import dataclasses
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from ci_registry.errors import IntegrityError, NotFoundError
from ci_registry.files import read_file, storage_error, write_atomic
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, Hasher, digest_of, is_digest
from ci_registry.oci.manifest import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.registry.blob_files import blob_path, incoming, link, pieces
from ci_registry.registry.companions import is_companion
from ci_registry.registry.content import (
    bounded,
    opened_blob,
    verified,
    verified_manifest,
)
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob, PushedManifest
from ci_registry.registry.layout_entries import (
    entry_of,
    raw_tag,
    tag_of,
    with_entry,
    without_tag,
)
from ci_registry.registry.layout_index import (
    EMPTY_INDEX,
    LAYOUT_FILE,
    MAX_INDEX_BYTES,
    LayoutIndex,
    check_marker,
    parse_index,
)
from ci_registry.registry.referrers import (
    check_subject,
    fallback_tag,
    merged,
    referrer_descriptor,
)
from ci_registry.strict import MAX_JSON_BYTES, as_object, as_text, parse_json


class Layout:
    """One OCI image layout directory; implements `interface.Repository`.

    Blobs are written under a temporary name and renamed, and every read is compared with its
    digest. `index.json` holds one entry per tag, and one for each manifest that nothing else there
    points at, referrers included. Writers lock the folder, so threads and processes may share it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept = EMPTY_INDEX
        self._referrers: dict[Digest, tuple[Digest, Descriptor] | None] = {}
        """Manifest → its subject and how it is listed; what a digest names never changes."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make an empty layout; an existing one is left as it is."""
        layout = cls(path)
        if not (path / "index.json").exists():
            write_atomic(path / "oci-layout", LAYOUT_FILE, sync=False)
            layout._write_index([])
        return layout

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    # --- index.json

    def entries(self) -> tuple[Descriptor, ...]:
        """Return the entries of `index.json`, in order.

        Raises:
            IntegrityError: the folder is no OCI image layout that we can read.
        """
        return self._index().descriptors

    def _index(self) -> LayoutIndex:
        """Return the index as it is now; its bytes are read each time, and parsed when they changed."""
        raw = self._index_bytes()
        kept = self._kept
        if kept.raw != raw:
            kept = self._kept = parse_index(raw, where=str(self.path))
        return kept

    def _index_bytes(self) -> bytes:
        if not (self.path / "index.json").is_file() or not (self.path / "oci-layout").is_file():
            raise IntegrityError(
                f"{self.path} is not an OCI image layout: index.json or oci-layout is missing",
                hint="name a folder that was written by `buildx --output type=oci,tar=false`, "
                "skopeo, crane or ci-registry",
            )
        marker = read_file(self.path / "oci-layout", max_bytes=4096)
        check_marker(marker, where=str(self.path))
        return read_file(self.path / "index.json", max_bytes=MAX_INDEX_BYTES)

    def _write_index(self, entries: list[dict[str, object]]) -> None:
        """Write other entries; the caller holds the lock and has read the index since it does."""
        index = self._kept.changed(entries, where=str(self.path))
        write_atomic(self.path / "index.json", index.raw, sync=False)
        self._kept = index

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers of `index.json` out, in this process and in others."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise storage_error(error, self.path, "open") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def root(self) -> Descriptor:
        """Return the one image of this layout; attestations, referrers and children do not count.

        Raises:
            IntegrityError: there is no image, or more than one.
        """
        images = {e.digest: e for e in self.entries() if not e.is_attestation}
        if len(images) > 1:
            images = self._without_dependents(images)
        if len(images) == 1:
            return next(iter(images.values()))
        if not images:
            raise IntegrityError(f"{self.path} holds no image", hint="the build wrote nothing")
        found = ", ".join(str(digest) for digest in list(images)[:3])
        raise IntegrityError(
            f"{self.path} holds {len(images)} images, expected one: {found}",
            hint="name a layout with one image",
        )

    def _without_dependents(self, images: dict[Digest, Descriptor]) -> dict[Digest, Descriptor]:
        dependents: set[Digest] = set()
        for entry in images.values():
            manifest = self.fetch(entry.digest)
            if manifest.subject is not None or is_companion(tag_of(entry)):
                dependents.add(entry.digest)
            elif isinstance(manifest, Index):
                dependents |= {child.digest for child in manifest.manifests}
        return {digest: entry for digest, entry in images.items() if digest not in dependents}

    def set_root(self, descriptor: Descriptor, *, tag: str = "") -> None:
        """Make `descriptor` the only entry of `index.json`, under `tag` when given."""
        with self._locked():
            self._write_index([entry_of(descriptor, tag)])

    # --- blobs

    def blob_path(self, digest: Digest) -> Path:
        """Return where a blob is, or would be."""
        checked = Digest(digest)
        return blob_path(self.path, checked)

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob, None when it is absent."""
        path = self.blob_path(digest)
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, path, "read") from error
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(f"{path} is not a regular file")
        return status.st_size

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield the raw bytes of a blob; the file is opened with the first piece."""
        yield from verified(self.unverified(digest), digest, what=str(self.blob_path(digest)))

    def unverified(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob as they are, for a reader that compares them itself."""
        if self.size_of(digest) is None:
            raise NotFoundError(f"{self.path} has no blob {digest}", code="BLOB_UNKNOWN")
        yield from pieces(self.blob_path(digest))

    def write_blob(self, chunks: Iterable[bytes], media_type: str) -> Descriptor:
        """Store a blob whose digest is not known yet."""
        hasher = Hasher()
        with incoming(self.path) as file:
            for chunk in chunks:
                hasher.update(chunk)
                file.write(chunk)
            file.adopt(self.blob_path(hasher.digest))
        return Descriptor(media_type=media_type, digest=hasher.digest, size=hasher.size_bytes)

    def push_blob(
        self, descriptor: Descriptor, source: BlobSource, *, mount_from: tuple[str, ...] = ()
    ) -> PushedBlob:
        """Store a blob unless it is there; a layout is one repository, so there is nothing to mount from."""
        del mount_from
        digest = descriptor.digest
        if self.size_of(digest) == descriptor.size:
            return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
        what = f"blob {digest}"
        with opened_blob(source, descriptor, what=what) as chunks, incoming(self.path) as file:
            for chunk in chunks:
                file.write(chunk)
            file.adopt(self.blob_path(digest))
        return PushedBlob(digest=digest, outcome=BlobOutcome.UPLOADED, bytes_sent=descriptor.size)

    # --- manifests

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest points at, None when it is absent."""
        entry = self._entry_of(reference)
        if entry is not None:
            if self.size_of(entry.digest) is None:
                return None
            return Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
        if not is_digest(reference) or self.size_of(Digest(reference)) is None:
            return None
        body = self._manifest_bytes(Digest(reference))
        try:
            return parse_manifest(body).descriptor
        except IntegrityError:
            return None  # a blob with that digest, but no manifest

    def _entry_of(self, reference: str) -> Descriptor | None:
        """Return the entry with this tag or digest; a tag on several images is ambiguous."""
        index = self._index()
        if is_digest(reference):
            return index.by_digest.get(Digest(reference))
        found = index.by_tag.get(reference, {})
        if len(found) > 1:
            raise IntegrityError(f"{self.path}: tag {reference!r} is on {len(found)} images")
        return next(iter(found.values()), None)

    def _manifest_bytes(self, digest: Digest) -> bytes:
        size_bytes = self.size_of(digest)
        if size_bytes is None:
            raise NotFoundError(f"{self.path} has no manifest {digest}", code="MANIFEST_UNKNOWN")
        if size_bytes > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{self.path}: {digest} is too large for a manifest")
        return b"".join(self.open(digest))

    def fetch(self, reference: str) -> Manifest | Index:
        """Return the manifest at a tag or digest.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._entry_of(reference)
        if entry is None and not is_digest(reference):
            raise NotFoundError(f"{self.path} has no tag {reference!r}", code="MANIFEST_UNKNOWN")
        digest = entry.digest if entry is not None else Digest(reference)
        body = self._manifest_bytes(digest)
        if entry is not None and entry.size != len(body):
            raise IntegrityError(
                f"{self.path}: manifest {digest.short} has {len(body)} bytes, index.json says {entry.size}"
            )
        media_type = entry.media_type if entry is not None else ""
        return verified_manifest(body, media_type=media_type, expected=digest, what=str(digest))

    def write_manifest(self, body: bytes, media_type: str) -> Descriptor:
        """Store manifest bytes as a blob, without an entry in `index.json`; see `set_root`."""
        manifest = parse_manifest(body, media_type)
        self.write_blob((body,), manifest.media_type)
        return manifest.descriptor

    def push(self, reference: str, body: bytes, media_type: str) -> PushedManifest:
        """Put manifest bytes under a tag or digest; the tag moves when it is elsewhere."""
        manifest = parse_manifest(body, media_type)
        digest = self._digest_for(reference, body)
        listed = manifest.descriptor if manifest.subject is None else referrer_descriptor(manifest)
        descriptor = dataclasses.replace(listed, digest=digest)
        self.push_blob(descriptor, lambda: iter((body,)))
        tag = "" if is_digest(reference) else reference
        with self._locked():
            self._write_index(with_entry(self._index().entries, manifest, descriptor, tag))
        subject = manifest.subject.digest if manifest.subject is not None else None
        return PushedManifest(digest=digest, subject=subject)

    def _digest_for(self, reference: str, body: bytes) -> Digest:
        """Return the digest to store a manifest under: of its own name, or the one it is here under."""
        if not is_digest(reference):
            long = digest_of(body, "sha512")
            return long if self.size_of(long) == len(body) else digest_of(body)
        digest = digest_of(body, Digest(reference).algorithm)
        if reference != digest:
            raise IntegrityError(f"manifest has digest {digest}, not {reference}")
        return digest

    def delete(self, digest: Digest) -> None:
        """Delete a manifest and every tag on it; blobs that it alone used stay."""
        with self._locked():
            before = self._index().entries
            after = [e for e in before if e.get("digest") != digest]
            if len(after) == len(before) and self.resolve(digest) is None:
                return
            self._write_index(after)
            self.blob_path(digest).unlink(missing_ok=True)

    def untag(self, tag: str) -> bool:
        """Remove a tag and keep its manifest; False when it was not there."""
        with self._locked():
            before = self._index().entries
            tagged = [entry for entry in before if raw_tag(entry) == tag]
            after = [entry for entry in before if raw_tag(entry) != tag]
            for entry in tagged:
                if all(other.get("digest") != entry.get("digest") for other in after):
                    after.append(without_tag(entry))
            if tagged:
                self._write_index(after)
        return bool(tagged)

    # --- referrers and tags

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Return every referrer: entries of `index.json` with that subject, and a fallback tag's."""
        index = self._index()
        facts = (self._referrer(entry) for entry in index.by_digest.values())
        found = tuple(known[1] for known in facts if known is not None and known[0] == subject)
        listed: tuple[Descriptor, ...] = ()
        if (entry := self._entry_of(fallback_tag(subject))) is not None:
            fallback = self.fetch(entry.digest)
            listed = fallback.manifests if isinstance(fallback, Index) else ()
        return merged(found, listed, subject=subject)

    def _referrer(self, entry: Descriptor) -> tuple[Digest, Descriptor] | None:
        """Return what an entry of the index refers to, and how it is listed there; None: nothing."""
        digest = entry.digest
        if digest not in self._referrers:
            manifest = self.fetch(digest)
            subject = manifest.subject
            listed = referrer_descriptor(manifest)
            self._referrers[digest] = (subject.digest, listed) if subject is not None else None
        return self._referrers[digest]

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        """Put a manifest that has `subject`, by digest."""
        check_subject(parse_manifest(body, media_type), subject)
        return self.push(digest_of(body), body, media_type).digest

    def tags(self) -> tuple[str, ...]:
        """Return all tags, sorted."""
        return tuple(sorted(set(self._index().by_tag) - {""}))


def one_image_view(layout: Layout, manifest: Descriptor, destination: Path) -> Layout:
    """Make a layout at `destination` that holds one platform image of `layout` and nothing else.

    Blobs are hard links, or symbolic links where the file system has no hard links across folders.

    Raises:
        IntegrityError: `manifest` is an index.
        NotFoundError: a blob of the image is missing; foreign layers may be.
    """
    image = layout.fetch(manifest.digest)
    if isinstance(image, Index):
        raise IntegrityError(f"{manifest.digest} is an index, expected one platform's manifest")
    platform = manifest.platform or _platform_of(layout, image)
    view = Layout.create(destination)
    for blob in (image.descriptor, *image.blobs):
        if layout.size_of(blob.digest) is not None:
            link(layout.blob_path(blob.digest), view.blob_path(blob.digest))
        elif blob.media_type not in media_types.FOREIGN_LAYERS:
            raise NotFoundError(f"{layout.path} has no blob {blob.digest}", code="BLOB_UNKNOWN")
    view.set_root(dataclasses.replace(image.descriptor, platform=platform))
    return view


def _platform_of(layout: Layout, image: Manifest) -> Platform:
    what = f"config {image.config.digest.short}"
    body = b"".join(bounded(layout.open(image.config.digest), MAX_JSON_BYTES, what=what))
    config = as_object(parse_json(body, what=what), what=what)
    os_name, architecture, variant = (
        as_text(config.get(key) or "", what=f"{what}.{key}")
        for key in ("os", "architecture", "variant")
    )
    return normalise_platform(os_name, architecture, variant)
