"""Finds out whether a port speaks TLS: by the first bytes of its answer to a greeting, no certificate is judged."""

import contextlib
import ssl

from ci_registry.network.connection import Connection

LONGEST_PROBE_S = 5.0
_ALERT, _HANDSHAKE = 0x15, 0x16
_MAJOR_VERSION = 0x03


def speaks_tls(connection: Connection, timeout_s: float) -> bool:
    """Open a connection whose route has no TLS, greet by TLS, and close it; no answer means no."""
    timeout_s = min(timeout_s, LONGEST_PROBE_S)
    try:
        connection.open(timeout_s)
        connection.send(_greeting(connection.route.origin.host), timeout_s)
        start = connection.sock.recv(2)
        if len(start) == 1:
            start += connection.sock.recv(1)
    except OSError:
        return False
    finally:
        connection.close()
    return len(start) == 2 and start[0] in (_ALERT, _HANDSHAKE) and start[1] == _MAJOR_VERSION


def _greeting(host: str) -> bytes:
    """Return a ClientHello."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
