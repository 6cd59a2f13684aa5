"""Carries out scripted faults around the handling of a request."""

from dataclasses import replace
from email.utils import formatdate

from ci_registry.registry_server.message import (
    BodyInterruptedError,
    BodyReader,
    FilePart,
    Headers,
    Request,
    Response,
)
from ci_registry.registry_server.options import (
    Action,
    Answer,
    Corrupt,
    Options,
    Redirect,
    Relabel,
    Reset,
    Skew,
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


def options_with(action: Action | None, options: Options) -> Options:
    """Return the options that a request with this fault meets."""
    if not isinstance(action, Skew):
        return options
    right, by_s = options.clock, action.by_s
    return replace(options, clock=lambda: right() + by_s)


def relabel_with(action: Action | None, response: Response, options: Options) -> Response:
    """Return the finished answer with the header that a fault gives it."""
    match action:
        case Relabel():
            return _relabelled(response, action.headers)
        case Skew():
            return _relabelled(response, (("Date", formatdate(options.clock(), usegmt=True)),))
        case _:
            return response


def end_with(action: Action | None, response: Response) -> Response:
    """Return the answer as a fault spoils it."""
    match action:
        case Stall(after_bytes=int(count)):
            return replace(response, pause=(count, action.duration_s))
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


def _relabelled(response: Response, headers: Headers) -> Response:
    names = {name.lower() for name, _ in headers}
    kept = tuple(pair for pair in response.headers if pair[0].lower() not in names)
    return replace(response, headers=kept + headers)


def _bytes_of(response: Response) -> bytes:
    """Return the whole body; only faults load files."""
    body = response.body
    if not isinstance(body, FilePart):
        return body
    with body.path.open("rb") as file:
        file.seek(body.offset)
        return file.read(body.size)
