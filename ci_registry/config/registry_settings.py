"""The settings about registries: how they are reached, and who we are there."""

from dataclasses import dataclass
from datetime import timedelta

from ci_registry.config.setting_field import mapping_setting, setting
from ci_registry.secret import Secret

HOST_PATTERN = r"[A-Za-z0-9.\[\]:-]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """`network`: how registries are reached."""

    plain_http: tuple[str, ...] = setting(
        (),
        "Registry hosts that are spoken to without TLS; on loopback it is found out.",
        pattern=HOST_PATTERN,
        pattern_hint="a host such as registry.local:5000",
    )
    ca_file: str = setting("", "Further CA certificates, PEM.")
    mirrors: dict[str, tuple[str, ...]] = mapping_setting(
        "Mirrors that base images and images to scan are read from first, by registry: docker.io=mirror.example/hub,other.example lines; never written to.",
        key_pattern=HOST_PATTERN,
        value_pattern=HOST_PATTERN + r"(?:/[a-z0-9][a-z0-9._-]*)*",
        value_hint="a registry with an optional path, such as mirror.example/hub",
    )
    retries: int = setting(
        4,
        "How often a request is tried again after 429, 5xx or a lost connection.",
        minimum=0,
        maximum=20,
    )
    retry_budget: timedelta = setting(
        timedelta(minutes=5), "Longest time that one request and its retries may take altogether."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`auth`: logins; user name and password come only from the environment or the command's input."""

    registry_username: str = setting(
        "",
        "User name for the registries pushed to; default: docker login, credential helpers, or the CI's own.",
        surface="registry-username",
        hidden=True,
    )
    registry_password: Secret = setting(
        Secret(""),
        "Password or token for the registries pushed to; environment only.",
        surface="registry-password",
        hidden=True,
    )
    realms: dict[str, str] = mapping_setting(
        "The only address where the login of a registry may be sent, by registry: HOST=https://ADDRESS lines; docker.io is tied to https://auth.docker.io/ anyway.",
        trusted=True,
        key_pattern=HOST_PATTERN,
        value_pattern=r"https?://[^\s/?#@]+(?:/[^\s?#]*)?",
        value_hint="an address such as https://auth.example/token",
    )
