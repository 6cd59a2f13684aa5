"""Who may do what: Basic credentials, and the Bearer tokens of the distribution token protocol."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable

from ci_registry.registry_server.message import RefusalError, Request, Response, json_response
from ci_registry.registry_server.options import Options, TokenAuth


def check_access(
    request: Request, options: Options, name: str, actions: tuple[str, ...]
) -> Callable[[str], bool]:
    """Let the request pass, or refuse it with a challenge.

    Args:
        request: the head is enough.
        options: users and token service.
        name: the repository; empty for the ping and the catalog.
        actions: what a token must allow in it: `pull`, `push`, `delete`.

    Returns:
        A function that says whether the caller may read another repository.
    """
    if options.token_auth is not None:
        return _check_token(request, options, options.token_auth, name, actions)
    if options.users and _user(request, options) is None:
        challenge = (("WWW-Authenticate", 'Basic realm="ci-registry"'),)
        raise RefusalError(401, "UNAUTHORIZED", "user name and password needed", headers=challenge)
    return lambda _name: True


def _user(request: Request, options: Options) -> str | None:
    """Return the user whose right password the request carries."""
    scheme, _, text = request.header("authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    known = options.users.get(user)
    right = hmac.compare_digest((known or "").encode(), password.encode())
    return user if known is not None and right else None


def _scope(name: str, actions: tuple[str, ...]) -> str:
    return f"repository:{name}:{','.join(actions)}" if name else ""


def _check_token(
    request: Request, options: Options, auth: TokenAuth, name: str, actions: tuple[str, ...]
) -> Callable[[str], bool]:
    scheme, _, token = request.header("authorization").partition(" ")
    grants = _grants(auth, token.strip(), options.clock()) if scheme.lower() == "bearer" else None
    allowed = grants is not None and (not name or set(actions) <= grants.get(name, set()))
    if allowed and grants is not None:
        return lambda other: "pull" in grants.get(other, set())
    realm = auth.realm or f"http://{request.header('host')}/token"
    challenge = f'Bearer realm="{realm}",service="{auth.service}"'
    if name:
        challenge += f',scope="{_scope(name, actions)}"'
    if token and scheme.lower() == "bearer":
        challenge += f',error="{"invalid_token" if grants is None else "insufficient_scope"}"'
    headers = (("WWW-Authenticate", challenge),)
    raise RefusalError(401, "UNAUTHORIZED", "a token is needed", headers=headers)


def give_token(request: Request, options: Options, auth: TokenAuth) -> Response:
    """Answer `GET /token?service=…&scope=repository:NAME:pull,push` with a token for what is allowed."""
    user = _user(request, options)
    if user is None and (options.users and request.header("authorization")):
        raise RefusalError(401, "UNAUTHORIZED", "wrong user name or password")
    if user is None and options.users and not auth.anonymous_pull:
        challenge = (("WWW-Authenticate", 'Basic realm="ci-registry"'),)
        raise RefusalError(401, "UNAUTHORIZED", "user name and password needed", headers=challenge)
    may_write = user is not None or not options.users
    grants: dict[str, list[str]] = {}
    for scope in " ".join(request.parameters("scope")).split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and name:
            wanted = actions.split(",")
            if "*" in wanted:
                wanted = ["pull", "push", "delete"]
            given = [a for a in wanted if a == "pull" or may_write]
            grants[name] = sorted({*grants.get(name, []), *given})
    claims = {"exp": options.clock() + auth.lifetime_s, "grants": grants}
    token = _sign(auth, json.dumps(claims, sort_keys=True).encode())
    return json_response({"token": token, "expires_in": int(auth.lifetime_s)})


def _sign(auth: TokenAuth, claims: bytes) -> str:
    mac = hmac.new(auth.key, claims, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac + claims).decode().rstrip("=")


def _grants(auth: TokenAuth, token: str, now: float) -> dict[str, set[str]] | None:
    """Return what a token of ours allows; None when it is not ours or has expired."""
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
    return {name: set(actions) for name, actions in content["grants"].items()}
