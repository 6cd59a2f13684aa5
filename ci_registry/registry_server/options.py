"""How the embedded registry behaves: access, limits, and the personalities of other registries."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ci_registry.errors import CiRegistryError
from ci_registry.registry.interface import Repository
from ci_registry.registry_server.message import Headers, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer this instead of handling the request: 429 with Retry-After, an HTML page, a 401 midway."""

    status: int
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Drop the connection: after so many bytes of the request's body, else of the answer's."""

    request_bytes: int | None = None
    response_bytes: int | None = None
    """Both None: the request is handled to its end, and the answer is never sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Handle the request and send nothing for so long."""

    duration_s: float
    response_bytes: int | None = None
    """Send the head and so many bytes of the body first, and drop the connection afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt:
    """Flip the last bit of the answer's body; its headers stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """Answer with a shorter body and a `Content-Length` that agrees with it."""

    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Answer with a redirect to the same path and query elsewhere."""

    to: str
    """Scheme and host: `http://127.0.0.1:1234`."""
    status: int = 307


Action = Answer | Reset | Stall | Corrupt | Truncate | Redirect


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted fault."""

    action: Action
    method: str = ".*"
    """Regular expression that the whole method matches."""
    path: str = ".*"
    """Regular expression that is found in the path (percent-encoded, with `?query` when there is one)."""
    times: int = 1
    """How often it strikes; 0 = always."""
    after: int = 0
    """How many matching requests pass unharmed first."""


class FaultScript:
    """The faults still to come; a request meets the first one that matches. Thread-safe."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, list[int]]] = []
        self.add(*faults)

    def add(self, *faults: Fault) -> None:
        """Script more faults."""
        with self._lock:
            self._faults += [(fault, [0]) for fault in faults]

    def clear(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> Action | None:
        """Return what goes wrong with this request, and count it."""
        target = request.path + (f"?{request.query}" if request.query else "")
        with self._lock:
            for fault, seen in self._faults:
                if not re.fullmatch(fault.method, request.method):
                    continue
                if not re.search(fault.path, target):
                    continue
                if fault.times and seen[0] >= fault.after + fault.times:
                    continue
                seen[0] += 1
                if seen[0] > fault.after:
                    return fault.action
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAuth:
    """Ask for Bearer tokens, which `/token` of the same server gives for a user's Basic credentials."""

    key: bytes = field(repr=False)
    """Signs the tokens; random per server."""
    lifetime_s: float = 300.0
    service: str = "ci-registry"
    realm: str = ""
    """Where the challenge sends clients; empty = `/token` of the host that the client named."""
    anonymous_pull: bool = False
    """Whether clients without credentials get tokens to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that can be switched; the defaults are a friendly registry without authentication."""

    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User name → password; empty, and no `check_password`: everybody may do everything."""
    check_password: Callable[[str, str], bool] | None = None
    """Says whether a user has a password; asked when `users` is empty. Every user may do everything."""
    metrics: bool = False
    """Whether `/metrics` answers; it asks for a password where there are users."""
    token_auth: TokenAuth | None = None
    clock: Callable[[], float] = time.time
    """Seconds since 1970, for the expiry of tokens."""
    upstream: Callable[[str], Repository | None] | None = None
    """Gives the real repository behind a name: what is not here is read there; writes stay here.
    Deleting hides nothing that is upstream."""
    upstream_failed: Callable[[str, CiRegistryError], None] = lambda _name, _error: None
    """Told of each failure of the real registry; the client gets 502 for it."""
    sparse: bool = False
    """Accept manifests whose blobs or children are not there (missing content `accept`, not `refuse`)."""
    read_only: bool = False
    storage_limit_bytes: int | None = None
    """Answer 507 to what would store more than this."""
    max_upload_bytes: int = 64 * 1024**3

    referrers_api: bool = True
    """False: the referrers API is 404 and no `OCI-Subject` is sent, as distribution and GHCR do."""
    tag_delete: bool = True
    """False: DELETE by tag is 400 UNSUPPORTED, as Harbor does."""
    delete: bool = True
    """False: every DELETE is 405, as GHCR does."""
    mount: bool = True
    """False: a mount is answered by an upload location."""
    immutable_tags: bool = False
    """PUT of another digest to an existing tag, or its deletion, is 409 TAG_IMMUTABLE."""
    page_limit: int = 1000
    """Most entries of one page of a listing, whatever the client asks for."""
    paging_link: bool = True
    """False: pages come without `Link`; clients must go on with `last`."""
    conditional_put: bool = True
    """False: `If-Match` and `If-None-Match` of a manifest PUT count for nothing, as with distribution."""
    accept_required: bool = False
    """True: a manifest is 404 unless its media type stands in `Accept`, as distribution does."""
    patch_status: int = 202
    """201: as ECR answers PATCH."""
    upload_state: str = ""
    """Query of every upload location that clients must send back to the byte: `_state=a%2Fb%20c`."""
    faults: FaultScript = field(default_factory=FaultScript)
