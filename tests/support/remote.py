"""Makes clients of registries for tests: fast retries, fixed dice, events recorded."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError
from ci_registry.events import Event, Log
from ci_registry.network.client import HttpClient
from ci_registry.network.retry import Chance
from ci_registry.network.settings import HttpSettings
from ci_registry.registry.credentials import Credentials, CredentialSource, GivenCredentials
from ci_registry.registry.remote import RemoteRegistry, RemoteRepository
from ci_registry.secret import Secret

NOW = datetime(2026, 8, 1, 12, 0, 0, tzinfo=UTC)


class QuickCancel(Cancel):
    """Records how long somebody wanted to sleep, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, duration_s: float) -> None:
        """Return at once."""
        self.slept.append(duration_s)
        if self.is_set:
            raise CancelledError("cancelled")


@dataclass
class Recorder:
    """An `EventSink` that keeps everything."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event, /) -> None:
        """Keep one event."""
        self.events.append(event)

    @property
    def lines(self) -> list[str]:
        """The messages of all `Log` events."""
        return [event.message for event in self.events if isinstance(event, Log)]


def quick_client(
    *, cancel: Cancel | None = None, recorder: Recorder | None = None, **settings: Any
) -> HttpClient:
    """Return a client that does not wait between retries."""
    transport = settings.pop("transport", None)
    return HttpClient(
        HttpSettings(**settings),
        cancel or QuickCancel(),
        on_event=recorder or Recorder(),
        chance=Chance(random=lambda: 0.0, now=lambda: NOW),
        transport=transport,
    )


def login(host: str, username: str, password: str) -> CredentialSource:
    """Return a source that knows one login for one host."""
    credentials = Credentials(username=username, password=Secret(password))
    return GivenCredentials(hosts=frozenset({host}), credentials=credentials)


@contextlib.contextmanager
def remote_repository(
    host: str,
    repository: str,
    *,
    credentials: CredentialSource | None = None,
    recorder: Recorder | None = None,
    cancel: Cancel | None = None,
    **settings: Any,
) -> Iterator[RemoteRepository]:
    """Give a repository of a registry that runs."""
    sink = recorder or Recorder()
    with quick_client(cancel=cancel, recorder=sink, **settings) as client:
        registry = RemoteRegistry(client, credentials=credentials, on_event=sink)
        yield registry.repository(f"{host}/{repository}")
