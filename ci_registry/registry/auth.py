"""Answers the challenges of one registry: Basic, Bearer tokens from its token service, refresh tokens."""

import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ci_registry.errors import AccessError, IntegrityError, NetworkError, RegistryError
from ci_registry.network.client import HttpClient
from ci_registry.network.message import (
    Headers,
    Origin,
    Response,
    is_named_plain,
    may_be_plain,
    origin_of,
    shown_url,
)
from ci_registry.registry.challenge import Challenge, parse_challenges
from ci_registry.registry.credentials import Credentials, CredentialSource
from ci_registry.registry.failures import error_of, login_hint
from ci_registry.registry.token_requests import merged_scopes, refresh_request, token_request
from ci_registry.secret import Secret
from ci_registry.strict import as_object, parse_json

_DEFAULT_LIFETIME_S = 60.0
"""What the token specification says of an answer without `expires_in`."""
_MARGIN_S = 10.0
_REFUSAL_S = 30.0
"""So long a refused login is not tried again: many threads with a wrong password would lock the account."""
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


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    hint: str
    ends_at: float


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
        self._refusals: dict[Access, _Refusal] = {}

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
            self._raise_known_refusal(access)
            try:
                return self._respond(headers, access, rejected, action_names)
            except AccessError as error:
                ends_at = self._monotonic() + _REFUSAL_S
                self._refusals[access] = _Refusal(error.message, error.hint, ends_at)
                raise

    def _raise_known_refusal(self, access: Access) -> None:
        refusal = self._refusals.get(access)
        if refusal is not None and refusal.ends_at > self._monotonic():
            raise AccessError(refusal.message, hint=refusal.hint)

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
            try:
                token = self._fetch_token(by_scheme["bearer"], scopes, login)
            except AccessError:
                login = self._other_login(repository, login)
                if login is None:
                    raise
                token = self._fetch_token(by_scheme["bearer"], scopes, login)
            with self._lock:
                self._tokens[access] = token
            return token.value
        if "basic" in by_scheme:
            return self._basic_login(repository, login, rejected)
        return None

    def _basic_login(
        self, repository: str, login: Credentials | None, rejected: Secret | None
    ) -> Secret | None:
        if login is not None and login.username and login.basic == rejected:
            login = self._other_login(repository, login)
        if login is None or not login.username:
            return None
        self._check_pinned(str(self._origin))
        with self._lock:
            self._basic[repository] = login.basic
        return login.basic

    @property
    def is_anonymous(self) -> bool:
        """Whether no login was found so far, or none was looked for."""
        with self._lock:
            return not any(self._logins.values())

    def _login(self, repository: str) -> Credentials | None:
        with self._lock:
            if repository in self._logins:
                return self._logins[repository]
        found = self._credentials.find(self._host, repository)
        with self._lock:
            return self._logins.setdefault(repository, found)

    def _other_login(self, repository: str, login: Credentials | None) -> Credentials | None:
        """Look the login up again: what helpers give out (ECR, GAR, ACR) ends after hours; None: it is the same."""
        if login is None:
            return None
        found = self._credentials.find(self._host, repository)
        if found is None or found == login:
            return None
        with self._lock:
            self._logins[repository] = found
        return found

    def _fetch_token(
        self, challenge: Challenge, needed: tuple[str, ...], login: Credentials | None
    ) -> _Token:
        if login is not None and login.registry_token:
            lifetime_s = self._client.settings.budget_s
            value = Secret(f"Bearer {login.registry_token.reveal()}")
            end = self._monotonic() + lifetime_s
            return _Token(value, end, lifetime_s, challenge, needed)
        realm = self._checked_realm(challenge.parameters.get("realm", ""))
        scopes = merged_scopes((*needed, challenge.parameters.get("scope", "")))
        service = challenge.parameters.get("service", "")
        asked_at = self._monotonic()
        if login is not None and login.identity_token:
            request = refresh_request(realm, service, scopes, login.identity_token)
        else:
            request = token_request(realm, service, scopes, login)
        answer = self._client.request(request, max_body_bytes=_MAX_TOKEN_BYTES)
        if not answer.ok:
            raise self._refused(answer, realm, login)
        value, lifetime_s = self._parsed(answer)
        end = asked_at + lifetime_s - min(_MARGIN_S, lifetime_s / 5)
        return _Token(value, end, lifetime_s, challenge, needed)

    def _checked_realm(self, realm: str) -> str:
        """Refuse a token service without TLS, unless the registry is plain loopback or the user named that host."""
        if not realm:
            raise RegistryError(f"{self._host} asks for a token but does not say where to get it")
        origin = origin_of(realm)
        if origin.scheme == "http" and not self._may_be_plain(origin):
            raise RegistryError(
                f"{self._host} names a token service without TLS, {origin}, which is refused"
            )
        self._check_pinned(realm)
        return realm

    def _may_be_plain(self, realm: Origin) -> bool:
        if self._origin.scheme == "https":
            return False
        plain_http = self._client.settings.plain_http
        is_local = may_be_plain(self._origin, ()) and may_be_plain(realm, ())
        return is_local or is_named_plain(realm, plain_http)

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
                hint=login_hint(
                    self._host,
                    begin="check user name and password, or log in again"
                    if login
                    else "log in first",
                ),
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
