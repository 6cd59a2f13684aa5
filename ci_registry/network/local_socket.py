"""Asks an HTTP service on a socket of this machine, such as the Docker engine, one short question."""

import http.client
import socket
from pathlib import Path


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get_over_socket(
    path: Path, target: str, *, timeout_s: float, max_bytes: int = 4 << 20
) -> bytes | None:
    """GET `target` and return the body of a 200 answer; None for anything else, also for no answer."""
    connection = _SocketConnection(path, timeout_s)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(max_bytes + 1)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 and len(body) <= max_bytes else None
