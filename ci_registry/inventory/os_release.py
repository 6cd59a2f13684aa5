"""Reads which distribution an image is, and knows when the support of common ones ends."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from ci_registry.findings import Distribution

_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")

# Last days of free security support (Debian: LTS; Ubuntu: standard support; RHEL: maintenance), from the
# life-cycle pages of wiki.debian.org/LTS, ubuntu.com/about/release-cycle, alpinelinux.org/releases,
# access.redhat.com/support/policy/updates/errata, wiki.almalinux.org, wiki.rockylinux.org, as of 2026-11.
_END_OF_LIFE: dict[str, dict[str, date]] = {
    "debian": {
        "7": date(2018, 5, 31),
        "8": date(2020, 6, 30),
        "9": date(2022, 6, 30),
        "10": date(2024, 6, 30),
        "11": date(2026, 8, 31),
        "12": date(2028, 6, 30),
        "13": date(2030, 6, 30),
    },
    "ubuntu": {
        "14.04": date(2019, 4, 25),
        "16.04": date(2021, 4, 30),
        "18.04": date(2023, 5, 31),
        "20.04": date(2025, 5, 31),
        "22.04": date(2027, 4, 30),
        "23.10": date(2024, 7, 11),
        "24.04": date(2029, 4, 30),
        "24.10": date(2025, 7, 10),
        "25.04": date(2026, 1, 15),
        "26.04": date(2031, 4, 30),
    },
    "alpine": {
        "3.12": date(2022, 5, 1),
        "3.13": date(2022, 11, 1),
        "3.14": date(2023, 5, 1),
        "3.15": date(2023, 11, 1),
        "3.16": date(2024, 5, 23),
        "3.17": date(2024, 11, 22),
        "3.18": date(2025, 5, 9),
        "3.19": date(2025, 11, 1),
        "3.20": date(2026, 4, 1),
        "3.21": date(2026, 11, 1),
        "3.22": date(2027, 5, 1),
        "3.23": date(2027, 11, 1),
    },
    "rhel": {
        "6": date(2020, 11, 30),
        "7": date(2024, 6, 30),
        "8": date(2029, 5, 31),
        "9": date(2032, 5, 31),
        "10": date(2035, 5, 31),
    },
    "centos": {
        "6": date(2020, 11, 30),
        "7": date(2024, 6, 30),
        "8": date(2024, 5, 31),
        "9": date(2027, 5, 31),
    },
    "almalinux": {"8": date(2029, 3, 1), "9": date(2032, 5, 31), "10": date(2035, 5, 31)},
    "rocky": {"8": date(2029, 5, 31), "9": date(2032, 5, 31), "10": date(2035, 5, 31)},
    "ol": {"7": date(2024, 12, 31), "8": date(2029, 7, 31), "9": date(2032, 6, 30)},
}
_RELEASE_PARTS = {"ubuntu": 2, "alpine": 2}
"""How many numbers of `VERSION_ID` name a release; one when not listed."""


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
    return ".".join(parts[: _RELEASE_PARTS.get(distribution.id, 1)])


def with_end_of_life(distribution: Distribution, now: datetime) -> Distribution:
    """Return the distribution with `end_of_life` decided for `now` (aware); None when we don't know."""
    last_day = _END_OF_LIFE.get(distribution.id, {}).get(release_of(distribution))
    if last_day is None:
        return replace(distribution, end_of_life=None)
    over_at = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) + timedelta(days=1)
    return replace(distribution, end_of_life=now >= over_at)
