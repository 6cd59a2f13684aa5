"""What the SBOM formats have no member for, as texts: the rest of a package, and coverage records."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from ci_registry.errors import IntegrityError
from ci_registry.findings import (
    AdvisoryDatabase,
    Coverage,
    CoverageGap,
    Distribution,
    Gap,
    Inventory,
    Package,
    UnreadDatabase,
)
from ci_registry.sbom.purl import Purl
from ci_registry.strict import as_list, as_object, as_size, as_text

PREFIX = "ci-registry:"
"""Namespace of our properties."""
_FLAGS = {True: "true", False: "false"}


def package_facts(package: Package) -> dict[str, str]:
    """Return what purl, name and version don't say, without what is empty."""
    facts = {
        "source-name": package.source_name,
        "source-version": package.source_version,
        "architecture": package.architecture,
        "owner": package.owner,
        "layer": package.layer,
        "path": package.path,
        "module": package.module,
    }
    if package.third_party:
        facts["third-party"] = "true"
    if package.from_base is not None:
        facts["from-base"] = _FLAGS[package.from_base]
    return {fact: text for fact, text in facts.items() if text}


def package_of(
    purl_text: str, purl: Purl, name: str, version: str, facts: Mapping[str, str]
) -> Package:
    """Return the package; `name` and `version` are those that the advisories use."""
    base = facts.get("from-base")
    return Package(
        ecosystem=purl.type,
        name=name,
        version=version,
        purl=purl_text,
        source_name=facts.get("source-name", ""),
        source_version=facts.get("source-version", ""),
        architecture=facts.get("architecture", ""),
        owner=facts.get("owner", ""),
        layer=facts.get("layer", ""),
        path=facts.get("path", ""),
        module=facts.get("module", ""),
        third_party=facts.get("third-party") == "true",
        from_base=None if base is None else base == "true",
    )


def sorted_packages(packages: list[Package]) -> tuple[Package, ...]:
    """Return packages in the order that an inventory promises, each once."""
    unique = dict.fromkeys(packages)
    return tuple(sorted(unique, key=lambda p: (p.ecosystem, p.name, p.version, p.path, p.purl)))


def image_facts(inventory: Inventory) -> dict[str, object]:
    """Return what an inventory says beside its packages and distribution, as a JSON object."""
    return {
        "platform": inventory.platform,
        "manifestDigest": inventory.manifest_digest,
        "configDigest": inventory.config_digest,
        "filesCount": inventory.files_count,
        "unread": [
            {"kind": item.kind, "path": item.path, "reason": item.reason}
            for item in inventory.unread
        ],
    }


def inventory_of(
    value: object,
    distribution: Distribution | None,
    packages: tuple[Package, ...],
    what: str,
) -> Inventory:
    """Read `image_facts` back.

    Raises:
        IntegrityError: they have another shape.
    """
    data = as_object(value, what=what)

    def text(key: str) -> str:
        return as_text(data.get(key), what=f"{what}: {key}")

    return Inventory(
        platform=text("platform"),
        manifest_digest=text("manifestDigest"),
        config_digest=text("configDigest"),
        distribution=distribution,
        packages=packages,
        unread=tuple(_unread(item, what) for item in as_list(data.get("unread"), what=what)),
        files_count=as_size(data.get("filesCount"), what=f"{what}: filesCount"),
    )


def _unread(value: object, what: str) -> UnreadDatabase:
    data = as_object(value, what=what)
    kind, path, reason = (as_text(data.get(k), what=what) for k in ("kind", "path", "reason"))
    return UnreadDatabase(kind=kind, path=path, reason=reason)


def coverage_to_json(coverage: Coverage) -> dict[str, object]:
    """Return a coverage record as a JSON object; platform and digests stand elsewhere."""
    return {
        "endOfLife": coverage.distribution.end_of_life if coverage.distribution else None,
        "packages": dict(coverage.package_counts),
        "skipped": coverage.skipped_count,
        "gaps": [
            {
                "gap": str(gap.gap),
                "detail": gap.detail,
                "ecosystem": gap.ecosystem,
                "packages": list(gap.packages),
            }
            for gap in coverage.gaps
        ],
        "databases": [_database_to_json(database) for database in coverage.databases],
        "lists": [_database_to_json(item) for item in coverage.lists],
        "skippedBecause": [[reason, number] for reason, number in coverage.skipped],
        "withData": list(coverage.with_data),
        "withoutData": list(coverage.without_data),
        "scanner": coverage.scanner,
        "scannedAt": coverage.scanned_at.isoformat() if coverage.scanned_at else None,
    }


