"""The embedded registry as a pure function from request to response: the OCI distribution API 1.1."""

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from ci_registry.errors import StorageError
from ci_registry.registry_server import blobs, deletion, listings, manifests
from ci_registry.registry_server.access import Caller, check_access, check_login, give_token
from ci_registry.registry_server.call import Call, check_name
from ci_registry.registry_server.faults import end_with, options_with, relabel_with, start_with
from ci_registry.registry_server.message import (
    BodyInterruptedError,
    Headers,
    RefusalError,
    Request,
    Response,
    json_response,
)
from ci_registry.registry_server.metrics import CONTENT_TYPE
from ci_registry.registry_server.options import TOKEN_PATHS, Options
from ci_registry.registry_server.store import Store

SERVER = "ci-registry"

_Part = Callable[[Call], Response]


class _Access(Enum):
    """Who may come to a route."""

    OPEN = "everybody"
    PASSWORD = "users, with their password even where the API wants tokens"  # noqa: S105 - a text
    API = "whoever may do that in the repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """One shape of path and what each method does there."""

    pattern: re.Pattern[str]
    parts: Mapping[str, _Part]
    access: _Access = _Access.API


def _ping(_call: Call) -> Response:
    return json_response({})


def _health(call: Call) -> Response:
    try:
        call.store.catalog.check()
    except StorageError as error:
        raise RefusalError(503, "UNAVAILABLE", error.headline) from error
    return Response(status=200, headers=(("Content-Type", "text/plain"),), body=b"ok\n")


def _metrics(call: Call) -> Response:
    if not call.options.metrics:
        raise RefusalError(404, "UNSUPPORTED", "this registry shows no metrics")
    store = call.store
    text = store.metrics.text(
        stored_bytes=store.catalog.used_bytes, pending_uploads=store.upload_count
    )
    return Response(status=200, headers=(("Content-Type", CONTENT_TYPE),), body=text.encode())


def _token(call: Call) -> Response:
    auth = call.options.token_auth
    if auth is None or call.request.path != auth.path:
        raise RefusalError(404, "UNSUPPORTED", "this registry gives no tokens")
    return give_token(call.request, call.options, auth)


_ROUTES = (
    _Route(pattern=re.compile(r"/v2/?"), parts={"GET": _ping}),
    _Route(
        pattern=re.compile("|".join(TOKEN_PATHS)),
        parts={"GET": _token, "POST": _token},
        access=_Access.OPEN,
    ),
    _Route(pattern=re.compile(r"/healthz"), parts={"GET": _health}, access=_Access.OPEN),
    _Route(pattern=re.compile(r"/metrics"), parts={"GET": _metrics}, access=_Access.PASSWORD),
    _Route(pattern=re.compile(r"/v2/_catalog"), parts={"GET": listings.list_repositories}),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?"),
        parts={"POST": blobs.start_upload},
    ),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<item>[^/]+)"),
        parts={
            "GET": blobs.get_upload,
            "PATCH": blobs.patch_upload,
            "PUT": blobs.finish_upload,
            "DELETE": blobs.cancel_upload,
        },
    ),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/blobs/(?P<item>[^/]+)"),
        parts={"GET": blobs.get_blob, "DELETE": deletion.delete_blob},
    ),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/manifests/(?P<item>[^/]+)"),
        parts={
            "GET": manifests.get_manifest,
            "PUT": manifests.put_manifest,
            "DELETE": deletion.delete_manifest,
        },
    ),
    _Route(pattern=re.compile(r"/v2/(?P<name>.+)/tags/list"), parts={"GET": listings.list_tags}),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/referrers/(?P<item>[^/]+)"),
        parts={"GET": listings.list_referrers},
    ),
)


def handle(store: Store, request: Request, options: Options) -> Response:
    """Answer one request; the only state is in `store` and in the fault script of `options`.

    Raises:
        BodyInterruptedError: the client went away while its body was read; nobody waits for an answer.
    """
    action = options.faults.take(request)
    options = options_with(action, options)
    scripted = start_with(action, request)
    if isinstance(scripted, Response):
        return _finished(scripted, request, options)
    try:
        response = _answer(store, scripted, options)
    except RefusalError as refusal:
        response = refusal.response
    except StorageError as error:
        response = RefusalError(507, "INSUFFICIENT_STORAGE", error.message).response
    except BodyInterruptedError:
        if action is None:
            raise
        response = Response(status=0)
    finished = _finished(end_with(action, response), request, options)
    return relabel_with(action, finished, options)


def _finished(response: Response, request: Request, options: Options) -> Response:
    ours: Headers = (("Docker-Distribution-API-Version", "registry/2.0"),)
    if options.conditional_put and options.upstream is None:
        ours += (("Server", SERVER),)  # by this, clients know that a conditional PUT is safe
    headers = ours + options.headers + response.headers
    response = replace(response, headers=headers, delay_s=response.delay_s or options.delay_s)
    return response.without_body() if request.method == "HEAD" else response


def _answer(store: Store, request: Request, options: Options) -> Response:
    path = urllib.parse.unquote(request.path)
    method = "GET" if request.method == "HEAD" else request.method
    for route in _ROUTES:
        if match := route.pattern.fullmatch(path):
            found = match.groupdict()
            call = Call(
                store=store,
                request=request,
                options=options,
                name=check_name(found["name"]) if "name" in found else "",
                item=found.get("item", ""),
            )
            return _allowed(route, method, path, call)
    raise RefusalError(404, "UNSUPPORTED", "no such endpoint")


def _allowed(route: _Route, method: str, path: str, call: Call) -> Response:
    """Check the right to do it and whether this registry does such things at all, then do it."""
    caller = _caller(route, method, call)
    try:
        response = _part(route, method, path, call)(replace(call, may_pull=caller.may_pull))
    except RefusalError as refusal:
        response = refusal.response
    return replace(response, user=caller.user)


def _caller(route: _Route, method: str, call: Call) -> Caller:
    if route.access is _Access.OPEN:
        return Caller()
    if route.access is _Access.PASSWORD:
        return Caller(user=check_login(call.request, call.options))
    actions = {"GET": ("pull",), "DELETE": ("delete",)}.get(method, ("pull", "push"))
    source = call.request.parameter("from") if call.request.parameter("mount") else None
    named = check_name(source) if source else ""  # it is about to stand in a challenge
    return check_access(call.request, call.options, call.name, actions, source=named)


def _part(route: _Route, method: str, path: str, call: Call) -> _Part:
    part = route.parts.get(method)
    is_upload = "/blobs/uploads/" in path
    if part is None or (method == "DELETE" and not call.options.delete and not is_upload):
        allow = (("Allow", ", ".join(route.parts)),)
        status = call.options.delete_status if part is not None else 405
        raise RefusalError(status, "UNSUPPORTED", f"{method} is not supported here", headers=allow)
    if method != "GET" and route.access is _Access.API and call.options.read_only:
        raise RefusalError(405, "UNSUPPORTED", "this registry is read-only")
    return part
