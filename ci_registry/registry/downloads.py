"""Downloads one blob, going on where a lost connection left off."""

from collections.abc import Iterator

from ci_registry.errors import IntegrityError, NetworkError
from ci_registry.network.message import Response, StreamedResponse
from ci_registry.oci.digest import Digest
from ci_registry.registry.auth import Access
from ci_registry.registry.content import verified
from ci_registry.registry.session import Session

_EARNING_BYTES = 1024 * 1024
"""With less, a server that sends a little and falls silent could hold us for days."""


def download(session: Session, repository: str, digest: Digest, access: Access) -> Iterator[bytes]:
    """Yield the verified bytes of a blob; the first request goes out with the first piece."""
    digest = Digest(digest)
    yield from verified(
        _pieces(session, repository, digest, access),
        digest,
        what=f"blob {digest} of {session.host}/{repository}",
    )


def _pieces(session: Session, repository: str, digest: Digest, access: Access) -> Iterator[bytes]:
    """Yield raw bytes; every `_EARNING_BYTES` of them earn the full number of retries again."""
    url = session.url(f"{repository}/blobs/{digest}")
    what = f"blob {digest} of {session.host}/{repository}"
    retrier = session.client.retrier(f"download of {what}")
    done = before = 0
    while True:
        headers = {"Range": f"bytes={done}-"} if done else {}
        has_begun = False
        try:
            with session.stream(url, access, headers=headers) as response:
                has_begun = True
                for piece in _after(_checked(response, session, what), done, what):
                    done += len(piece)
                    yield piece
                return
        except NetworkError as error:
            if not has_begun or not session.client.is_transient(error):
                raise  # up to the head, the client itself has tried again
            if done - before >= _EARNING_BYTES:
                before = done
                retrier = session.client.retrier(f"download of {what}")
            if not retrier.wait(error.message):
                raise


def _checked(response: StreamedResponse, session: Session, what: str) -> StreamedResponse:
    if response.status in (200, 206):
        return response
    body = b"".join(response.chunks)
    answer = Response(
        status=response.status, url=response.url, headers=response.headers, body=body[:65536]
    )
    raise session.failure(answer, f"read {what}")


def _after(response: StreamedResponse, done: int, what: str) -> Iterator[bytes]:
    """Yield what is new: a server may ignore the range and send everything again."""
    skip = 0
    if response.status == 200:
        skip = done
    elif not response.headers.get("Content-Range").startswith(f"bytes {done}-"):
        raise IntegrityError(f"{what}: the registry sent another range than the one asked for")
    for piece in response.chunks:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield piece[skip:]
        skip = 0
