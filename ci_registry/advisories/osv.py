"""OSV records: the parser and its values (https://ossf.github.io/osv-schema/)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ci_registry.advisories.ecosystem_names import canonical_ecosystem
from ci_registry.errors import IntegrityError
from ci_registry.strict import as_list, as_object, as_text, parse_json

MAX_RECORD_BYTES = 16 * 1024 * 1024
_EVENTS = ("introduced", "fixed", "last_affected", "limit")


class RangeType(StrEnum):
    """How the versions of a range are ordered."""

    SEMVER = "SEMVER"
    ECOSYSTEM = "ECOSYSTEM"
    GIT = "GIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a range: `introduced`, `fixed`, `last_affected` or `limit`."""

    kind: str
    version: str
    """`introduced: "0"` is minus infinity, `limit: "*"` is plus infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Versions from one event to the next."""

    type: RangeType
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What one record says about one package of one ecosystem."""

    ecosystem: str
    """With its release and canonical: `Debian:12`, `Alpine:v3.20`, `Ubuntu:22.04:LTS`, `SUSE:15.5`, `PyPI`."""
    name: str
    ranges: tuple[Range, ...] = ()
    versions: tuple[str, ...] = ()
    severities: tuple[tuple[str, str], ...] = ()
    """(type, vector or word), as in the record's own list."""
    urgency: str = ""
    """Debian's and Ubuntu's own word in `ecosystem_specific`."""
    binaries: tuple[tuple[str, str], ...] = ()
    """SUSE: the binary packages of this source package, each with its fixed version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """One OSV record."""

    id: str
    aliases: tuple[str, ...] = ()
    """Other names of the same vulnerability."""
    upstream: tuple[str, ...] = ()
    """Vulnerabilities that this one is made from: a Debian or Ubuntu record's CVEs."""
    related: tuple[str, ...] = ()
    """Near ones; for AlmaLinux-like advisories the CVEs that it fixes."""
    summary: str = ""
    details: str = ""
    published_at: datetime | None = None
    withdrawn: bool = False
    severities: tuple[tuple[str, str], ...] = ()
    severity_word: str = ""
    """`database_specific.severity`: what GitHub calls it."""
    affected: tuple[Affected, ...] = ()

    @property
    def title(self) -> str:
        """One line for people, at most 200 characters."""
        lines = (self.summary or self.details).strip().splitlines()
        return lines[0][:200] if lines else ""


def parse_advisory(data: bytes, *, what: str, strict: bool = True) -> Advisory:
    """Parse one OSV record.

    Args:
        data: the record as JSON.
        what: names the file or answer in errors.
        strict: see `strict.parse_json`.

    Raises:
        IntegrityError: the record is not JSON or not shaped like an OSV record.
    """
    return advisory_from(
        parse_json(data, what=what, max_bytes=MAX_RECORD_BYTES, strict=strict), what=what
    )


def advisory_from(document: object, *, what: str) -> Advisory:
    """Make a value of a parsed record; see `parse_advisory`."""
    record = as_object(document, what=what)
    identity = as_text(record.get("id"), what=f"{what}: id")
    if not identity or len(identity) > 200 or not identity.isprintable():
        raise IntegrityError(f"{what}: {identity[:50]!r} is no advisory id")
    what = what if identity in what else f"{what}: {identity}"
    _check_schema(record, what)
    return Advisory(
        id=identity,
        aliases=_texts(record, "aliases", what),
        upstream=_texts(record, "upstream", what),
        related=_texts(record, "related", what),
        summary=_text(record, "summary", what),
        details=_text(record, "details", what),
        published_at=_time(record, "published", what),
        withdrawn=_time(record, "withdrawn", what) is not None,
        severities=_severities(record, what),
        severity_word=_word(record, "database_specific", "severity", what),
        affected=tuple(
            _affected(item, f"{what}: affected[{number}]")
            for number, item in enumerate(_list(record, "affected", what))
        ),
    )


def _check_schema(record: dict[str, object], what: str) -> None:
    """Refuse a major version whose meaning we don't know; minor ones only add fields."""
    version = _text(record, "schema_version", what) or "1.0.0"
    if version.partition(".")[0] != "1":
        raise IntegrityError(f"{what}: OSV schema {version[:20]!r}, this version reads 1.x")


