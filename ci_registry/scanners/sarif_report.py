"""Reads the vulnerabilities of a SARIF 2.1 log: those of trivy, grype, osv-scanner, docker scout, snyk and others.

SARIF has no member for a package. Each tool says it in its own place: a list of purls, lines such as
`Installed Version: 1.0`, or a sentence; what can't be read there is a finding without a package.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from ci_registry.advisories.ecosystems import normal_name
from ci_registry.advisories.severity import severity_of_word
from ci_registry.errors import IntegrityError
from ci_registry.findings import Package, Severity
from ci_registry.sbom.foreign import foreign_package
from ci_registry.scanners.given_report import GivenReport, digests_in, time_or_none
from ci_registry.scanners.grype_report import KINDS
from ci_registry.scanners.reported import Reported
from ci_registry.strict import as_list, as_object, as_text

_ID = re.compile(r"CVE-\d{4}-\d{4,}|GHSA(?:-[a-z0-9]{4}){3}", re.IGNORECASE)
_LINE = re.compile(r"^\s*([A-Z][A-Za-z ]{2,30}?)\s*:[ \t]*(.*?)\s*$", re.MULTILINE)
_SENTENCES = (
    re.compile(r"Package '(?P<name>[^']+)@(?P<version>[^'@]+)' is vulnerable to"),
    re.compile(r"in (?P<kind>[\w-]+) package: (?P<name>\S+), version (?P<version>\S+) was found"),
    re.compile(r"^\((?:CVE|GHSA)[^)]*\) (?P<name>\S+)@(?P<version>\S+)$"),
)
"""Of osv-scanner, grype and snyk."""
_ALSO = re.compile(r"also known as ([^)]*)")
_FIX_KEYS = ("Fixed Version", "Fix Version", "Fixed version")
_NO_FIX = frozenset({"", "not fixed", "none", "n/a"})
_ABSENT = frozenset({"pass", "notApplicable", "informational"})
"""Kinds of results that found nothing."""
_LEVELS = {"error": Severity.CRITICAL}
"""A level is no severity: error may stand for critical; of the others nobody knows."""
_BANDS = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM))
_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """What tool and rule say about one result, as text."""

    message: str
    rule: str
    lines: Mapping[str, str]
    """`Key: value` lines; those of the message win."""
    rule_name: str


def read_sarif(root: _Json, *, what: str) -> GivenReport:
    """Read a log that was parsed; several runs count together.

    Raises:
        IntegrityError: it is of another version, holds no run, a run without results, or a part has
            the wrong shape.
    """
    if root.get("version") != "2.1.0":
        raise IntegrityError(f"{what}: SARIF {str(root.get('version'))[:20]!r}, expected 2.1.0")
    runs = list(_objects(root, "runs", what))
    if not runs:
        raise IntegrityError(f"{what}: no run: nothing was scanned")
    first = _object(_object(runs[0], "tool", what), "driver", what)
    places = [_object(run, "properties", what) for run in runs]
    found = [
        item for number, run in enumerate(runs) for item in _results(run, f"{what}: runs[{number}]")
    ]
    suppressed = sum(is_suppressed for _, is_suppressed in found)
    note = f"{what}: {suppressed} results are suppressed in it: they count all the same"
    return GivenReport(
        what=what,
        format="SARIF",
        tool=_text(first, "name", what),
        tool_version=_text(first, "semanticVersion", what) or _text(first, "version", what),
        reported=tuple(item for item, _ in found),
        config_digest=_common(digests_in(place.get("imageID")) for place in places),
        manifest_digests=digests_in([d for place in places for d in _list(place, "repoDigests")]),
        made_at=_ended(runs, what),
        says_fixes=all(item.fixed_version or item.fix_state for item, _ in found),
        failure=_failure(runs, what),
        notes=(note,) if suppressed else (),
    )


def _object(value: _Json, key: str, what: str) -> _Json:
    member = value.get(key)
    return {} if member is None else as_object(member, what=f"{what}: {key}")


def _objects(value: _Json, key: str, what: str) -> Iterator[_Json]:
    member = value.get(key)
    items = [] if member is None else as_list(member, what=f"{what}: {key}")
    return (as_object(item, what=f"{what}: {key}[{n}]") for n, item in enumerate(items))


def _text(value: _Json, key: str, what: str) -> str:
    member = value.get(key)
    return "" if member is None else as_text(member, what=f"{what}: {key}")


def _list(value: _Json, key: str) -> list[object]:
    member = value.get(key)
    return member if isinstance(member, list) else []


def _common(found: Iterator[tuple[str, ...]]) -> str:
    """Return the one digest that all runs name; runs about several images are about none."""
    digests = {digests[0] if digests else "" for digests in found}
    return digests.pop() if len(digests) == 1 else ""


def _failure(runs: list[_Json], what: str) -> str:
    for number, run in enumerate(runs):
        for call in _objects(run, "invocations", what):
            if call.get("executionSuccessful") is False:
                told = _text(call, "exitCodeDescription", what)
                return f"runs[{number}] was not successful" + (f": {told[:200]}" if told else "")
    return ""


def _ended(runs: list[_Json], what: str) -> datetime | None:
    times = [
        time
        for run in runs
        for call in _objects(run, "invocations", what)
        if (time := time_or_none(call.get("endTimeUtc"), f"{what}: endTimeUtc"))
    ]
    return min(times, default=None)


# --- results


def _results(run: _Json, what: str) -> Iterator[tuple[Reported, bool]]:
    """Yield each finding with whether the log calls it suppressed."""
    if run.get("results") is None:
        raise IntegrityError(f"{what}: no results: nothing was scanned")
    tool = _object(run, "tool", what)
    parts = [_object(tool, "driver", what), *_objects(tool, "extensions", what)]
    rules = [rule for part in parts for rule in _objects(part, "rules", what)]
    by_id = {_text(rule, "id", what): rule for rule in rules}
    source = _text(parts[0], "name", what).lower()
    for number, result in enumerate(_objects(run, "results", what)):
        place = f"{what}: results[{number}]"
        if result.get("kind") in _ABSENT or result.get("baselineState") == "absent":
            continue
        rule = _rule_of(result, by_id, rules, place)
        suppressed = bool(_list(result, "suppressions"))
        for item in _reported(result, rule, source, place):
            yield item, suppressed


def _rule_of(result: _Json, by_id: Mapping[str, _Json], rules: list[_Json], what: str) -> _Json:
    inner = _object(result, "rule", what)
    name = _text(result, "ruleId", what) or _text(inner, "id", what)
    if name in by_id:
        return by_id[name]
    index = result.get("ruleIndex", inner.get("index"))
    if isinstance(index, int) and 0 <= index < len(rules):
        return rules[index]
    if not name:
        raise IntegrityError(f"{what}: it names no rule, so nobody knows which vulnerability it is")
    return {"id": name}


def _reported(result: _Json, rule: _Json, source: str, what: str) -> Iterator[Reported]:
    texts = _texts(result, rule, what)
    rule_id = _text(result, "ruleId", what) or as_text(rule.get("id"), what=f"{what}: rule id")
    identity, aliases = _names(rule_id, rule, texts, what)
    severity, said = _severity(result, rule, texts, what)
    fix = _first(texts.lines, _FIX_KEYS)
    fixed = "" if fix is None or fix.lower() in _NO_FIX else fix
    title = _text(_object(rule, "shortDescription", what), "text", what).strip()
    for package in _packages(result, rule, texts):
        yield Reported(
            id=identity,
            vendor_ids=aliases,
            kind=package.ecosystem,
            name=package.name,
            version=package.version,
            path="",
            purl=package.purl,
            layer="",
            fixed_version=fixed,
            severity=severity,
            severity_source=source,
            severities=tuple((source, text) for text in said),
            title=title.splitlines()[0][:200] if title else "",
            url=_text(rule, "helpUri", what),
            published_at=None,
            fix_state="" if fix is None or fixed else "not-fixed",
        )


def _texts(result: _Json, rule: _Json, what: str) -> _Texts:
    message = _text(_object(result, "message", what), "text", what)
    told = "\n".join(
        _text(_object(rule, key, what), "text", what) for key in ("help", "fullDescription")
    )
    of_rule, own = dict(_LINE.findall(told)), dict(_LINE.findall(message))
    if own.get("Package", of_rule.get("Package")) != of_rule.get("Package"):
        of_rule = {}  # the rule speaks of another package
    return _Texts(
        message=message,
        rule=told,
        lines={**of_rule, **own},
        rule_name=_text(rule, "name", what),
    )


def _first(lines: Mapping[str, str], keys: tuple[str, ...]) -> str | None:
    return next((lines[key].strip() for key in keys if key in lines), None)


def _names(rule_id: str, rule: _Json, texts: _Texts, what: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the vulnerability and its other names."""
    match = _ID.match(rule_id)
    own = match[0] if match else rule_id
    others = [as_text(item, what=f"{what}: deprecatedIds") for item in _list(rule, "deprecatedIds")]
    others += [
        found for part in _ALSO.findall(texts.message) for found in re.findall(r"'([^']+)'", part)
    ]
    described = _text(_object(rule, "fullDescription", what), "text", what)
    if described.startswith("("):  # snyk: `(CVE-2020-8203) lodash@4.17.15`
        others += _ID.findall(described.partition(")")[0])
    names = dict.fromkeys((own, *others))
    cves = [name for name in names if name.startswith("CVE-")]
    chosen = cves[0] if len(cves) == 1 else own
    return chosen, tuple(name for name in names if name != chosen)


