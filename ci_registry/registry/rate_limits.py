"""Reads what a registry says of its limit of pulls, and warns once when little of it is left."""

import re
from dataclasses import dataclass

from ci_registry.network.message import Headers

_COUNT = re.compile(r"\s*([0-9]{1,9})\s*(?:;\s*w\s*=\s*([0-9]{1,9})\s*)?")
_LOW = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """`ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 7;w=21600`."""

    limit: int
    remaining: int
    window_s: int = 0
    """0: not said."""
    source: str = ""
    """Who is counted, as Docker Hub says: an address or the id of an account."""

    @property
    def is_low(self) -> bool:
        """Whether less than a tenth is left."""
        return self.remaining < self.limit * _LOW

    def __str__(self) -> str:
        window = f" in {self.window_s / 3600:g} h" if self.window_s else ""
        counted = f", counted for {self.source}" if self.source else ""
        return f"{self.remaining} of {self.limit} pulls left{window}{counted}"


def rate_limit_of(headers: Headers) -> RateLimit | None:
    """Return the limit that the fields of an answer tell of; None where there is none."""
    limit = _COUNT.fullmatch(headers.get("RateLimit-Limit"))
    remaining = _COUNT.fullmatch(headers.get("RateLimit-Remaining"))
    if limit is None or remaining is None:
        return None
    source = headers.get("Docker-RateLimit-Source")
    return RateLimit(
        limit=int(limit[1]),
        remaining=int(remaining[1]),
        window_s=int(limit[2] or 0),
        source="".join(c for c in source if c.isprintable())[:100],
    )