def affected_keys(document: object, *, what: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the id of a parsed record and the (ecosystem, name) pairs it is about.

    Raises:
        IntegrityError: the part that is looked at has the wrong shape.
    """
    record = as_object(document, what=what)
    identity = as_text(record.get("id"), what=f"{what}: id")
    pairs = []
    for item in _list(record, "affected", what):
        package = as_object(item, what=f"{what}: affected").get("package")
        if package is not None:
            pairs.append(_package(package, what))
    return identity, tuple(dict.fromkeys(pairs))


def _list(record: dict[str, object], key: str, what: str) -> list[object]:
    value = record.get(key)
    return [] if value is None else as_list(value, what=f"{what}: {key}")


def _text(record: dict[str, object], key: str, what: str) -> str:
    value = record.get(key)
    return "" if value is None else as_text(value, what=f"{what}: {key}")


def _texts(record: dict[str, object], key: str, what: str) -> tuple[str, ...]:
    return tuple(as_text(item, what=f"{what}: {key}") for item in _list(record, key, what))


def _word(record: dict[str, object], section: str, key: str, what: str) -> str:
    """Return a free-form word of a free-form section; other types there are nobody's promise."""
    value = record.get(section)
    if value is None:
        return ""
    word = as_object(value, what=f"{what}: {section}").get(key)
    return word if isinstance(word, str) else ""


def _time(record: dict[str, object], key: str, what: str) -> datetime | None:
    text = _text(record, key, what)
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: {key}: {text[:50]!r} is no time") from error


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time with its zone, with any number of fraction digits, as UTC.

    Raises:
        ValueError: it is none, or has no zone.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no time zone")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _severities(record: dict[str, object], what: str) -> tuple[tuple[str, str], ...]:
    result = []
    for item in _list(record, "severity", what):
        entry = as_object(item, what=f"{what}: severity")
        result.append((_text(entry, "type", what), _text(entry, "score", what)))
    return tuple(result)


def _package(value: object, what: str) -> tuple[str, str]:
    package = as_object(value, what=f"{what}: package")
    return (
        canonical_ecosystem(as_text(package.get("ecosystem"), what=f"{what}: package.ecosystem")),
        as_text(package.get("name"), what=f"{what}: package.name"),
    )


def _affected(value: object, what: str) -> Affected:
    item = as_object(value, what=what)
    package = item.get("package")
    ecosystem, name = ("", "") if package is None else _package(package, what)
    return Affected(
        ecosystem=ecosystem,
        name=name,
        ranges=tuple(_range(entry, what) for entry in _list(item, "ranges", what)),
        versions=_texts(item, "versions", what),
        severities=_severities(item, what),
        urgency=_word(item, "ecosystem_specific", "urgency", what)
        or _word(item, "ecosystem_specific", "priority", what)
        or _word(item, "database_specific", "severity", what),
        binaries=_binaries(item),
    )


def _binaries(item: dict[str, object]) -> tuple[tuple[str, str], ...]:
    """Return `ecosystem_specific.binaries` where it is a list of name → version, else nothing."""
    specific = item.get("ecosystem_specific")
    rows = specific.get("binaries") if isinstance(specific, dict) else None
    if not isinstance(rows, list):
        return ()
    pairs = (pair for row in rows if isinstance(row, dict) for pair in row.items())
    return tuple((name, version) for name, version in pairs if isinstance(version, str))


def _range(value: object, what: str) -> Range:
    entry = as_object(value, what=f"{what}: range")
    text = as_text(entry.get("type"), what=f"{what}: range type")
    try:
        kind = RangeType(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: unknown range type {text[:50]!r}") from error
    events = tuple(
        event for item in _list(entry, "events", what) for event in _events_of(item, what)
    )
    if not any(event.kind == "introduced" for event in events):
        raise IntegrityError(f"{what}: a range without an introduced event")
    return Range(type=kind, events=events)


def _events_of(value: object, what: str) -> tuple[Event, ...]:
    item = as_object(value, what=f"{what}: event")
    if unknown := sorted(set(item) - set(_EVENTS)):
        raise IntegrityError(f"{what}: unknown event {unknown[0][:50]!r}")
    return tuple(
        Event(kind=kind, version=as_text(item[kind], what=f"{what}: {kind}"))
        for kind in _EVENTS
        if kind in item
    )
