"""Writes the registries configuration for one run of buildah: the machine's own, and plain HTTP by name."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ci_registry.errors import StorageError
from ci_registry.files import read_file

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MAX_CONFIG_BYTES = 1024 * 1024
_DEFAULT = 'unqualified-search-registries = ["docker.io"]\n'


def registries_config(env: Mapping[str, str], plain_http: tuple[str, ...]) -> str:
    """Return the text for `CONTAINERS_REGISTRIES_CONF`.

    Mirrors and blocked hosts of the machine stay in force; a host that its configuration already
    names is left as it is. The option `--tls-verify=false` would drop TLS for every host instead.
    """
    text, known = _machine_config(env)
    hosts = [host for host in dict.fromkeys((*LOOPBACK, *plain_http)) if host not in known]
    tables = "".join(
        f"\n[[registry]]\nlocation = {json.dumps(host)}\ninsecure = true\n" for host in hosts
    )
    return f"{text.rstrip()}\n{tables}"


def _machine_config(env: Mapping[str, str]) -> tuple[str, frozenset[str]]:
    """Return the machine's configuration (format 2) and the hosts in it."""
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or "/") / ".config")
    places = (
        Path(env.get("CONTAINERS_REGISTRIES_CONF") or "/dev/null"),
        home / "containers" / "registries.conf",
        Path("/etc/containers/registries.conf"),
    )
    for path in places:
        if not path.is_file():
            continue
        try:
            text = read_file(path, max_bytes=MAX_CONFIG_BYTES).decode()
            data = tomllib.loads(text)
        except (StorageError, ValueError):
            return _DEFAULT, frozenset()  # buildah itself would refuse it: ours is complete
        if "registries" in data:
            return _DEFAULT, frozenset()  # format 1 and ours can't be mixed
        entries = data.get("registry", [])
        names = {str(e.get("prefix") or e.get("location")) for e in entries if isinstance(e, dict)}
        start = "" if "unqualified-search-registries" in data else _DEFAULT
        return start + text, frozenset(names)
    return _DEFAULT, frozenset()
