"""Uploads one blob: skip, mount, or POST and one monolithic PUT (distribution-spec 1.1, Pushing blobs)."""

import contextlib
import threading
import urllib.parse
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future

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
from ci_registry.registry.failures import error_of
from ci_registry.registry.interface import BlobOutcome, BlobSource, PushedBlob
from ci_registry.registry.session import Session
from ci_registry.secret import Secret

_LOST_UPLOADS = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_MOST_MOUNTS = 4
_UNASKED_BYTES = 4 * 1024 * 1024
"""Up to this size sending a blob costs no more than one more question (40 ms at 100 MB/s)."""
_STALE_S = 10.0
"""An upload that has waited longer for the first bytes of its source is opened again."""
_SLOW_BYTES_PER_S = 1024 * 1024
"""How slow an upload may be whose token is to last until its end."""
_LONGEST_UPLOAD_S = 600.0
_NOBODY = Secret("nobody")


class Uploader:
    """Uploads blobs to one repository."""

    def __init__(self, session: Session, repository: str) -> None:
        self._session = session
        self._repository = repository
        self._name = f"{session.host}/{repository}"
        self._write = access_to(repository, "pull", "push")
        self._lock = threading.Lock()
        self._seen: set[Digest] = set()
        """What was uploaded here before."""
        self._stored: Digest | None = None
        """A blob that was sent, to learn from."""
        self._refused: dict[str, Secret | None] = {}
        """Repositories that mounts were refused from, and the login that was used."""
        self._under_way: dict[Digest, Future[bool]] = {}
        """Uploads that others wait for; they end with whether the blob is there."""

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

        Whoever comes with a blob that another thread is sending waits, and sends it when that failed.
        With `is_new` the caller knows that the repository does not have it, and no request asks.
        """
        digest = descriptor.digest
        while True:
            mine: Future[bool] = Future()
            with self._lock:
                first = self._under_way.setdefault(digest, mine)
            if first is mine:
                break
            if first.result():
                return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
        is_there = False
        try:
            pushed = self._push(descriptor, source, mount_from, is_new=is_new)
            is_there = True
            return pushed
        finally:
            with self._lock:
                del self._under_way[digest]
            mine.set_result(is_there)

    def _push(
        self,
        descriptor: Descriptor,
        source: BlobSource,
        mount_from: tuple[str, ...],
        *,
        is_new: bool,
    ) -> PushedBlob:
        digest = descriptor.digest
        sources = self._mountable(mount_from)
        location: str | None = self._mount(digest, sources) if sources else ""
        if location is None:
            return PushedBlob(digest=digest, outcome=BlobOutcome.MOUNTED)
        if not is_new:
            location = self._unless_there(descriptor, location, was_refused=bool(sources))
        if location is None:
            return PushedBlob(digest=digest, outcome=BlobOutcome.PRESENT)
        self._seen.add(digest)
        return self._upload(location, descriptor, source)

    def _upload(self, location: str, descriptor: Descriptor, source: BlobSource) -> PushedBlob:
        """Send the blob, to another upload when one was lost; without a location one is opened."""
        digest = descriptor.digest
        retrier = self._session.client.retrier(
            f"upload of {digest} to {self._name}", host=self._session.origin.netloc
        )
        while True:
            trouble, response = self._attempt(location, descriptor, source)
            if trouble is None:
                if self._session.honours_own_mounts is None:
                    self._stored = digest
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

    def begin(self, size_bytes: int = 0) -> str:
        """Open an upload and return its location; the token is renewed when it may not last for so much."""
        response = self._session.send(
            "POST",
            self._session.url(f"{self._repository}/blobs/uploads/"),
            self._write,
            lasting_s=_longest_s(size_bytes),
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

    def _unless_there(
        self, descriptor: Descriptor, location: str, *, was_refused: bool
    ) -> str | None:
        """Return None when the blob is there, else the location that a mount elsewhere gave, or a new one."""
        if not location:
            doubtful = was_refused and not self._session.honours_own_mounts
            return self._look(descriptor) if doubtful else self._look_and_begin(descriptor)
        if not self._is_present(descriptor):
            return location
        self.cancel(location)
        return None

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
        if self._session.honours_own_mounts or self._is_absent(descriptor):
            return location
        self._session.honours_own_mounts = False
        self.cancel(location)
        return None

    def _is_absent(self, descriptor: Descriptor) -> bool:
        """Whether a blob that a mount did not find has to be sent; small ones that are new here have."""
        if descriptor.digest not in self._seen:
            if descriptor.size <= _UNASKED_BYTES:
                return True
            if self._session.honours_own_mounts is None and self._learn_of_own_mounts():
                return True
        return not self._is_present(descriptor)

    def _learn_of_own_mounts(self) -> bool:
        """Mount a blob that was just sent from its own repository: once, if there is one."""
        with self._lock:
            stored, self._stored = self._stored, None
        if stored is None:
            return False
        response = self._try_mount(stored, self._repository)
        if response is not None and response.status == 202:
            self.cancel(self._location(response))
        honoured = response is not None and response.status == 201
        self._session.honours_own_mounts = honoured
        return honoured

    def _mountable(self, mount_from: tuple[str, ...]) -> tuple[str, ...]:
        """Return the other repositories of this registry among these names."""
        prefix = f"{self._session.host}/"
        names = dict.fromkeys(n.removeprefix(prefix) for n in mount_from if n.startswith(prefix))
        return tuple(name for name in names if name != self._repository)[:_MOST_MOUNTS]

    def _mount(self, digest: Digest, sources: tuple[str, ...]) -> str | None:
        """Try to mount; returns None when that worked, else an upload location, or nothing yet (empty).

        A pair of repositories whose mount was refused is not tried again with the same login.
        """
        location = ""
        for source in sources:
            login = self._session.login_for(self._write | access_to(source, "pull"))
            if self._refused.get(source, _NOBODY) == login:
                continue
            if location:
                self.cancel(location)
            response = self._try_mount(digest, source)
            if response is None:
                self._refused[source] = self._session.login_for(
                    self._write | access_to(source, "pull")
                )
            elif response.status == 201:
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
        """PUT the blob once; returns what went wrong if another upload may cure it, else raises.

        The source is open before the upload is: a slow one keeps no upload and no connection waiting.
        """
        digest = descriptor.digest
        what = f"blob {digest}"
        asked_at = self._session.client.monotonic()
        with _in_hand(source, descriptor, what) as body:
            if location and self._session.client.monotonic() - asked_at > _STALE_S:
                self.cancel(location)
                location = ""
            location = location or self.begin(descriptor.size)
            separator = "&" if "?" in location else "?"
            try:
                response = self._session.send(
                    "PUT",
                    f"{location}{separator}digest={digest}",  # as text: the query is not ours
                    self._write,
                    headers={"Content-Type": "application/octet-stream"},
                    body=body,
                    size_bytes=descriptor.size,
                    retry=False,
                    lasting_s=_longest_s(descriptor.size),
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
        return self._session.failure(response, doing, writing=writing)


_Body = Callable[[], Iterator[bytes]]


@contextlib.contextmanager
def _in_hand(source: BlobSource, descriptor: Descriptor, what: str) -> Iterator[_Body]:
    """Open a source and read its first piece; a body that is asked for again opens the source again."""

    def read() -> Generator[bytes, None, None]:
        with opened_blob(source, descriptor, what=what) as chunks:
            yield from chunks

    begun = read()
    waiting = [next(begun, b"")]

    def body() -> Iterator[bytes]:
        if not waiting:
            yield from read()
            return
        yield waiting.pop()
        yield from begun

    with contextlib.closing(begun):
        yield body


def _longest_s(size_bytes: int) -> float:
    return min(size_bytes / _SLOW_BYTES_PER_S, _LONGEST_UPLOAD_S)


def _reason(trouble: CiRegistryError) -> str:
    status = trouble.status if isinstance(trouble, RegistryError) else 0
    return f"HTTP {status}" if status else trouble.headline
