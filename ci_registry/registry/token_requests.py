"""The requests to a token service: by password, anonymously, and with a refresh token."""

import urllib.parse
from collections.abc import Iterable

from ci_registry.network.message import Request
from ci_registry.registry.credentials import Credentials
from ci_registry.secret import Secret

CLIENT_ID = "ci-registry"


def merged_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes, each resource once with the actions of all."""
    actions: dict[str, list[str]] = {}
    for scope in " ".join(scopes).split():
        resource, _, wanted = scope.rpartition(":")
        known = actions.setdefault(resource, [])
        known += [action for action in wanted.split(",") if action and action not in known]
    return tuple(f"{resource}:{','.join(wanted)}" for resource, wanted in actions.items())


def token_request(
    realm: str, service: str, scopes: tuple[str, ...], login: Credentials | None
) -> Request:
    """Return the GET of the token specification; the scopes are separate parameters."""
    pairs = [("service", service)] if service else []
    pairs += [("scope", scope) for scope in scopes]
    query = urllib.parse.urlencode(pairs, safe=":/,")
    separator = "&" if "?" in realm else "?"
    return Request(
        method="GET",
        url=f"{realm}{separator}{query}" if query else realm,
        authorization=login.basic if login is not None and login.username else None,
    )


def refresh_request(
    realm: str, service: str, scopes: tuple[str, ...], identity_token: Secret
) -> Request:
    """Return the POST of OAuth2: the refresh token stands in the body, never in the URL."""
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
