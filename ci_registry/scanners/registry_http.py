"""Asks the HTTP API of a registry that is no distribution API: one origin, one login, JSON answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError, RegistryError
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request, Response
from ci_registry.registry.failures import error_of, failure, is_page
from ci_registry.registry.session import origin_of_registry
from ci_registry.secret import Secret
from ci_registry.strict import as_object, parse_json

MAX_ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiClient:
    """Sends requests to the registry at `host`; retries and pace are those of the HTTP client."""

    client: HttpClient
    host: str
    authorization: Secret | None
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, *, doing: str, also: tuple[int, ...] = ()) -> Response:
        """Send a request.

        Args:
            method: GET or POST.
            path: encoded, with the leading slash.
            doing: what is attempted, for the error: `read the scan of …`.
            also: statuses that are no success and are the caller's to judge.

        Raises:
            AccessError: 401 or 403.
            NotFoundError: 404.
            RegistryError: another status that is no success, also after the retries; or a web page.
            NetworkError: no whole answer came.
        """
        origin = origin_of_registry(self.host, self.client.settings.plain_http)
        response = self.client.request(
            Request(
                method=method,
                url=f"{origin}{path}",
                headers={"Accept": "application/json", **self.headers},
                authorization=self.authorization,
            ),
            max_body_bytes=MAX_ANSWER_BYTES,
        )
        if response.status in also:
            return response
        if not response.ok or is_page(response.body):
            raise failure(
                response,
                doing=doing,
                host=self.host,
                is_anonymous=self.authorization is None,
            )
        return response

    def get(self, path: str, *, doing: str) -> dict[str, object]:
        """Read a JSON object; see `send` for what else is raised.

        Raises:
            RegistryError: the answer is no JSON object.
        """
        return self.json_of(self.send("GET", path, doing=doing), doing=doing)

    def json_of(self, response: Response, *, doing: str) -> dict[str, object]:
        """Return the JSON object in an answer.

        Raises:
            RegistryError: there is none.
        """
        what = f"the answer of {self.host}"
        try:
            document = parse_json(
                response.body, what=what, max_bytes=MAX_ANSWER_BYTES, strict=False
            )
            return as_object(document, what=what)
        except IntegrityError as error:
            raise RegistryError(
                f"cannot {doing}: {error.message}", status=response.status
            ) from error


def said_in(response: Response) -> str:
    """Return what an error answer says, for people."""
    return f"HTTP {response.status}{error_of(response).text}"
