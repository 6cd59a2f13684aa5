"""Answers the challenges of one registry: Basic, Bearer tokens from its token service, refresh tokens."""

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ci_registry.errors import AccessError, IntegrityError, NetworkError, RegistryError
from ci_registry.network.client import HttpClient
from ci_registry.network.message import (
    Headers,
    Origin,
    Request,
    Response,
    origin_of,
    shown_url,
)
from ci_registry.registry.challenge import Challenge, parse_challenges
from ci_registry.registry.credentials import Credentials, CredentialSource
from ci_registry.registry.failures import error_of
from ci_registry.secret import Secret
from ci_registry.strict import as_object, parse_json

CLIENT_ID = "ci-registry"
_DEFAULT_LIFETIME_S = 60.0
"""What the token specification says of an answer without `expires_in`."""
_MARGIN_S = 10.0
_MAX_TOKEN_BYTES = 256 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")

Access = frozenset[tuple[str, str]]
"""What a request needs: pairs of repository and `pull`, `push` or `delete`."""


def access_to(repository: str, *actions: str) -> Access:
    """Return the right to do `actions` in one repository."""
    return frozenset((repository, action) for action in actions)


def scopes_of(
    access: Access, action_names: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, ...]:
    """Return the scopes of the token specification: `repository:NAME:pull,push`.

    `action_names` says which actions this token service calls otherwise.
    """
    order = ("pull", "push", "delete", "*")
    actions: dict[str, set[str]] = {}
    for repository, action in access:
        actions.setdefault(repository, set()).add(action_names.get(action, action))
    return tuple(
        f"repository:{repository}:{','.join(a for a in order if a in wanted)}"
        for repository, wanted in sorted(actions.items())
    )


def is_below(url: str, prefix: str) -> bool:
    """Whether a URL is `prefix` or stands below it: same scheme, host and port, path by whole segments."""
    if origin_of(url) != origin_of(prefix):
        return False
    path, wanted = (urllib.parse.urlsplit(text).path.rstrip("/") for text in (url, prefix))
    segments = urllib.parse.unquote(path).split("/")
    return ".." not in segments and (path == wanted or path.startswith(f"{wanted}/"))


def _primary(access: Access) -> str:
    """Return the repository whose login counts: the one written to, else the first."""
    written = {name for name, action in access if action != "pull"}
    return min(written or {name for name, _ in access}, default="")


@dataclass(frozen=True, slots=True)
class _Token:
    value: Secret
    expires_at: float
    lifetime_s: float
    challenge: Challenge
    scopes: tuple[str, ...]
    """What it was asked for with, to ask again."""

    def lasts(self, lasting_s: float, now: float) -> bool:
        """Whether it lasts so long; of one that never would, half of its life is enough."""
        return self.expires_at - now >= min(lasting_s, self.lifetime_s / 2)


