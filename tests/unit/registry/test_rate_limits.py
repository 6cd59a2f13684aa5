"""What a registry says of its limit of pulls."""

import httpx
import pytest

from ci_registry.network.message import Headers
from ci_registry.registry.rate_limits import RateLimit, rate_limit_of
from ci_registry.registry.remote import RemoteRegistry
from tests.support.remote import Recorder, quick_client


@pytest.mark.parametrize(
    ("limit", "remaining", "found"),
    [
        ("100;w=21600", "9;w=21600", RateLimit(limit=100, remaining=9, window_s=21600)),
        ("200", "200", RateLimit(limit=200, remaining=200)),
        ("", "", None),
        ("100;w=21600", "", None),
        ("-1", "5", None),
        ("many", "few", None),
        ("1" * 40, "1", None),
    ],
)
def test_limits_are_read(limit: str, remaining: str, found: RateLimit | None) -> None:
    fields = [("ratelimit-limit", limit), ("ratelimit-remaining", remaining)]
    assert rate_limit_of(Headers(fields)) == found


@pytest.mark.parametrize(("remaining", "is_low"), [(10, False), (9, True), (0, True)])
def test_less_than_a_tenth_is_low(remaining: int, is_low: bool) -> None:
    assert RateLimit(limit=100, remaining=remaining).is_low is is_low


def test_the_last_tenth_is_said_once_with_who_is_counted_and_what_to_do() -> None:
    left = iter(range(11, 0, -1))

    def handle(_request: httpx.Request) -> httpx.Response:
        fields = {
            "ratelimit-limit": "100;w=21600",
            "ratelimit-remaining": f"{next(left)};w=21600",
            "docker-ratelimit-source": "192.0.2.7",
        }
        return httpx.Response(404, headers=fields)

    recorder = Recorder()
    client = quick_client(transport=httpx.MockTransport(handle), recorder=recorder)
    repository = RemoteRegistry(client, on_event=recorder).repository("docker.io/library/alpine")
    for _ in range(2):
        assert repository.resolve("v1") is None
    assert recorder.lines == []
    for _ in range(5):
        assert repository.resolve("v1") is None
    (line,) = recorder.lines
    assert "9 of 100 pulls left in 6 h, counted for 192.0.2.7" in line
    assert "network.mirrors" in line
