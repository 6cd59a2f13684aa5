"""The one event stream of a run: it feeds the console, the CI groups, the JSON log and the timings.

Adapters never print. They get an `EventSink` and send it events; `cli/` draws them.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Level(StrEnum):
    """How important a log line is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One line for a person; free of secrets, one line only, foreign text not yet escaped."""

    message: str
    level: Level = Level.INFO
    image: str = ""
    step: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step of one image began."""

    image: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """A step of one image ended; `status` is a `results.StepStatus` value."""

    image: str
    step: str
    status: str
    duration_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a piece of work is; `total` 0 means unknown. The unit is bytes unless `unit` says else."""

    image: str
    step: str
    what: str
    """Stable key of the piece of work, for example a blob digest or a build vertex name."""
    done: int
    total: int = 0
    unit: str = "bytes"
    detail: dict[str, str] = field(default_factory=dict)


Event = Log | StepStarted | StepEnded | Progress


class EventSink(Protocol):
    """Takes events from any thread; must not block for long and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


def ignore_events(_event: Event, /) -> None:
    """An `EventSink` that drops everything."""
