"""Which proxy a host is reached through, from the customary environment variables."""

import ipaddress
import urllib.parse
from collections.abc import Mapping

from ci_registry.errors import SetupError
from ci_registry.network.message import Origin
from ci_registry.oci.reference import is_loopback


def proxy_for(origin: Origin, env: Mapping[str, str]) -> str:
    """Return the URL of the proxy for `origin`, empty for a direct connection.

    `NO_PROXY` entries may be a host (its subdomains count too), `.suffix`, `host:port`, an address, a
    network in CIDR notation, or `*`; commas and blanks part them. Loopback is never proxied.

    Raises:
        SetupError: the proxy is of a kind that we can't use.
    """
    if is_loopback(f"[{origin.host}]" if ":" in origin.host else origin.host):
        return ""
    proxy = _variable(env, f"{origin.scheme}_proxy") or _variable(env, "all_proxy")
    if not proxy or _is_exempt(origin, _variable(env, "no_proxy")):
        return ""
    url = proxy if "://" in proxy else f"http://{proxy}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(
            f"the proxy for {origin} is a {parts.scheme or 'nameless'} proxy, which is not supported",
            hint=f"set {origin.scheme.upper()}_PROXY to an http:// or https:// proxy, "
            f"or put {origin.host} into NO_PROXY",
        )
    return url


def _variable(env: Mapping[str, str], name: str) -> str:
    return (env.get(name) or env.get(name.upper()) or "").strip()


def _is_exempt(origin: Origin, no_proxy: str) -> bool:
    return any(_matches(origin, entry) for entry in no_proxy.lower().replace(",", " ").split())


def _matches(origin: Origin, entry: str) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # one of them is a name
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and host:
        if int(port) != origin.port:
            return False
        entry = host
    entry = entry.strip("[]").removeprefix("*").removeprefix(".").removesuffix(".")
    name = origin.host.removesuffix(".")
    return name == entry or name.endswith(f".{entry}")
