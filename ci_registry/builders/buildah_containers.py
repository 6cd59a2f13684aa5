"""Ends the containers of a buildah that was killed itself: its runtime keeps them in sessions of their own."""

import contextlib
import os
import signal
import time
from pathlib import Path

_PROC = Path("/proc")
_WAIT_S = 2.0


def kill_containers(storage: Path) -> None:
    """Kill every process whose root file system lies in `storage`, and wait until it is gone.

    A process of this machine that only sees such mounts has its root elsewhere and is left alone.
    """
    deadline = time.monotonic() + _WAIT_S
    while (found := _rooted_in(storage)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _rooted_in(storage: Path) -> list[int]:
    """Return the processes whose mount at `/` is made of folders in `storage`; none without /proc."""
    inside = f"{storage.resolve()}/"
    found = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            mounts = (folder / "mountinfo").read_text(errors="replace").splitlines()
        except OSError:
            continue  # it ended, or is somebody else's
        if any(line.split(" ")[4:5] == ["/"] and inside in line for line in mounts):
            found.append(int(folder.name))
    return found
