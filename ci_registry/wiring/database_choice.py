"""Which advisory database the settings name: what is cached, a local one, artifacts, or a service."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ci_registry.config.model import ScannerChoice, Settings
from ci_registry.errors import SetupError, UsageError
from ci_registry.oci.reference import Reference, parse_reference


class DatabaseKind(StrEnum):
    """Where advisories come from."""

    LIVE = "live"
    """osv.dev's API; for trivy its published database."""
    CACHE = "cache"
    LOCAL = "local"
    ARTIFACTS = "artifacts"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseChoice:
    """What the settings name."""

    kind: DatabaseKind
    path: Path | None = None
    """Of a local database."""
    shown: str = ""
    """The same as it was written."""
    references: tuple[Reference, ...] = ()
    """Artifacts, in the order in which they are tried; for the cache, those to prefer."""


def choose_database(settings: Settings, project: Path) -> DatabaseChoice:
    """Find out what `scan.db` and `scan.databases` name.

    Raises:
        SetupError: neither a path that exists nor references.
    """
    db, offline = settings.scan.db, settings.runtime.offline
    configured = _references(settings.scan.databases)
    if db == "offline" or (db == "auto" and offline):
        return DatabaseChoice(kind=DatabaseKind.CACHE, references=configured)
    if db == "auto":
        kind = DatabaseKind.ARTIFACTS if configured else DatabaseKind.LIVE
        return DatabaseChoice(kind=kind, references=configured)
    if _exists(project / db):
        return DatabaseChoice(kind=DatabaseKind.LOCAL, path=project / db, shown=db)
    names = [name.strip() for name in db.split(",")]
    if not all(map(_looks_like_reference, names)):
        raise SetupError(
            f"scan.db is {db}, which is no folder",
            hint="name a folder of OSV files, a compiled database, registry/repository:tag, auto or offline",
        )
    kind = DatabaseKind.CACHE if offline else DatabaseKind.ARTIFACTS
    return DatabaseChoice(kind=kind, references=_references(tuple(names)))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # too long for a name


def _looks_like_reference(name: str) -> bool:
    """A mistyped folder must not become a name on Docker Hub: a host, tag or digest is needed."""
    if name.startswith("oci://"):
        return True
    first, slash, rest = name.partition("/")
    if not slash or name.startswith((".", "/")):
        return False
    has_host = re.search(r"[.:]", first) is not None or first == "localhost"
    return has_host or ":" in rest or "@" in rest


def _references(names: tuple[str, ...]) -> tuple[Reference, ...]:
    try:
        return tuple(parse_reference(name.removeprefix("oci://")) for name in names)
    except UsageError as error:
        raise SetupError(f"scan.databases: {error.message}", hint=error.hint) from error


REGISTRY_SIDE = frozenset({ScannerChoice.HARBOR, ScannerChoice.ECR, ScannerChoice.QUAY})
"""Scanners that live in a registry."""
_OSV_DEV = "osv.dev (it is sent the names and versions of packages)"


def describe_databases(settings: Settings, project: Path) -> str:
    """Return in a few words which databases are used, for the first line of output."""
    chosen = tuple(dict.fromkeys(settings.scan.scanner))
    told = [_describe(name, settings, project) for name in chosen]
    if len(chosen) == 1:
        return told[0]
    return "; ".join(f"{name}: {text}" for name, text in zip(chosen, told, strict=True))


def _describe(scanner: ScannerChoice, settings: Settings, project: Path) -> str:
    scan = settings.scan
    if scanner in REGISTRY_SIDE:
        return "those of the registry"
    if scanner is ScannerChoice.TRIVY and scan.server:
        return f"the trivy server {scan.server} (it is sent lists of packages)"
    own = {ScannerChoice.TRIVY: scan.trivy_db, ScannerChoice.GRYPE: scan.grype_db}
    if own.get(scanner, "auto") != "auto":
        return own[scanner]
    choice = choose_database(settings, project)
    if choice.kind is DatabaseKind.CACHE:
        return "only what is cached"
    if choice.kind is DatabaseKind.LOCAL:
        return choice.shown
    if choice.kind is DatabaseKind.LIVE or scanner is ScannerChoice.GRYPE:
        live = {ScannerChoice.OSV: _OSV_DEV, ScannerChoice.GRYPE: scan.grype_listing}
        return live.get(scanner, "trivy's published one")
    return ", else ".join(str(reference) for reference in choice.references)
