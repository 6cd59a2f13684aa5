"""The embedded registry as a pure function from request to response: the OCI distribution API 1.1."""

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ci_registry.errors import StorageError
from ci_registry.registry_server import blobs, listings, manifests
from ci_registry.registry_server.access import check_access, give_token
from ci_registry.registry_server.call import Call, check_name
from ci_registry.registry_server.faults import end_with, start_with
from ci_registry.registry_server.message import (
    BodyInterruptedError,
    RefusalError,
    Request,
    Response,
    json_response,
)
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import Store

_Part = Callable[[Call], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """One shape of path and what each method does there."""

    pattern: re.Pattern[str]
    parts: Mapping[str, _Part]


def _ping(_call: Call) -> Response:
    return json_response({})


def _token(call: Call) -> Response:
    if call.options.token_auth is None:
        raise RefusalError(404, "UNSUPPORTED", "this registry gives no tokens")
    return give_token(call.request, call.options, call.options.token_auth)


_ROUTES = (
    _Route(pattern=re.compile(r"/v2/?"), parts={"GET": _ping}),
    _Route(pattern=re.compile(r"/token"), parts={"GET": _token}),
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
        parts={"GET": blobs.get_blob, "DELETE": blobs.delete_blob},
    ),
    _Route(
        pattern=re.compile(r"/v2/(?P<name>.+)/manifests/(?P<item>[^/]+)"),
        parts={
            "GET": manifests.get_manifest,
            "PUT": manifests.put_manifest,
            "DELETE": manifests.delete_manifest,
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
    scripted = start_with(action, request)
    if isinstance(scripted, Response):
        return _finished(scripted, request)
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
    return _finished(end_with(action, response), request)


def _finished(response: Response, request: Request) -> Response:
    version = (("Docker-Distribution-API-Version", "registry/2.0"),)
    response = replace(response, headers=version + response.headers)
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
    if path != "/token":
        actions = {"GET": ("pull",), "DELETE": ("delete",)}.get(method, ("pull", "push"))
        may_pull = check_access(call.request, call.options, call.name, actions)
        call = replace(call, may_pull=may_pull)
    part = route.parts.get(method)
    is_upload = "/blobs/uploads/" in path
    if part is None or (method == "DELETE" and not call.options.delete and not is_upload):
        allow = (("Allow", ", ".join(route.parts)),)
        raise RefusalError(405, "UNSUPPORTED", f"{method} is not supported here", headers=allow)
    if method != "GET" and call.options.read_only:
        raise RefusalError(405, "UNSUPPORTED", "this registry is read-only")
    return part(call)
