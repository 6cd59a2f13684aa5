"""How the embedded registry behaves: access, limits, and the personalities of other registries."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ci_registry.errors import CiRegistryError
from ci_registry.registry.interface import Repository
from ci_registry.registry_server.message import Headers, Request

Refusal = tuple[int, str]
"""Status and error code."""


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
    """Handle the request and send nothing for so long, or nothing more."""

    duration_s: float
    after_bytes: int | None = None
    """How many bytes of the body go out before the pause; None: not even the head."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Relabel:
    """Answer as always, but with these header fields in place of those of the same name."""

    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """Handle the request with a clock that is wrong: tokens, and the `Date` of the answer."""

    by_s: float


EXPIRED_TOKEN = Skew(by_s=10**8)
"""The token that the request carries has just expired."""

Action = Answer | Reset | Stall | Corrupt | Truncate | Redirect | Relabel | Skew


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


TOKEN_PATHS = ("/token", "/service/token", "/jwt/auth", "/v2/auth", "/v2/token", "/oauth2/token")
"""Where Docker Hub and GHCR, Harbor, GitLab, Quay, GAR and ACR give tokens."""


class RateLimit:
    """Counts reads of manifests, as Docker Hub does; HEAD is free. Thread-safe."""

    def __init__(self, most: int, window_s: int = 21_600) -> None:
        """Allow `most` reads in a window, which never ends by itself."""
        self.most = most
        self.window_s = window_s
        self._left = most
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """How many reads are left."""
        return self._left

    def reset(self) -> None:
        """Begin a new window."""
        with self._lock:
            self._left = self.most

    def take(self) -> bool:
        """Count a read; False when none was left."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAuth:
    """Ask for Bearer tokens, which `/token` of the same server gives for a user's Basic credentials."""

    key: bytes = field(repr=False)
    """Signs the tokens; random per server."""
    lifetime_s: float = 300.0
    service: str = "ci-registry"
    path: str = "/token"
    """Where tokens are given: one of `TOKEN_PATHS`."""
    refresh_user: str = ""
    """The user whose password is taken as a refresh token by POST (OAuth 2), as ACR does; empty: nobody's."""
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
    What is deleted here is hidden, wherever it is."""
    upstream_failed: Callable[[str, CiRegistryError], None] = lambda _name, _error: None
    """Told of each failure of the real registry; the client gets 502 for it."""
    sparse: bool = False
    """Accept manifests whose blobs or children are not there (missing content `accept`, not `refuse`)."""
    read_only: bool = False
    storage_limit_bytes: int | None = None
    """Answer 507 to what would store more than this."""
    max_upload_bytes: int = 64 * 1024**3

    referrers_api: bool = True
    """False: the referrers API is refused and no `OCI-Subject` is sent, as distribution and GHCR do."""
    referrers_status: int = 404
    """How it is refused; ECR has answered 405."""
    oci_subject: bool = True
    """False: a subject is not confirmed, although the referrers API may be there."""
    delete: bool = True
    """False: every DELETE is refused, as GHCR does."""
    delete_status: int = 405
    """How it is refused; ECR has answered 404."""
    tag_delete: bool = True
    """False: DELETE by tag is refused, as Harbor and distribution 2.8 do."""
    tag_delete_refusal: Refusal = (400, "UNSUPPORTED")
    tagged_delete_refusal: Refusal | None = None
    """How DELETE by digest is refused while a tag points there (GAR); None: the tags go too."""
    child_delete_refusal: Refusal | None = None
    """How DELETE of a manifest is refused that an index lists; None: it is deleted."""
    untagged_delete: bool = True
    """False: a manifest without a tag can't be addressed by DELETE, as on Quay."""
    delete_cascades: bool = False
    """Deleting a subject deletes what refers to it, as on ACR."""
    mount: bool = True
    """False: a mount is answered by an upload location."""
    mount_refusal: Refusal | None = None
    """How every mount is refused; Harbor answers 401."""
    mount_needs_source: bool = False
    """A mount without `from` is refused, as on Quay."""
    immutable_tags: bool = False
    """PUT of another digest to an existing tag, or its deletion, is 409 TAG_IMMUTABLE."""
    page_limit: int = 1000
    """Most entries of one page of a listing, whatever the client asks for."""
    page_default: int | None = None
    """Entries of a page when the client names no number; None: as many as fit."""
    paging_link: bool = True
    """False: pages come without `Link`; clients must go on with `last`."""
    tag_paging: bool = True
    """False: `n` and `last` mean nothing to the tag list, which is one unsorted answer (distribution 2.8)."""
    most_tags_asked: int | None = None
    """400 to a larger `n` of the tag list (distribution 3.1.0, ECR)."""
    most_repositories_asked: int | None = None
    """400 to a larger `n` of the catalog (distribution)."""
    catalog: bool = True
    """False: there is no `_catalog`."""
    google_tags: bool = False
    """The tag list tells digests, sizes and times too, as GAR's does."""
    etag: bool = True
    """False: no `ETag`, and no 304."""
    conditional_put: bool = True
    """False: `If-Match` and `If-None-Match` count for nothing in writes, as with distribution."""
    accept_required: bool = False
    """True: a manifest is 404 unless its media type stands in `Accept`, as distribution does."""
    patch_status: int = 202
    """201: as ECR answers PATCH."""
    later_patches_dropped: bool = False
    """Only the first PATCH of an upload is kept, as ECR does (aws/containers-roadmap#2831)."""
    upload_state: str = ""
    """Query of every upload location that clients must send back to the byte: `_state=a%2Fb%20c`."""
    rate_limit: RateLimit | None = None
    """Most reads of manifests: 429 with `Retry-After` and plain text after them."""
    headers: Headers = ()
    """Fields of every answer: by some of them clients know whose registry it is."""
    delay_s: float = 0.0
    """How long every answer takes."""
    faults: FaultScript = field(default_factory=FaultScript)
