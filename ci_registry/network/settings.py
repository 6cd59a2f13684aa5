"""What the HTTP client needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Time-outs, retries, trust and proxies of one `HttpClient`."""

    plain_http: tuple[str, ...] = ()
    """Hosts that may be spoken to without TLS, with or without port; loopback always may."""
    ca_file: Path | None = None
    """PEM file with CA certificates that are trusted beside the system's."""
    certs_dirs: tuple[Path, ...] = ()
    """Folders like `/etc/docker/certs.d`, with `HOST[:PORT]/{*.crt,NAME.cert,NAME.key}` in them."""
    connect_timeout_s: float = 15.0
    read_timeout_s: float = 60.0
    """Longest silence while an answer or the next piece of it is awaited."""
    retries: int = 4
    """How often one request is tried again; 0 = never."""
    budget_s: float = 300.0
    """Longest time that one request may spend on waiting for its retries."""
    max_redirects: int = 5
    user_agent: str = "ci-registry"
    proxy_env: Mapping[str, str] = field(default_factory=dict)
    """Where HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY are looked up, in both spellings."""
