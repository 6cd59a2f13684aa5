"""Uploads one blob: skip, mount, or POST and one monolithic PUT (distribution-spec 1.1, Pushing blobs)."""

import contextlib
import urllib.parse
from collections.abc import Iterator

from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    RegistryError,
)
from ci_registry.network.message import Response
from ci_registry.network.retry import is_retried
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.auth import Access, access_to
from ci_registry.registry.content import opened_blob
from ci_registry.registry.failures import error_of, failure
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob
from ci_registry.registry.session import Session

_LOST_UPLOADS = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_MOST_MOUNTS = 4
_UNASKED_BYTES = 1024 * 1024
"""Up to this size sending a blob costs no more than one more question."""


class Uploader:
    """Uploads blobs to one repository."""

    def __init__(self, session: Session, repository: str) -> None:
        self._session = session
        self._repository = repository
        self._name = f"{session.host}/{repository}"
        self._write = access_to(repository, "pull", "push")
        self._seen: set[Digest] = set()
        """What was uploaded here before."""

    def size_of(self, digest: Digest, access: Access) -> int | None:
        """Return the size of a blob, None when it is absent."""
        url = self._session.url(f"{self._repository}/blobs/{Digest(digest)}")
        response = self._session.send("HEAD", url, access)
        if response.status == 404:
            return None
        if not response.ok:
            raise self._failure(response, f"look for blob {digest} in {self._name}", writing=False)
        length = response.headers.get("Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise RegistryError(f"{self._name} does not say how large blob {digest} is")
        return int(length)

    def push(
        self,
        descriptor: Descriptor,
        source: BlobSource,
        mount_from: tuple[str, ...],
        *,
        is_new: bool = False,
    ) -> PushedBlob:
        """Make sure that a blob is there; a lost upload is begun again, within the client's retries.

        With `is_new` the caller knows that the repository does not have it, and no request asks.
        """
        digest = descriptor.digest
        sources = self._mountable(mount_from)
        location: str | None = ""
        if not is_new:
            location = self._look(descriptor) if sources else self._look_and_begin(descriptor)
        if location is None:
            return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
        if sources:
            location = self._mount(digest, sources)
        if location is None:
            return PushedBlob(digest=digest, outcome=BlobOutcome.MOUNTED)
        self._seen.add(digest)
        return self._upload(location, descriptor, source)

    def _upload(self, location: str, descriptor: Descriptor, source: BlobSource) -> PushedBlob:
        """Send the blob, to another upload when one was lost; without a location one is opened."""
        digest = descriptor.digest
        retrier = self._session.client.retrier(
            f"upload of {digest} to {self._name}", host=self._session.origin.netloc
        )
        while True:
            trouble, response = self._attempt(location or self.begin(), descriptor, source)
            if trouble is None:
                return PushedBlob(
                    digest=digest, outcome=BlobOutcome.UPLOADED, bytes_sent=descriptor.size
                )
            headers, status = (response.headers, response.status) if response else (None, 0)
            if not retrier.wait(_reason(trouble), headers, status=status):
                raise trouble
            location = ""
            if self._is_present(descriptor):  # it had arrived, only the answer was lost
                return PushedBlob(
                    digest=digest, outcome=BlobOutcome.UPLOADED, bytes_sent=descriptor.size
                )

    def begin(self) -> str:
        """Open an upload and return its location."""
        response = self._session.send(
            "POST", self._session.url(f"{self._repository}/blobs/uploads/"), self._write
        )
        return self._location(response)

    def cancel(self, location: str) -> None:
        """Give an upload up, as far as the registry lets us: it forgets uploads by itself too."""
        with contextlib.suppress(RegistryError, AccessError, NetworkError):
            self._session.send("DELETE", location, self._write, retry=False)

    def _is_present(self, descriptor: Descriptor) -> bool:
        size_bytes = self.size_of(descriptor.digest, self._write)
        if size_bytes not in (None, descriptor.size):
            raise IntegrityError(
                f"{self._name} has blob {descriptor.digest} with {size_bytes} bytes, expected {descriptor.size}"
            )
        return size_bytes is not None

    def _look(self, descriptor: Descriptor) -> str | None:
        """Return None when the blob is there, else no location yet (empty)."""
        return None if self._is_present(descriptor) else ""

    def _look_and_begin(self, descriptor: Descriptor) -> str | None:
        """Look for the blob and open its upload, by one mount from the repository itself.

        A registry that honours such mounts answers 201 when it has the blob, and then its 202 means
        that it has not. One of which we don't know that is asked again, unless the blob is so small
        that sending it costs no more. Where such mounts are refused, or mean nothing, HEAD tells.

        Returns:
            None when the blob is there, else the location, or none yet (empty).
        """
        if self._session.honours_own_mounts is False:
            return self._look(descriptor)
        response = self._try_mount(descriptor.digest, self._repository)
        if response is None or response.status not in (201, 202):
            self._session.honours_own_mounts = False
            return self._look(descriptor)
        if response.status == 201:
            self._session.honours_own_mounts = True
            return None
        location = self._location(response)
        surely_absent = self._session.honours_own_mounts or (
            descriptor.size <= _UNASKED_BYTES and descriptor.digest not in self._seen
        )
        if surely_absent or not self._is_present(descriptor):
            return location
        self._session.honours_own_mounts = False
        self.cancel(location)
        return None

    def _mountable(self, mount_from: tuple[str, ...]) -> tuple[str, ...]:
        """Return the other repositories of this registry among these names."""
        prefix = f"{self._session.host}/"
        names = dict.fromkeys(n.removeprefix(prefix) for n in mount_from if n.startswith(prefix))
        return tuple(name for name in names if name != self._repository)[:_MOST_MOUNTS]

    def _mount(self, digest: Digest, sources: tuple[str, ...]) -> str | None:
        """Try to mount; returns None when that worked, else an upload location, or nothing yet (empty)."""
        location = ""
        for source in sources:
            if location:
                self.cancel(location)
            response = self._try_mount(digest, source)
            if response is not None and response.status == 201:
                return None
            location = self._location(response) if response is not None else ""
        return location

    def _try_mount(self, digest: Digest, source: str) -> Response | None:
        """POST a mount; None when the registry refuses mounts or us reading the source, in whatever way."""
        query = f"mount={urllib.parse.quote(digest)}&from={urllib.parse.quote(source, safe='')}"
        url = self._session.url(f"{self._repository}/blobs/uploads/?{query}")
        try:
            access = self._write | access_to(source, "pull")
            response = self._session.send("POST", url, access)
        except AccessError:
            return None  # the token service will not let us read the source
        if 400 <= response.status < 500 and response.status != 429:
            return None
        return response

    def _location(self, response: Response) -> str:
        """Return the upload location as an absolute URL, its query untouched."""
        if response.status != 202:
            raise self._failure(response, f"upload to {self._name}")
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{self._name} opened an upload but does not say where")
        return urllib.parse.urljoin(response.url, location)

    def _attempt(
        self, location: str, descriptor: Descriptor, source: BlobSource
    ) -> tuple[CiRegistryError | None, Response | None]:
        """PUT the blob once; returns what went wrong if another upload may cure it, else raises."""
        digest = descriptor.digest
        what = f"blob {digest}"

        def body() -> Iterator[bytes]:
            with opened_blob(source, descriptor, what=what) as chunks:
                yield from chunks

        separator = "&" if "?" in location else "?"
        try:
            response = self._session.send(
                "PUT",
                f"{location}{separator}digest={digest}",  # as text: the location's query is not ours
                self._write,
                headers={"Content-Type": "application/octet-stream"},
                body=body,
                size_bytes=descriptor.size,
                retry=False,
            )
        except NetworkError as error:
            if not self._session.client.is_transient(error):
                raise
            return error, None
        if response.status in (200, 201, 204):
            self._check_digest(response, digest)
            return None, response
        trouble = self._failure(response, f"upload {what} to {self._name}")
        if is_retried(response.status) or error_of(response).code in _LOST_UPLOADS:
            return trouble, response
        raise trouble

    def _check_digest(self, response: Response, digest: Digest) -> None:
        said = response.headers.get("Docker-Content-Digest")
        if said.startswith(f"{digest.algorithm}:") and said != digest:
            raise IntegrityError(f"{self._name} stored {said} instead of blob {digest}")

    def _failure(self, response: Response, doing: str, *, writing: bool = True) -> CiRegistryError:
        return failure(response, doing=doing, host=self._session.host, writing=writing)


def _reason(trouble: CiRegistryError) -> str:
    status = trouble.status if isinstance(trouble, RegistryError) else 0
    return f"HTTP {status}" if status else trouble.headline