def _severity(
    result: _Json, rule: _Json, texts: _Texts, what: str
) -> tuple[Severity, tuple[str, ...]]:
    """Return the severity, and what was said: a word counts before a score, a score before a level."""
    properties = _object(rule, "properties", what)
    tags = [tag for tag in _list(properties, "tags") if isinstance(tag, str)]
    words = [word for word in (texts.lines.get("Severity", ""), *tags) if word]
    known = [word for word in words if severity_of_word(word) is not Severity.UNKNOWN]
    score = properties.get("security-severity")
    said = (*known[:1], *((f"security-severity {score}",) if score is not None else ()))
    if known:
        return severity_of_word(known[0]), said
    if (number := _number(score)) is not None and number > 0:
        return next((s for least, s in _BANDS if number >= least), Severity.LOW), said
    if "UNKNOWN" in words or score is not None:
        return Severity.UNKNOWN, said
    level = _text(result, "level", what) or _level_of(rule, what)
    return _LEVELS.get(level, Severity.UNKNOWN), (*said, f"level {level}")


def _level_of(rule: _Json, what: str) -> str:
    return _text(_object(rule, "defaultConfiguration", what), "level", what) or "warning"


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


# --- packages


def _packages(result: _Json, rule: _Json, texts: _Texts) -> Iterator[Package]:
    """Yield what a result is about; one without a name when nobody can tell."""
    purls = [purl for part in (result, rule) for purl in _purls(part)]
    if texts.lines.get("Package", "").startswith("pkg:"):
        purls.append(texts.lines["Package"])
    told = [
        found
        for purl in dict.fromkeys(purls)
        if isinstance(found := foreign_package("", purl, {}), Package)
    ]
    spoken = _spoken(texts)
    if spoken is None:
        yield from told or [Package(ecosystem="", name="", version="", purl="")]
        return
    same = [p for p in told if (p.name, p.version) == (spoken.name, spoken.version)]
    yield from same or told or [spoken]


def _purls(part: _Json) -> Iterator[str]:
    properties = part.get("properties")
    if not isinstance(properties, dict):
        return
    for key in ("purls", "purl", "package_url"):
        found = properties.get(key)
        for purl in found if isinstance(found, list) else [found]:
            if isinstance(purl, str) and purl.startswith("pkg:"):
                yield purl


def _spoken(texts: _Texts) -> Package | None:
    """Return the package that lines or a sentence name."""
    lines = texts.lines
    name = lines.get("Package", "")
    version = _first(lines, ("Installed Version", "Version")) or ""
    kind = lines.get("Type", "")
    if not (name and version) or name.startswith("pkg:"):
        parts = (texts.message, *texts.rule.splitlines())
        matches = (s.search(text) for text in parts for s in _SENTENCES)
        match = next(filter(None, matches), None)
        if match is None:
            return None
        groups = match.groupdict()
        name, version, kind = groups["name"], groups["version"], groups.get("kind") or kind
    package = Package(
        ecosystem=KINDS.get(kind, kind), name=name, version=version.rstrip("."), purl=""
    )
    return (
        package if package.ecosystem != "pypi" else replace(package, name=normal_name("PyPI", name))
    )
