"""A registry client of a few lines over one real connection, with TLS and tokens: sees what is on the wire."""

import base64
import contextlib
import http.client
import json
import re
import ssl
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str:
        """Return a header, empty when absent."""
        return str(self.headers.get(name, ""))

    def all(self, name: str) -> list[str]:
        """Return every header of this name."""
        return self.headers.get_all(name, [])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code in the body, which has the shape that the specification asks for."""
        (error,) = self.json["errors"]
        assert set(error) >= {"code", "message"}
        return str(error["code"])


@dataclass
class Wire:
    """Asks a server; every request goes over the same connection, so a stray byte is noticed."""

    host: str
    context: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    """Scope → token."""
    _connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = (
                http.client.HTTPSConnection(self.host, timeout=20, context=self.context)
                if self.context
                else http.client.HTTPConnection(self.host, timeout=20)
            )
        return self._connection

    def send(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request as it is; an iterable body goes out chunked."""
        connection = self._connect()
        chunked = not isinstance(body, bytes)
        sent = dict(headers or {})
        if chunked:
            sent["Transfer-Encoding"] = "chunked"
        connection.request(method, target, body, sent, encode_chunked=chunked)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        also: str = "",
    ) -> Answer:
        """Send a request with the token that its path asks for; `also` is one more repository to read."""
        if self.login is None:
            return self.send(method, target, body, headers)
        match = re.match(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)/", target)
        scopes = [f"repository:{match[1]}:pull,push,delete"] if match else []
        scopes += [f"repository:{also}:pull"] if also else []
        token = self._token(" ".join(scopes))
        return self.send(
            method, target, body, {**(headers or {}), "Authorization": f"Bearer {token}"}
        )

    def _token(self, scope: str) -> str:
        if scope not in self.tokens:
            challenge = self.send("GET", "/v2/")["www-authenticate"]
            match = re.fullmatch(r'Bearer realm="([^"]+)",service="([^"]+)"', challenge)
            assert match is not None, challenge
            realm = urllib.parse.urlsplit(match[1])
            assert (realm.scheme, realm.netloc) == ("https" if self.context else "http", self.host)
            query = urllib.parse.urlencode({"service": match[2], "scope": scope})
            basic = base64.b64encode(":".join(self.login or ()).encode()).decode()
            headers = {"Authorization": f"Basic {basic}"}
            self.tokens[scope] = self.send("GET", f"{realm.path}?{query}", headers=headers).json[
                "token"
            ]
        return self.tokens[scope]

    # --- content

    def blob(self, name: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Upload a blob in one request."""
        digest = digest_of(data, algorithm)
        answer = self("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data)
        assert answer.status == 201, answer
        return digest

    def put(
        self, name: str, reference: str, body: bytes, kind: str = media_types.OCI_MANIFEST
    ) -> Answer:
        """Put a manifest."""
        return self("PUT", f"/v2/{name}/manifests/{reference}", body, {"Content-Type": kind})

    def image(self, name: str, tag: str = "", **members: Any) -> Digest:
        """Push a small image with an empty config; returns its digest."""
        body = self.image_bytes(name, **members)
        answer = self.put(name, tag or digest_of(body), body)
        assert answer.status == 201, answer
        return digest_of(body)

    def image_bytes(self, name: str, **members: Any) -> bytes:
        """Push the config of a small image and return its manifest."""
        config = descriptor(self.blob(name, b"{}"), 2, media_types.OCI_EMPTY)
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": config,
            "layers": [],
            **members,
        }
        return json.dumps(document).encode()


def descriptor(
    digest: Digest, size: int, kind: str = media_types.OCI_MANIFEST, **members: Any
) -> dict[str, Any]:
    """Return a descriptor."""
    return {"mediaType": kind, "digest": digest, "size": size, **members}


def index_bytes(*children: Mapping[str, Any], **members: Any) -> bytes:
    """Return an index."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": list(children),
        **members,
    }
    return json.dumps(document).encode()


@contextlib.contextmanager
def wire(
    host: str, *, context: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> Iterator[Wire]:
    """Connect to a server; closed at the end."""
    client = Wire(host, context, login)
    try:
        yield client
    finally:
        client.close()
