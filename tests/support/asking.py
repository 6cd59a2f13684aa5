"""Asks the handler of the embedded registry without sockets."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.registry_server.app import handle
from ci_registry.registry_server.message import BodyReader, BytesReader, FilePart, Request, Response
from ci_registry.registry_server.options import Options
from ci_registry.registry_server.store import Store


class Dribble:
    """A body that comes in small pieces, whatever is asked for."""

    def __init__(self, data: bytes) -> None:
        self._inner = BytesReader(data)
        self._piece_bytes = max(3, len(data) // 20)

    def read(self, size: int, /) -> bytes:
        return self._inner.read(min(self._piece_bytes, size))


@dataclass
class Asked:
    """Asks the handler."""

    store: Store
    options: Options = field(default_factory=Options)

    def set(self, **options: Any) -> None:
        """Change the personality."""
        self.options = replace(self.options, **options)

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | BodyReader = b"",
        headers: dict[str, str] | None = None,
    ) -> Response:
        path, _, query = target.partition("?")
        sent = {"host": "127.0.0.1:5000"}
        if isinstance(body, bytes):
            sent["content-length"] = str(len(body))
        reader = Dribble(body) if isinstance(body, bytes) else body
        request = Request(
            method=method, path=path, query=query, headers=sent | (headers or {}), body=reader
        )
        return handle(self.store, request, self.options)

    def blob(self, name: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Store a blob."""
        digest = digest_of(data, algorithm)
        response = self("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
        assert response.status == 201
        return digest

    def manifest(self, name: str, reference: str = "", **members: Any) -> tuple[Digest, bytes]:
        """Store a manifest with an empty config, and what else `members` says."""
        config = self.blob(name, b"{}")
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "config": {"mediaType": media_types.OCI_EMPTY, "digest": config, "size": 2},
                "layers": [],
                **members,
            }
        ).encode()
        response = self.put(name, reference or digest_of(body), body)
        assert response.status == 201, response
        return digest_of(body), body

    def put(self, name: str, reference: str, body: bytes, **headers: str) -> Response:
        """Put an image manifest."""
        sent = {"content-type": media_types.OCI_MANIFEST}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        return self("PUT", f"/v2/{name}/manifests/{reference}", body, sent)


def content_of(response: Response) -> bytes:
    """Return the body, read from the file when it is one."""
    if isinstance(response.body, FilePart):
        with response.body.path.open("rb") as file:
            file.seek(response.body.offset)
            return file.read(response.body.size)
    return response.body


def code_of(response: Response) -> str:
    """Return the error code of an answer."""
    return str(json.loads(content_of(response))["errors"][0]["code"])
