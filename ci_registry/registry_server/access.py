"""Who may do what: Basic credentials, and the Bearer tokens of the distribution token protocol."""

import base64
import binascii
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ci_registry.registry_server.body import read_small
from ci_registry.registry_server.message import RefusalError, Request, Response, json_response
from ci_registry.registry_server.options import Options, TokenAuth

_MAX_FORM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what else they may do."""

    user: str = ""
    """Empty for anonymous callers."""
    may_pull: Callable[[str], bool] = lambda _name: True
    """Whether they may read another repository."""


def check_access(
    request: Request, options: Options, name: str, actions: tuple[str, ...], *, source: str = ""
) -> Caller:
    """Let the request pass, or refuse it with a challenge.

    Args:
        request: the head is enough.
        options: users and token service.
        name: the repository; empty for the ping and the catalog.
        actions: what a token must allow in it: `pull`, `push`, `delete`.
        source: the repository that a mount names: the challenge asks for the right to read it too,
            but a token without that right is good for all the rest.

    Returns:
        Who it is.
    """
    if options.token_auth is not None:
        scopes = tuple(_scope(*s) for s in ((name, actions), (source, ("pull",))) if s[0])
        return _check_token(request, options, options.token_auth, (name, actions), scopes)
    return Caller(user=check_login(request, options))


def check_login(request: Request, options: Options) -> str:
    """Return the user whose password the request carries; empty where nobody needs one."""
    if not _has_users(options):
        return ""
    user = _user(request, options)
    if user is None:
        challenge = (("WWW-Authenticate", 'Basic realm="ci-registry"'),)
        raise RefusalError(401, "UNAUTHORIZED", "user name and password needed", headers=challenge)
    return user


def _has_users(options: Options) -> bool:
    return bool(options.users) or options.check_password is not None


def _user(request: Request, options: Options) -> str | None:
    """Return the user whose right password the request carries."""
    scheme, _, text = request.header("authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, no UTF-8, not even ASCII
        return None
    if not options.users and options.check_password is not None:
        return user if options.check_password(user, password) else None
    known = options.users.get(user)
    right = hmac.compare_digest((known or "").encode(), password.encode())
    return user if known is not None and right else None


def _scope(name: str, actions: tuple[str, ...]) -> str:
    return f"repository:{name}:{','.join(actions)}"


def _check_token(
    request: Request,
    options: Options,
    auth: TokenAuth,
    wanted: tuple[str, tuple[str, ...]],
    scopes: tuple[str, ...],
) -> Caller:
    name, actions = wanted
    scheme, _, token = request.header("authorization").partition(" ")
    is_bearer = scheme.lower() == "bearer"
    claims = _claims(auth, token.strip(), options.clock()) if is_bearer else None
    grants = claims.grants if claims is not None else {}
    if claims is not None and (not name or set(actions) <= grants.get(name, frozenset())):
        return Caller(user=claims.user, may_pull=lambda other: "pull" in grants.get(other, ()))
    realm = auth.realm or f"{request.scheme}://{request.header('host')}{auth.path}"
    challenge = f'Bearer realm="{realm}",service="{auth.service}"'
    if scopes:
        challenge += f',scope="{" ".join(scopes)}"'
    if token and is_bearer:
        challenge += f',error="{"invalid_token" if claims is None else "insufficient_scope"}"'
    headers = (("WWW-Authenticate", challenge),)
    raise RefusalError(401, "UNAUTHORIZED", "a token is needed", headers=headers)


def give_token(request: Request, options: Options, auth: TokenAuth) -> Response:
    """Answer `GET /token?service=…&scope=repository:NAME:pull,push` with a token for what is allowed.

    A POST has the same in a form, and the password or the refresh token too (OAuth 2).
    """
    form = _form(request, auth)
    asked = form.get("scope", "") if form else " ".join(request.parameters("scope"))
    is_anonymous = auth.anonymous_pull and not form and not request.header("authorization")
    user = "" if is_anonymous else check_login(_with_login(request, form, auth), options)
    may_write = bool(user) or not _has_users(options)
    grants: dict[str, list[str]] = {}
    for scope in asked.split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and name:
            wanted = actions.split(",")
            if "*" in wanted:
                wanted = ["pull", "push", "delete"]
            given = [a for a in wanted if a == "pull" or may_write]
            grants[name] = sorted({*grants.get(name, []), *given})
    now = options.clock()
    claims = {"exp": now + auth.lifetime_s, "sub": user, "grants": grants}
    token = _sign(auth, json.dumps(claims, sort_keys=True).encode())
    answer = {
        "token": token,
        "access_token": token,
        "expires_in": int(auth.lifetime_s),
        "issued_at": datetime.fromtimestamp(now, UTC).isoformat(),
    }
    return json_response(answer, headers=(("Cache-Control", "no-store"),))


def _form(request: Request, auth: TokenAuth) -> dict[str, str]:
    """Return the form of a POST; empty for a GET."""
    if request.method != "POST":
        return {}
    if not auth.refresh_user:
        raise RefusalError(405, "UNSUPPORTED", "tokens are asked for by GET")
    text = read_small(request, _MAX_FORM_BYTES).decode("latin-1")
    return dict(urllib.parse.parse_qsl(text, max_num_fields=20))


def _with_login(request: Request, form: Mapping[str, str], auth: TokenAuth) -> Request:
    """Return the request with the login of its form as Basic credentials."""
    if not form:
        return request
    login = (form.get("username", ""), form.get("password", ""))
    if form.get("grant_type") == "refresh_token":
        login = (auth.refresh_user, form.get("refresh_token", ""))
    basic = base64.b64encode(":".join(login).encode()).decode()
    return replace(request, headers={**request.headers, "authorization": f"Basic {basic}"})


def _sign(auth: TokenAuth, claims: bytes) -> str:
    mac = hmac.new(auth.key, claims, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac + claims).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    """What a token says."""

    user: str
    grants: Mapping[str, frozenset[str]]
    """Repository → actions."""


def _claims(auth: TokenAuth, token: str, now: float) -> _Claims | None:
    """Return what a token of ours says; None when it is not ours or has expired."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, claims = raw[:32], raw[32:]
    if not hmac.compare_digest(mac, hmac.new(auth.key, claims, hashlib.sha256).digest()):
        return None
    content = json.loads(claims)
    if content["exp"] <= now:
        return None
    grants = {name: frozenset(actions) for name, actions in content["grants"].items()}
    return _Claims(user=content["sub"], grants=grants)
