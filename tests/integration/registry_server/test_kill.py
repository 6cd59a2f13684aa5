"""kill -9 at random moments: nothing acknowledged is lost, nothing unasked appears, no upload has a wrong offset."""

import contextlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry_server.store import FolderStore
from tests.support.asking import Asked, content_of

ROUNDS = 20
_SERVER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from ci_registry.registry_server.serve import EmbeddedRegistry\n"
    "from ci_registry.registry_server.store import FolderStore\n"
    "with EmbeddedRegistry(FolderStore(Path(sys.argv[1]))) as r:\n"
    "    print(r.host, flush=True)\n"
    "    time.sleep(600)\n"
)
State = dict[str, bytes]
"""`blobs/DIGEST` or `manifests/TAG` → content."""


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    argv = [sys.executable, "-c", _SERVER, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@dataclass
class Writer:
    """Writes one repository, and knows what must be in it."""

    name: str
    dice: random.Random
    state: State = field(default_factory=dict)
    doubt: State | None = None
    """What `state` becomes when the request that is under way is acknowledged."""
    uploads: list[str] = field(default_factory=list)
    """Locations of uploads that never ended."""
    acknowledged: int = 0
    _connection: http.client.HTTPConnection | None = None

    def write(self, host: str) -> None:
        """Write until the server is gone."""
        self._connection = http.client.HTTPConnection(host, timeout=20)
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                self.dice.choice(
                    (self._upload, self._upload, self._chunks, self._tag, self._tag, self._delete)
                )()
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        """Ask, and return the location in the answer."""
        assert self._connection is not None
        headers = {"Content-Type": kind} if kind else {}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status in (201, 202), text
        return answer.headers.get("location", "")

    def _settle(self) -> None:
        if self.doubt is not None:
            self.state, self.doubt = self.doubt, None
            self.acknowledged += 1

    def _data(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((0, 10, 5_000, 300_000)))

    def _upload(self) -> None:
        data = self._data()
        self._put_blob(data)

    def _put_blob(self, data: bytes) -> Digest:
        digest = digest_of(data)
        self.doubt = self.state | {f"blobs/{digest}": data}
        self._ask("POST", f"/v2/{self.name}/blobs/uploads/?digest={digest}", data)
        self._settle()
        return digest

    def _chunks(self) -> None:
        data = self._data() + b"end"
        half, digest = len(data) // 2, digest_of(data)
        location = self._ask("POST", f"/v2/{self.name}/blobs/uploads/")
        self.uploads.append(location)
        self._ask("PATCH", location, data[:half])
        self._ask("PATCH", location, data[half:])
        self.doubt = self.state | {f"blobs/{digest}": data}
        self._ask("PUT", f"{location}?digest={digest}")
        self._settle()

    def _tag(self) -> None:
        config = {"mediaType": media_types.OCI_EMPTY, "digest": self._put_blob(b"{}"), "size": 2}
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config,
            "layers": [],
            "annotations": {"n": self.dice.randbytes(8).hex()},
        }
        body, tag = json.dumps(document).encode(), self.dice.choice(("one", "two"))
        self.doubt = self.state | {f"manifests/{tag}": body}
        path = f"/v2/{self.name}/manifests/{tag}"
        self._ask("PUT", path, body, media_types.OCI_MANIFEST)
        self._settle()

    def _delete(self) -> None:
        if self.state:
            item = self.dice.choice(sorted(self.state))
            self.doubt = {key: data for key, data in self.state.items() if key != item}
            self._ask("DELETE", f"/v2/{self.name}/{item}")
            self._settle()

    def check(self, store: FolderStore) -> None:
        """Compare with what is there after the restart; a request in doubt may have come through or not."""
        ask, found = Asked(store), {}
        sql = "SELECT 'blobs/' || digest FROM blobs WHERE repository = ?1 UNION ALL"
        sql += " SELECT 'manifests/' || tag FROM tags WHERE repository = ?1"
        for (item,) in store.catalog._rows(sql, self.name):
            answer = ask("GET", f"/v2/{self.name}/{item}")
            assert answer.status == 200
            found[item] = content_of(answer)
        assert found in (self.state, self.doubt)
        self.state, self.doubt = found, None
        for location in self.uploads:
            assert ask("GET", location).status == 404
            assert ask("PATCH", location, b"more").status == 404
        self.uploads.clear()


def test_a_server_that_is_killed_keeps_its_word(tmp_path: Path) -> None:
    dice = random.Random(4)
    writers = [Writer(f"repository-{n}", random.Random(n)) for n in range(3)]
    for _ in range(ROUNDS):
        before = sum(writer.acknowledged for writer in writers)
        with _server(tmp_path) as (process, host):
            threads = [threading.Thread(target=w.write, args=(host,)) for w in writers]
            for thread in threads:
                thread.start()
            while sum(writer.acknowledged for writer in writers) == before:
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.15))
            process.kill()
            for thread in threads:
                thread.join()
        store = FolderStore(tmp_path, durable=False)
        for writer in writers:
            writer.check(store)
        files = {path.name for path in (tmp_path / "blobs").glob("*/*")}
        rows = {
            row[0].partition(":")[2] for row in store.catalog._rows("SELECT digest FROM content")
        }
        assert files == rows
        store.close()
    assert sum(writer.acknowledged for writer in writers) > ROUNDS
