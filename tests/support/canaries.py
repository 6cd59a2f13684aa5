"""Secrets that must turn up nowhere, and the forms in which they are looked for."""

import base64
import json
import secrets
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.secret import Secret
from ci_registry.signers.keys import generate_key_pair

USER = "canary-user"
REGISTRY_PASSWORD = "canary+registry/pass word=1"
PULL_PASSWORD = "canary-pull-password-7"
KEY_PASSWORD = "canary key password <&\"'> 2"
BUILD_SECRET = "canary-build-secret\nsecond-canary-line"
FILE_SECRET = "//registry.example/:_authToken=canary-file-secret"
"""All different, with characters that every encoding writes differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """A set of secrets in the environment of a run."""

    private_key: str
    public_key: bytes

    @property
    def env(self) -> dict[str, str]:
        """Every kind of secret that a CI job has, and settings of scanners from outside."""
        return {
            "CIREG_REGISTRY_USERNAME": USER,
            "CIREG_REGISTRY_PASSWORD": REGISTRY_PASSWORD,
            "COSIGN_PRIVATE_KEY": self.private_key,
            "COSIGN_PASSWORD": KEY_PASSWORD,
            "COSIGN_PUBLIC_KEY": self.public_key.decode(),
            **TOKENS,
            **SCANNER_SETTINGS,
        }

    def found_in(self, text: str, *, but: tuple[str, ...] = ()) -> list[str]:
        """Return the forms of secrets that stand in `text`; `but` names values that may."""
        values = (
            *(REGISTRY_PASSWORD, PULL_PASSWORD, KEY_PASSWORD, FILE_SECRET),
            *BUILD_SECRET.splitlines(),
            *self.private_key.splitlines()[2:-1],  # the first line is the same in every key file
            *TOKENS.values(),
        )
        return [
            form for value in values if value not in but for form in _forms(value) if form in text
        ]

    def found_below(self, *places: Path) -> list[str]:
        """Return `path: form` for every file below these places (or these files) with a secret."""
        return [
            f"{path}: {form}"
            for place in places
            for path in ([place] if place.is_file() else sorted(place.rglob("*")))
            if path.is_file()
            for form in self.found_in(path.read_bytes().decode(errors="replace"))
        ]


TOKENS = {
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "canary-oidc-request-token",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://canary.example/oidc-request-url",
    "ACTIONS_RUNTIME_TOKEN": "canary-runtime-token",
    "SIGSTORE_ID_TOKEN": "canary-sigstore-token",
    "GITHUB_TOKEN": "canary-github-token",
    "CI_JOB_TOKEN": "canary-job-token",
}
SCANNER_SETTINGS = {
    "TRIVY_IGNOREFILE": "/canary/trivyignore",
    "TRIVY_SEVERITY": "LOW",
    "GRYPE_IGNORE": "canary",
    "GRYPE_CHECK_FOR_APP_UPDATE": "true",
}


def make_canaries() -> Canaries:
    """Make an encrypted signing key among the canaries."""
    pair = generate_key_pair(Secret(KEY_PASSWORD), secrets.token_bytes)
    return Canaries(private_key=pair.private_pem.reveal(), public_key=pair.public_pem)


def _forms(value: str) -> Iterator[str]:
    yield value
    for text in (value, f"{USER}:{value}", f"puller:{value}"):
        yield base64.b64encode(text.encode()).decode().rstrip("=")
        yield base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    yield urllib.parse.quote(value, safe="")
    yield urllib.parse.quote_plus(value)
    yield json.dumps(value)[1:-1]


def docker_config(passwords: Mapping[str, str]) -> str:
    """Return a Docker `config.json` with a login of `puller` for each host."""
    auths = {
        host: {"auth": base64.b64encode(f"puller:{password}".encode()).decode()}
        for host, password in passwords.items()
    }
    return json.dumps({"auths": auths})
