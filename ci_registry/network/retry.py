"""Decides whether and when a failed request is tried again."""

import email.utils
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ci_registry.cancel import Cancel
from ci_registry.events import EventSink, Level, Log
from ci_registry.network.message import Headers
from ci_registry.network.pace import HostPace
from ci_registry.network.settings import HttpSettings

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
TOO_MANY_REQUESTS = 429
_NEVER_RETRIED = frozenset({501, 505})


def is_retried(status: int) -> bool:
    """Whether a status may be gone the next time: too many requests, a slow client, a server's trouble."""
    return status in (408, 429) or (500 <= status <= 599 and status not in _NEVER_RETRIED)


def retry_after_s(headers: Headers, now: datetime) -> float | None:
    """Return how long the server asks to wait: seconds or an HTTP date; None when it does not say.

    A date is compared with the server's own `Date`: its clock and ours (`now`) may differ.
    """
    text = headers.get("Retry-After")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    when = _http_date(text)
    if when is None:
        return None
    return max(0.0, (when - (_http_date(headers.get("Date")) or now)).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """Clock and dice, so that tests know what comes."""

    random: Callable[[], float]
    """From 0 up to 1."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic


class Retrier:
    """Counts the retries of one request: exponential back-off with jitter, within a budget of time."""

    def __init__(
        self,
        what: str,
        settings: HttpSettings,
        *,
        cancel: Cancel,
        on_event: EventSink,
        chance: Chance,
        pace: HostPace | None = None,
    ) -> None:
        """`pace`: of the host that is asked; with it a 429 makes every thread wait, not this one alone."""
        self._pace = pace
        self._what = what
        self._settings = settings
        self._cancel = cancel
        self._on_event = on_event
        self._chance = chance
        self._done = 0
        self._deadline = chance.monotonic() + settings.budget_s

    def wait(self, trouble: str, headers: Headers | None = None, *, status: int = 0) -> bool:
        """Wait before the next attempt; returns False when there is to be none.

        Args:
            trouble: what went wrong, for the warning; one line without secrets.
            headers: of the answer, for `Retry-After`.
            status: of the answer; after a 429 all threads wait together.

        Raises:
            CancelledError: the run was cancelled meanwhile.
        """
        self._cancel.check()
        if self._done >= self._settings.retries:
            return False
        delay_s = self._delay_s(headers)
        if self._chance.monotonic() + delay_s > self._deadline:
            self._warn(
                f"{self._what}: {trouble}; giving up: the next attempt would be due in {delay_s:.0f} s, "
                f"outside the {self._settings.budget_s:.0f} s allowed"
            )
            return False
        self._done += 1
        count = f"{self._done} of {self._settings.retries}"
        self._warn(f"{self._what}: {trouble}; trying again in {delay_s:.1f} s ({count})")
        if self._pace is not None and status == TOO_MANY_REQUESTS:
            self._pace.back_off(delay_s)
        else:
            self._cancel.sleep(delay_s)
        return True

    def _delay_s(self, headers: Headers | None) -> float:
        dice = self._chance.random()
        asked_s = retry_after_s(headers, self._chance.now()) if headers is not None else None
        if asked_s is not None:
            return asked_s + dice * FIRST_DELAY_S
        longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * float(1 << self._done))
        return longest_s * (0.5 + dice / 2)

    def _warn(self, message: str) -> None:
        self._on_event(Log(message=message, level=Level.WARNING))
