"""A registry server to ask over the wire, plain and with TLS and tokens."""

import secrets
import ssl
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from ci_registry.registry_server.options import TokenAuth
from ci_registry.registry_server.serve import TlsFiles
from tests.support.registry import RunningRegistry, running_registry
from tests.support.tls import Authority
from tests.support.wire import Wire, wire


@pytest.fixture(scope="module", params=["plain", "tls-and-tokens"])
def connected(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningRegistry, Wire]]:
    """One server for the module; tests use repositories of their own."""
    if request.param == "plain":
        with running_registry() as registry, wire(registry.host) as client:
            yield registry, client
        return
    authority = Authority(tmp_path_factory.mktemp("tls"))
    issued = authority.issue("server")
    context = ssl.create_default_context(cafile=authority.file)
    login = ("ann", secrets.token_hex(8))
    with (
        running_registry(
            tls=TlsFiles(certificate=issued.certificate, key=issued.key),
            users=dict([login]),
            token_auth=TokenAuth(key=secrets.token_bytes(16)),
        ) as registry,
        wire(registry.host, context=context, login=login) as client,
    ):
        yield registry, client


@pytest.fixture
def ask(connected: tuple[RunningRegistry, Wire]) -> Wire:
    return connected[1]


@pytest.fixture
def switch(
    connected: tuple[RunningRegistry, Wire],
) -> Iterator[Callable[..., None]]:
    """Changes options of the server for one test."""
    options = connected[0].server.options
    undo: list[tuple[str, object]] = []

    def change(**values: object) -> None:
        for name, value in values.items():
            undo.append((name, getattr(options, name)))
            object.__setattr__(options, name, value)

    yield change
    for name, value in reversed(undo):
        object.__setattr__(options, name, value)


_numbers = count()


@pytest.fixture
def name() -> str:
    """A repository that no other test has."""
    return f"team-{next(_numbers)}/app"
