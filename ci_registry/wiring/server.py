"""Turns the options of `serve` into a registry that runs until it is interrupted."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.errors import StorageError, UsageError
from ci_registry.secret import Secret
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.registries import open_store

if TYPE_CHECKING:
    from ci_registry.registry_server.serve import TlsFiles

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What `serve` was asked for."""

    host: str = "127.0.0.1"
    port: int = 5000
    folder: Path | None = None
    """None = in memory."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    users: Path | None = None
    token_auth: bool = False
    read_only: bool = False
    accept_missing: bool = False
    """Whether manifests are taken whose blobs or children are not there."""
    grace: str = "24h"
    """How long untagged content stays: a duration, or `never` for no garbage collection."""
    drain: str = "10s"
    """How long a stop waits for running answers: a duration."""
    access_log: bool = False
    allow_public: bool = False
    allow_public_unprotected: bool = False


def run_server(caller: Caller, settings: ServerSettings, announce: Callable[[str], None]) -> None:
    """Serve until the caller is cancelled; `announce` gets `host:port` once it listens.

    Raises:
        UsageError: the options contradict each other, or an address is too public for them.
        SetupError: the certificate can't be used.
        ConfigError: a line of the users file is wrong.
        StorageError: the folder can't be used.
    """
    from ci_registry.registry_server.options import Options, TokenAuth
    from ci_registry.registry_server.passwords import Users
    from ci_registry.registry_server.serve import Exposure, serve_forever

    exposure = Exposure.PROTECTED if settings.allow_public else Exposure.LOOPBACK
    if settings.allow_public_unprotected:
        exposure = Exposure.UNPROTECTED
    users = Users.read(settings.users, caller.random) if settings.users else None
    if settings.token_auth and users is None:
        raise UsageError("--token-auth needs --users", hint="tokens are for whoever has a password")
    options = Options(
        check_password=users.check if users else None,
        token_auth=TokenAuth(key=caller.random(_KEY_BYTES)) if settings.token_auth else None,
        read_only=settings.read_only,
        sparse=settings.accept_missing,
        metrics=True,
    )
    drain_s = parse_drain(settings.drain)
    with open_store(settings.folder) as store:
        serve_forever(
            store,
            cancel=caller.cancel,
            host=settings.host,
            port=settings.port,
            options=options,
            on_started=announce,
            events=caller.on_event,
            tls=_tls(settings),
            exposure=exposure,
            access_log=settings.access_log,
            grace_s=parse_grace(settings.grace),
            drain_s=drain_s,
        )


def _tls(settings: ServerSettings) -> "TlsFiles | None":
    from ci_registry.registry_server.serve import TlsFiles

    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise UsageError("--tls-cert and --tls-key belong together", hint="give both")
    return TlsFiles(certificate=settings.tls_certificate, key=settings.tls_key)


def parse_grace(text: str) -> float | None:
    """Return a grace period in seconds, None for `never`.

    Raises:
        UsageError: it is no duration, or none at all.
    """
    if text == "never":
        return None
    duration_s = _duration_s(text)
    if not duration_s:
        raise UsageError(
            f"--gc-grace {text}: not a duration such as 24h, and not `never`",
            hint="it must be longer than the longest push takes",
        )
    return duration_s


def parse_drain(text: str) -> float:
    """Return how long a stop waits, in seconds; `0s`: not at all.

    Raises:
        UsageError: it is no duration.
    """
    duration_s = _duration_s(text)
    if duration_s is None:
        raise UsageError(
            f"--drain-timeout {text}: not a duration such as 30s",
            hint="it should be shorter than the time after which your service manager kills",
        )
    return duration_s


def _duration_s(text: str) -> float | None:
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    return float(int(match[1]) * _UNITS_S[match[2]]) if match else None


def users_line(name: str, password: Secret, random: Callable[[int], bytes]) -> str:
    """Return a line of a users file.

    Raises:
        UsageError: the name can't be one, or the password is empty.
    """
    from ci_registry.registry_server.passwords import hash_password

    if not name.isprintable() or not name.strip() or ":" in name or name.startswith("#"):
        raise UsageError(f"not a user name: {name!r}", hint="no colon, no `#` in front")
    if not password:
        raise UsageError("the password is empty")
    return f"{name}:{hash_password(password, random)}"


def export_index(folder: Path) -> Path:
    """Write `index.json` of a folder that nobody serves, so that it is an OCI image layout too.

    Raises:
        StorageError: it is no folder of a registry, or is being served.
    """
    from ci_registry.registry_server.folder import DATABASE

    if not (folder / DATABASE).is_file():
        raise StorageError(f"{folder} is no folder of `ci-registry serve`: no {DATABASE} in it")
    with open_store(folder):
        pass  # closing writes it
    return folder / "index.json"