def _database_to_json(database: AdvisoryDatabase) -> dict[str, object]:
    return {
        "name": database.name,
        "location": database.location,
        "builtAt": database.built_at.isoformat() if database.built_at else None,
        "digest": database.digest,
        "ecosystems": list(database.ecosystems),
    }


def coverage_from_json(value: object, inventory: Inventory, what: str) -> Coverage:
    """Read a coverage record back; those of earlier versions say less.

    Raises:
        IntegrityError: it has another shape, or names a gap that this version does not know.
    """
    data = as_object(value, what=what)
    distribution = inventory.distribution
    ended = data.get("endOfLife")
    if distribution is not None and isinstance(ended, bool):
        distribution = replace(distribution, end_of_life=ended)
    counts = as_object(data.get("packages"), what=what)
    return Coverage(
        platform=inventory.platform,
        manifest_digest=inventory.manifest_digest,
        config_digest=inventory.config_digest,
        distribution=distribution,
        package_counts=tuple(
            sorted((kind, as_size(count, what=what)) for kind, count in counts.items())
        ),
        gaps=tuple(_gap(item, what) for item in as_list(data.get("gaps"), what=what)),
        databases=tuple(
            _database(item, what) for item in as_list(data.get("databases"), what=what)
        ),
        skipped_count=as_size(data.get("skipped"), what=what),
        lists=tuple(_database(item, what) for item in as_list(data.get("lists", []), what=what)),
        skipped=tuple(
            _skipped(item, what) for item in as_list(data.get("skippedBecause", []), what=what)
        ),
        with_data=_texts(data.get("withData", []), what),
        without_data=_texts(data.get("withoutData", []), what),
        scanner=as_text(data.get("scanner", ""), what=what),
        scanned_at=_optional_time(data.get("scannedAt"), what),
    )


def _skipped(value: object, what: str) -> tuple[str, int]:
    pair = as_list(value, what=what)
    if len(pair) != 2:
        raise IntegrityError(f"{what}: no reason and number of what was skipped")
    return as_text(pair[0], what=what), as_size(pair[1], what=what)


def _optional_time(value: object, what: str) -> datetime | None:
    return None if value is None else time_of(as_text(value, what=what), what)


def _texts(value: object, what: str) -> tuple[str, ...]:
    return tuple(as_text(item, what=what) for item in as_list(value, what=what))


def _gap(value: object, what: str) -> CoverageGap:
    data = as_object(value, what=what)
    name = as_text(data.get("gap"), what=what)
    if name not in list(Gap):
        raise IntegrityError(f"{what}: unknown gap {name[:50]!r}", hint="update ci-registry")
    return CoverageGap(
        gap=Gap(name),
        detail=as_text(data.get("detail"), what=what),
        ecosystem=as_text(data.get("ecosystem"), what=what),
        packages=_texts(data.get("packages"), what),
    )


def _database(value: object, what: str) -> AdvisoryDatabase:
    data = as_object(value, what=what)
    built = data.get("builtAt")
    return AdvisoryDatabase(
        name=as_text(data.get("name"), what=what),
        location=as_text(data.get("location"), what=what),
        built_at=_optional_time(built, what),
        digest=as_text(data.get("digest"), what=what),
        ecosystems=_texts(data.get("ecosystems"), what),
    )


def time_of(text: str, what: str) -> datetime:
    """Read an RFC 3339 time.

    Raises:
        IntegrityError: it is none, or has no zone.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise IntegrityError(f"{what}: {text[:50]!r} is no time") from error
    if time.tzinfo is None:
        raise IntegrityError(f"{what}: {text[:50]!r} has no time zone")
    return time
