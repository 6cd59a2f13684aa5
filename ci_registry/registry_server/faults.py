"""Carries out scripted faults around the handling of a request."""

from dataclasses import replace

from ci_registry.registry_server.message import (
    BodyInterruptedError,
    BodyReader,
    FilePart,
    Request,
    Response,
)
from ci_registry.registry_server.options import (
    Action,
    Answer,
    Corrupt,
    Redirect,
    Reset,
    Stall,
    Truncate,
)


class _CutReader:
    """A body that breaks off after so many bytes."""

    def __init__(self, inner: BodyReader, left: int) -> None:
        self._inner = inner
        self._left = left

    def read(self, size: int, /) -> bytes:
        if self._left <= 0:
            raise BodyInterruptedError
        piece = self._inner.read(min(size, self._left))
        self._left -= len(piece)
        return piece


def start_with(action: Action | None, request: Request) -> Request | Response:
    """Return the answer that a fault gives at once, else the request to handle."""
    match action:
        case Answer():
            return Response(status=action.status, headers=action.headers, body=action.body)
        case Redirect():
            target = action.to + request.path + (f"?{request.query}" if request.query else "")
            return Response(status=action.status, headers=(("Location", target),))
        case Reset(request_bytes=int(count)):
            return replace(request, body=_CutReader(request.body, count))
        case _:
            return request


def end_with(action: Action | None, response: Response) -> Response:
    """Return the answer as a fault spoils it."""
    match action:
        case Reset(request_bytes=None, response_bytes=None):
            return Response(status=0)
        case Reset(response_bytes=int(count)):
            return replace(response, reset_after_bytes=count)
        case Stall():
            return replace(response, delay_s=action.duration_s)
        case Truncate():
            return replace(response, body=_bytes_of(response)[: action.size_bytes])
        case Corrupt():
            body = _bytes_of(response)
            return replace(response, body=body[:-1] + bytes(b ^ 1 for b in body[-1:]))
        case _:
            return response


def _bytes_of(response: Response) -> bytes:
    """Return the whole body; only faults load files."""
    body = response.body
    if not isinstance(body, FilePart):
        return body
    with body.path.open("rb") as file:
        file.seek(body.offset)
        return file.read(body.size)
