"""Names the package databases that are in an image and that no reader here understands."""

from collections.abc import Sequence

from ci_registry.findings import UnreadDatabase
from ci_registry.inventory.interest import Reader
from ci_registry.inventory.layers import Found
from ci_registry.inventory.reading import printable

_MOST_PER_KIND = 50


def unread_databases(found: Sequence[Found]) -> tuple[UnreadDatabase, ...]:
    """Return one record per database; past fifty of a kind the last one says how many more there are."""
    by_kind: dict[tuple[str, str], list[str]] = {}
    for item in found:
        interest = item.interest
        if interest.reader is Reader.NOBODY:
            by_kind.setdefault((interest.ecosystem, interest.what), []).append(item.path)
    records = []
    for (kind, what), paths in sorted(by_kind.items()):
        shown, more = paths[:_MOST_PER_KIND], len(paths) - _MOST_PER_KIND
        for number, path in enumerate(shown, 1):
            reason = f"{what}: there is no reader for it"
            if more > 0 and number == _MOST_PER_KIND:
                reason += f"; {more} more like it"
            records.append(UnreadDatabase(kind=kind, path=printable(path), reason=reason))
    return tuple(records)
