"""When a request is tried again."""

from datetime import timedelta

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import CancelledError
from ci_registry.network.message import Headers
from ci_registry.network.retry import Chance, Retrier, is_retried, retry_after_s
from ci_registry.network.settings import HttpSettings
from tests.support.remote import NOW, QuickCancel, Recorder


def retrier(cancel: Cancel, recorder: Recorder, *, dice: float = 0.0, **settings: float) -> Retrier:
    return Retrier(
        "GET x",
        HttpSettings(**settings),  # type: ignore[arg-type]
        cancel=cancel,
        on_event=recorder,
        chance=Chance(random=lambda: dice, now=lambda: NOW, monotonic=lambda: 0.0),
    )


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 507, 599])
def test_trouble_that_may_pass_is_retried(status: int) -> None:
    assert is_retried(status)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 501, 505])
def test_trouble_that_stays_is_not_retried(status: int) -> None:
    assert not is_retried(status)


def http_date(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (http_date(90), 90.0),
        (http_date(-90), 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, expected: float | None) -> None:
    assert retry_after_s(Headers([("Retry-After", text)] if text else []), NOW) == expected


def test_a_date_counts_by_the_clock_of_the_server_that_names_it() -> None:
    """Its clock is a day ahead: by ours the pause would be longer than any budget."""
    pairs = [
        ("Date", "Sun, 02 Aug 2026 12:00:00 GMT"),
        ("Retry-After", "Sun, 02 Aug 2026 12:00:20 GMT"),
    ]
    assert retry_after_s(Headers(pairs), NOW) == 20.0


def test_pauses_double_up_to_half_a_minute_and_then_it_ends() -> None:
    cancel, recorder = QuickCancel(), Recorder()
    waiting = retrier(cancel, recorder, retries=9, dice=1.0, budget_s=1000)
    while waiting.wait("HTTP 500"):
        pass
    assert cancel.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert len(recorder.lines) == 9
    assert recorder.lines[8] == "GET x: HTTP 500; trying again in 30.0 s (9 of 9)"


def test_dice_spread_the_pauses() -> None:
    low, high = QuickCancel(), QuickCancel()
    retrier(low, Recorder(), dice=0.0).wait("x")
    retrier(high, Recorder(), dice=1.0).wait("x")
    assert (low.slept, high.slept) == ([0.25], [0.5])


def test_no_retries_means_none() -> None:
    cancel = QuickCancel()
    assert not retrier(cancel, Recorder(), retries=0).wait("x")
    assert cancel.slept == []


def test_a_cancelled_run_does_not_wait() -> None:
    cancel = Cancel()
    cancel.set("test")
    with pytest.raises(CancelledError):
        retrier(cancel, Recorder()).wait("x")
