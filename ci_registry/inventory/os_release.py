"""Reads which distribution an image is, and says whether its support has ended."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ci_registry.findings import Distribution
from ci_registry.inventory.support_ends import ROLLING, SUPPORT_ENDS

_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")

_TWO_PARTS = frozenset(
    {"alpine", "azurelinux", "mariner", "opensuse-leap", "photon", "sles", "ubuntu"}
)
"""Distributions whose releases have two numbers in `VERSION_ID`; one in the others."""


def parse_os_release(data: bytes) -> Distribution | None:
    """Return the distribution that an `os-release` file names, None when it has no `ID`."""
    values: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            values[match[1]] = _unquote(match[2])
    if not values.get("ID"):
        return None
    return Distribution(
        id=values["ID"].lower(),
        version=values.get("VERSION_ID", ""),
        pretty_name=values.get("PRETTY_NAME", ""),
    )


def _unquote(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        quote, text = text[0], text[1:-1]
        return re.sub(r"\\([\\\"`$])", r"\1", text) if quote == '"' else text
    return text


def release_of(distribution: Distribution) -> str:
    """Return the release that support and advisories go by: `12`, `22.04`, `3.20`, `9`."""
    parts = distribution.version.split(".")
    return ".".join(parts[: 2 if distribution.id in _TWO_PARTS else 1])


def with_end_of_life(distribution: Distribution, now: datetime) -> Distribution:
    """Return the distribution with `end_of_life` decided for `now` (aware); None when we don't know."""
    if distribution.id in ROLLING:
        return replace(distribution, end_of_life=False)
    last_day = SUPPORT_ENDS.get(distribution.id, {}).get(release_of(distribution))
    if last_day is None:
        return replace(distribution, end_of_life=None)
    over_at = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
    return replace(distribution, end_of_life=now >= over_at)
