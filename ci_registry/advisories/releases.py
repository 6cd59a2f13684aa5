"""When the support of distribution releases ends, long-term support included."""

from collections.abc import Mapping
from datetime import date, datetime

from ci_registry.advisories.ecosystems import distribution_ecosystem
from ci_registry.findings import Distribution

SUPPORT_ENDS: Mapping[str, date] = {
    "Debian:8": date(2020, 6, 30),
    "Debian:9": date(2022, 6, 30),
    "Debian:10": date(2024, 6, 30),
    "Debian:11": date(2026, 8, 31),
    "Debian:12": date(2028, 6, 30),
    "Debian:13": date(2030, 6, 30),
    "Ubuntu:14.04:LTS": date(2019, 4, 30),
    "Ubuntu:16.04:LTS": date(2021, 4, 30),
    "Ubuntu:18.04:LTS": date(2023, 5, 31),
    "Ubuntu:20.04:LTS": date(2025, 5, 31),
    "Ubuntu:22.04:LTS": date(2027, 6, 1),
    "Ubuntu:24.04:LTS": date(2029, 5, 31),
    "Alpine:v3.15": date(2023, 11, 1),
    "Alpine:v3.16": date(2024, 5, 23),
    "Alpine:v3.17": date(2024, 11, 22),
    "Alpine:v3.18": date(2025, 5, 9),
    "Alpine:v3.19": date(2025, 11, 1),
    "Alpine:v3.20": date(2026, 4, 1),
    "Alpine:v3.21": date(2026, 11, 1),
    "Alpine:v3.22": date(2027, 5, 1),
}
"""Last day of free support, as announced: Debian with LTS, Ubuntu without Pro."""


def is_end_of_life(distribution: Distribution, now: datetime) -> bool | None:
    """Say whether support has ended by `now`; None for a release that is not in the table."""
    last_day = SUPPORT_ENDS.get(distribution_ecosystem(distribution))
    return None if last_day is None else now.date() > last_day