class Authorizer:
    """Holds the login and the tokens of one registry; threads that need the same token wait for one request."""

    def __init__(
        self,
        client: HttpClient,
        *,
        host: str,
        origin: Origin,
        credentials: CredentialSource,
        realm: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            client: sends the requests to the token service.
            host: the registry as users write it.
            origin: what is spoken to.
            credentials: where the login is found.
            realm: prefix of the only address where a token may be asked for; empty: where the registry says.
            monotonic: seconds, for the expiry of tokens.
        """
        self._client = client
        self._host = host
        self._origin = origin
        self._credentials = credentials
        self._realm = realm
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._locks: dict[Access, threading.Lock] = {}
        self._tokens: dict[Access, _Token] = {}
        self._basic: dict[str, Secret] = {}
        self._logins: dict[str, Credentials | None] = {}

    def current(self, access: Access, *, lasting_s: float = 0.0) -> Secret | None:
        """Return what a request may be sent with now; None: nothing is known yet, so try without.

        A token that ends within `lasting_s` is renewed first; when that fails, it is used as it is.
        """
        now = self._monotonic()
        with self._lock:
            if (repository := _primary(access)) in self._basic:
                return self._basic[repository]
            for known, token in self._tokens.items():
                if access <= known and token.expires_at > now:
                    break
            else:
                return None
        return token.value if token.lasts(lasting_s, now) else self._prolonged(known, token)

    def _prolonged(self, access: Access, old: _Token) -> Secret:
        with self._lock:
            lock = self._locks.setdefault(access, threading.Lock())
        with lock:
            token = self._tokens.get(access, old)
            if token is old:
                try:
                    token = self._fetch_token(
                        old.challenge, old.scopes, self._login(_primary(access))
                    )
                except (AccessError, RegistryError, NetworkError):
                    return old.value  # still good: if it ends too early, the registry says so
                with self._lock:
                    self._tokens[access] = token
        return token.value

    def answer(
        self,
        headers: Headers,
        access: Access,
        rejected: Secret | None,
        *,
        action_names: Mapping[str, str] = MappingProxyType({}),
    ) -> Secret | None:
        """Answer a challenge of the registry itself.

        Args:
            headers: of the 401.
            access: what the request needs.
            rejected: what it was sent with.
            action_names: as of `scopes_of`.

        Returns:
            What to try next; None when there is nothing better than what was rejected.

        Raises:
            AccessError: the login is missing or refused.
            RegistryError: the token service failed.
        """
        with self._lock:
            lock = self._locks.setdefault(access, threading.Lock())
        with lock:
            known = self.current(access)
            if known is not None and known != rejected:
                return known
            return self._respond(headers, access, rejected, action_names)

    def _respond(
        self,
        headers: Headers,
        access: Access,
        rejected: Secret | None,
        action_names: Mapping[str, str],
    ) -> Secret | None:
        by_scheme: dict[str, Challenge] = {}
        for challenge in parse_challenges(headers.all("WWW-Authenticate")):
            by_scheme.setdefault(challenge.scheme, challenge)
        repository = _primary(access)
        login = self._login(repository)
        if "bearer" in by_scheme:
            scopes = scopes_of(access, action_names)
            token = self._fetch_token(by_scheme["bearer"], scopes, login)
            with self._lock:
                self._tokens[access] = token
            return token.value
        if "basic" in by_scheme and login is not None and login.username:
            self._check_pinned(str(self._origin))
            basic = login.basic
            if basic == rejected:
                return None
            with self._lock:
                self._basic[repository] = basic
            return basic
        return None

    def _login(self, repository: str) -> Credentials | None:
        with self._lock:
            if repository in self._logins:
                return self._logins[repository]
        found = self._credentials.find(self._host, repository)
        with self._lock:
            return self._logins.setdefault(repository, found)

    def _fetch_token(
        self, challenge: Challenge, needed: tuple[str, ...], login: Credentials | None
    ) -> _Token:
        if login is not None and login.registry_token:
            lifetime_s = self._client.settings.budget_s
            value = Secret(f"Bearer {login.registry_token.reveal()}")
            end = self._monotonic() + lifetime_s
            return _Token(value, end, lifetime_s, challenge, needed)
        realm = self._checked_realm(challenge.parameters.get("realm", ""))
        scopes = _merged_scopes((*needed, challenge.parameters.get("scope", "")))
        service = challenge.parameters.get("service", "")
        asked_at = self._monotonic()
        if login is not None and login.identity_token:
            request = _refresh_request(realm, service, scopes, login.identity_token)
        else:
            request = _token_request(realm, service, scopes, login)
        answer = self._client.request(request, max_body_bytes=_MAX_TOKEN_BYTES)
        if not answer.ok:
            raise self._refused(answer, realm, login)
        value, lifetime_s = self._parsed(answer)
        end = asked_at + lifetime_s - min(_MARGIN_S, lifetime_s / 5)
        return _Token(value, end, lifetime_s, challenge, needed)

    def _checked_realm(self, realm: str) -> str:
        """Refuse to send a login over plain HTTP, unless the registry itself is spoken to like that."""
        if not realm:
            raise RegistryError(f"{self._host} asks for a token but does not say where to get it")
        origin = origin_of(realm)
        if origin.scheme == "http" and self._origin.scheme == "https":
            raise RegistryError(
                f"{self._host} names a token service without TLS, {origin}, which is refused"
            )
        self._check_pinned(realm)
        return realm

    def _check_pinned(self, realm: str) -> None:
        """Refuse to send a login anywhere else than where it was pinned."""
        if self._realm and not is_below(realm, self._realm):
            raise AccessError(
                f"{self._host} wants its login sent to {shown_url(realm)},"
                f" but only {self._realm} may have it",
                hint=f"if that is right, set auth.realms: {{{self._host}: {shown_url(realm)}}}",
            )

    def _refused(self, answer: Response, realm: str, login: Credentials | None) -> Exception:
        where = origin_of(realm).netloc
        detail = error_of(answer).text
        if answer.status in (400, 401, 403):
            user = login.username if login is not None else ""
            who = f"the login of {user!r}" if user else "the login" if login else "anonymous access"
            return AccessError(
                f"{self._host} refuses {who} (token service {where}, HTTP {answer.status}){detail}",
                hint=f"check user name and password, or log in: docker login {self._host}",
            )
        return RegistryError(
            f"the token service {where} of {self._host} failed: HTTP {answer.status}{detail}",
            status=answer.status,
        )

    def _parsed(self, answer: Response) -> tuple[Secret, float]:
        """Return the value of a token and how many seconds it lives."""
        what = f"answer of the token service of {self._host}"
        try:
            document = as_object(parse_json(answer.body, what=what), what=what)
        except IntegrityError:
            raise RegistryError(f"{what} is not JSON", status=answer.status) from None
        value = document.get("token") or document.get("access_token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise RegistryError(f"{what} holds no token", status=answer.status)
        lifetime = document.get("expires_in")
        known = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
        lifetime_s = float(lifetime) if known else _DEFAULT_LIFETIME_S  # type: ignore[arg-type]
        return Secret(f"Bearer {value}"), lifetime_s


def _merged_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, each resource once with the actions of all."""
    actions: dict[str, list[str]] = {}
    for scope in " ".join(scopes).split():
        resource, _, wanted = scope.rpartition(":")
        known = actions.setdefault(resource, [])
        known += [action for action in wanted.split(",") if action and action not in known]
    return tuple(f"{resource}:{','.join(wanted)}" for resource, wanted in actions.items())


def _token_request(
    realm: str, service: str, scopes: tuple[str, ...], login: Credentials | None
) -> Request:
    pairs = [("service", service)] if service else []
    pairs += [("scope", scope) for scope in scopes]
    query = urllib.parse.urlencode(pairs, safe=":/,")
    separator = "&" if "?" in realm else "?"
    return Request(
        method="GET",
        url=f"{realm}{separator}{query}" if query else realm,
        authorization=login.basic if login is not None and login.username else None,
    )


def _refresh_request(
    realm: str, service: str, scopes: tuple[str, ...], identity_token: Secret
) -> Request:
    form = {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": identity_token.reveal(),
    }
    body = urllib.parse.urlencode(form).encode()
    return Request(
        method="POST",
        url=realm,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=lambda: iter((body,)),
        size_bytes=len(body),
        body_is_secret=True,
    )
