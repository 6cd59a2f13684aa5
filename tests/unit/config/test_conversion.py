"""Values that only policies and waivers use: days, times, optional and required keys."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest

from ci_registry.config.conversion import read_as
from ci_registry.config.yaml_reader import read_document
from ci_registry.errors import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A document of a test."""

    owner: str
    expires: date
    line: int = field(default=0, metadata={"line": True})
    seen_at: datetime | None = None
    max_count: int | None = field(default=None, metadata={"key": "maxCount", "minimum": 0})


def read(text: str) -> tuple[object, list[str]]:
    problems: list[Problem] = []
    value = read_as(read_document(text.encode(), file="w.yml"), tuple[Item, ...], problems)
    return value, [str(problem) for problem in problems]


def test_days_times_own_keys_and_lines_are_read() -> None:
    text = "- owner: a\n  expires: 2028-02-29\n- {owner: b, expires: '2026-12-31', maxCount: 0,\n   seen_at: 2026-01-01T02:00:00+02:00}\n"

    assert read(text) == (
        (
            Item(owner="a", expires=date(2028, 2, 29), line=1),
            Item(
                owner="b",
                expires=date(2026, 12, 31),
                line=3,
                max_count=0,
                seen_at=datetime(2026, 1, 1, tzinfo=UTC),
            ),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{owner: a}]", "w.yml:1: [0].expires is missing"),
        (
            "[{owner: a, expires: 2026-02-30}]",
            "[0].expires must be a day such as 2026-12-31, not 2",
        ),
        (
            "[{owner: a, expires: 31.12.2026}]",
            "[0].expires must be a day such as 2026-12-31, not 3",
        ),
        ("[{owner: a, expires: 2026-01-01T00:00:00Z}]", "[0].expires must be a day such as"),
        ("[{owner: a, expires: 2026-01-01, max_count: 1}]", "did you mean 'maxCount'?"),
        ("[{owner: a, expires: 2026-01-01, maxCount: }]", "[0].maxCount has no value"),
        (
            "[{owner: a, expires: 2026-01-01, maxCount: -1}]",
            "must be a whole number from 0, not -1",
        ),
        ("[{owner: a, expires: 2026-01-01, maxCount: 1e3}]", "a whole number from 0, not 1e3"),
        ("[{owner: a, expires: 2026-01-01, seen_at: 2026-01-01}]", "the time zone is missing"),
        ("[{owner: a, expires: 2026-01-01, line: 5}]", "unknown key 'line' in [0]"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_returned(text: str, expected: str) -> None:
    value, problems = read(text)

    assert value is None
    assert len(problems) == 1
    assert expected in problems[0]
