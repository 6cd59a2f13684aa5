"""A server of raw bytes: each connection answers by a script, so that tests decide what goes over the wire."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Script = Callable[[socket.socket, "Wire"], None]


@dataclass
class Wire:
    """A server that runs, and the heads of the requests that it has read."""

    port: int
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set at the end, for scripts that do nothing until then."""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT/x`."""
        return f"http://127.0.0.1:{self.port}/x"

    def read_request(self, sock: socket.socket) -> bytes:
        """Read one request with its body; empty when the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            new = sock.recv(65536)
            if not new:
                return b""
            data += new
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            new = sock.recv(65536)
            if not new:
                return b""
            body += new
        self.seen.append(head + b"\r\n\r\n" + body)
        return head


@contextlib.contextmanager
def serving(*scripts: Script) -> Iterator[Wire]:
    """Serve connections one after the other, the last script for all that follow."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = Wire(port=listener.getsockname()[1])
        threads: list[threading.Thread] = []
        open_sockets: list[socket.socket] = []

        def run(script: Script, sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                script(sock, wire)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    open_sockets.append(sock)
                    script = scripts[min(wire.connections, len(scripts) - 1)]
                    wire.connections += 1
                    threads.append(threading.Thread(target=run, args=(script, sock)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield wire
        finally:
            wire.stopped.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for sock in open_sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def answering(*answers: bytes) -> Script:
    """Answer one request after the other with these bytes, then close."""

    def script(sock: socket.socket, wire: Wire) -> None:
        for answer in answers:
            if not wire.read_request(sock):
                return
            sock.sendall(answer)

    return script


def ok(body: bytes = b"hello") -> bytes:
    """Return a plain answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
