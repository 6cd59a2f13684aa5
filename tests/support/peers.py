"""Finds the real programs that `scripts/install-peers` brought into `.peers/`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("CIREG_PEERS_DIR") or ROOT / ".peers")


def peer_environment() -> dict[str, str]:
    """Return this process's environment with the peers first on PATH."""
    env = dict(os.environ)
    env["PATH"] = f"{PEERS / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
    env["DOCKER_CONFIG"] = str(PEERS / "docker-config")
    return env


def find_peer(name: str) -> Path | None:
    """Return the path of a peer, or None."""
    found = shutil.which(name, path=peer_environment()["PATH"])
    return Path(found) if found else None


def go_version() -> tuple[int, int] | None:
    """Return the version of Go on PATH, None without one."""
    go = shutil.which("go")
    if go is None:
        return None
    text = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def missing_reason(names: tuple[str, ...]) -> str:
    """Say which of these peers are missing; empty when all are there."""
    missing = [name for name in names if find_peer(name) is None]
    return f"peer not installed: {', '.join(missing)} (make peers)" if missing else ""
