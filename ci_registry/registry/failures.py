"""Turns a registry's error answers, whatever is in them, into our errors with a hint."""

import html
import re
from dataclasses import dataclass

from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NotFoundError,
    RegistryError,
)
from ci_registry.network.message import Response
from ci_registry.registry.quirks import quirks_of_host
from ci_registry.strict import parse_json

_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAnswer:
    """What an error body says: a code of the distribution specification and a text, either may be empty."""

    code: str = ""
    message: str = ""

    @property
    def text(self) -> str:
        """The answer as the tail of a message: `: CODE: message`, or nothing."""
        return "".join(f": {part}" for part in (self.code, self.message) if part)


def error_of(response: Response) -> RegistryAnswer:
    """Read an error body defensively: the specification's JSON, other JSON, HTML, plain text or nothing."""
    try:
        document = parse_json(response.body, what="error", max_bytes=64 * 1024)
    except IntegrityError:
        return RegistryAnswer(message=_plain(response.body))
    entry = document
    if isinstance(document, dict):
        errors = document.get("errors")
        entry = errors[0] if isinstance(errors, list) and errors else document
    if not isinstance(entry, dict):
        return RegistryAnswer()
    code = entry.get("code") or entry.get("error") or ""
    message = entry.get("message") or entry.get("error_description") or entry.get("details") or ""
    return RegistryAnswer(
        code=_line(code) if isinstance(code, str) else "",
        message=_line(message) if isinstance(message, str) else "",
    )


def _plain(body: bytes) -> str:
    text = body[:4096].decode(errors="replace")
    if title := re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL):
        return _line(f"an HTML page, {html.unescape(title[1]).strip()!r}")
    return "an HTML page" if re.search(r"<(?:!doctype|html)", text, re.IGNORECASE) else _line(text)


def is_page(body: bytes) -> bool:
    """Whether a body is a web page: with status 200 it is a proxy's, or a login page, never a registry's."""
    return body[:256].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _line(text: str) -> str:
    """Return the first line without control characters, cut to a readable length."""
    first = next((line for line in text.strip().splitlines() if line.strip()), "")
    return "".join(c for c in first if c.isprintable())[:_LONGEST]


def failure(
    response: Response, *, doing: str, host: str, writing: bool = False, is_anonymous: bool = False
) -> CiRegistryError:
    """Return the error for an answer that is no success.

    Args:
        response: the last answer, after the retries.
        doing: what was attempted, for example `push ghcr.io/acme/api:1.2`.
        host: the registry as users write it.
        writing: whether the push right was needed.
        is_anonymous: whether there was no login.
    """
    said = error_of(response)
    tail = f"HTTP {response.status}{said.text}"
    if response.status in (401, 403):
        if response.status == 401 or is_anonymous:
            return AccessError(f"cannot {doing}: {tail}", hint=login_hint(host))
        return AccessError(f"cannot {doing}: {tail}", hint=_right_hint(host, writing=writing))
    if response.status == 404:
        hint = "create the repository first, or check its name" if writing else "check the name"
        return NotFoundError(f"cannot {doing}: {tail}", hint=hint, status=404, code=said.code)
    advice = quirks_of_host(host).limits_advice or "try again later or log in"
    hints = {429: f"the registry limits requests: {advice}", 507: "free some space"}
    default = f"try again later; check the state of {host}" if response.status >= 500 else ""
    if response.ok and is_page(response.body):
        default = f"something between here and {host} answers in its place: check proxy and network"
    return RegistryError(
        f"cannot {doing}: {tail}",
        hint=hints.get(response.status, default),
        status=response.status,
        code=said.code,
    )


def login_hint(host: str, *, begin: str = "log in first") -> str:
    """Return how to log in to a registry as this one wants it, else the usual way, begun by `begin`."""
    advice = quirks_of_host(host).login_advice.format(host=host)
    usual = f"docker login {host}, or set CIREG_REGISTRY_USERNAME and …_PASSWORD"
    return advice or f"{begin}: {usual}"


def _right_hint(host: str, *, writing: bool) -> str:
    if writing:
        return f"the login for {host} has no right to push there (on GitHub: packages: write)"
    return f"the login for {host} has no right to read there"


def tag_refusal(response: Response, *, tag: str, name: str) -> AccessError | None:
    """Return the error when a registry will not move a tag because it is immutable, else None.

    Registries say so in many ways: 409 or 412, `TAG_IMMUTABLE`, `TAG_INVALID` (ECR), or in the text only.
    """
    if response.ok or response.status in (401, 404, 429) or response.status >= 500:
        return None
    said = error_of(response)
    words = f"{said.code} {said.message}".lower()
    named = "immutable" in words or "cannot be overwritten" in words or "already exists" in words
    if response.status == 409 or named:
        return AccessError(
            f"tag {tag} of {name} exists and may not be moved: HTTP {response.status}{said.text}",
            hint="give the image another tag, or allow the registry to move this one",
        )
    return None
