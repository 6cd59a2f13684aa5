"""Whom we trust over TLS, and who we are there: the system's CA store, a CA file, `certs.d` folders."""

import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from ci_registry.errors import SetupError
from ci_registry.network.message import Origin


class Trust:
    """Makes TLS contexts, each once and only when it is needed: reading the CA store takes 20 ms."""

    def __init__(self, ca_file: Path | None, certs_dirs: tuple[Path, ...] = ()) -> None:
        """Prepare.

        Args:
            ca_file: PEM file with CA certificates that are trusted beside the system's.
            certs_dirs: folders like `/etc/docker/certs.d`; the first that has a folder `HOST` or
                `HOST:PORT` counts: its `*.crt` are trusted too, `NAME.cert` with `NAME.key` is shown.
        """
        self._ca_file = ca_file
        self._certs_dirs = certs_dirs
        self._lock = threading.Lock()
        self._contexts: dict[Path | None, ssl.SSLContext] = {}

    def context_for(self, origin: Origin) -> ssl.SSLContext:
        """Return the context for an https origin.

        Raises:
            SetupError: a file with certificates or a key can't be used.
        """
        folder = self._folder_of(origin)
        with self._lock:
            if folder not in self._contexts:
                self._contexts[folder] = self._made(folder)
            return self._contexts[folder]

    def knows(self, origin: Origin) -> bool:
        """Whether there is a folder for an https origin."""
        return self._folder_of(origin) is not None

    def _folder_of(self, origin: Origin) -> Path | None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        for root in self._certs_dirs:
            for name in (origin.netloc, f"{host}:{origin.port}"):
                if os.path.isdir(root / name):  # noqa: PTH112 - false also where we may not look
                    return root / name
        return None

    def _made(self, folder: Path | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        if self._ca_file is not None:
            hint = "network.ca_file must name a PEM file with certificates"
            _load(self._ca_file, hint, context.load_verify_locations)
        if folder is not None:
            _load_folder(context, folder)
        return context


def _load_folder(context: ssl.SSLContext, folder: Path) -> None:
    for authority in sorted(folder.glob("*.crt")):
        _load(
            authority, "put PEM certificates into it, or remove it", context.load_verify_locations
        )
    for certificate in sorted(folder.glob("*.cert")):
        key = certificate.with_suffix(".key")
        _load(
            certificate,
            f"it must be a PEM certificate, and {key.name} beside it its key without password",
            lambda path, key=key: context.load_cert_chain(path, key, password=_no_password),  # type: ignore[misc]
        )


def _no_password() -> str:
    return ""  # or OpenSSL asks on the terminal


def _load(path: Path, hint: str, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise SetupError(
            f"cannot use the certificates of {path}: {reason or error}", hint=hint
        ) from error
