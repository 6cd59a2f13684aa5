"""Finds the database of grype: a local one, a cached one, or the published one, fetched here and checked."""

import hashlib
import posixpath
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ci_registry.advisories.osv import parse_time
from ci_registry.errors import (
    CancelledError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    SetupError,
    ToolError,
)
from ci_registry.files import storage_error
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request
from ci_registry.oci.digest import Digest
from ci_registry.process import Command, allowed_environment
from ci_registry.scanners.grype import SETTINGS
from ci_registry.scanners.grype_database import find_file, open_grype_database
from ci_registry.strict import as_object, as_text, parse_json
from ci_registry.wiring.advisory_cache import AdvisoryCache
from ci_registry.wiring.basis import Basis, Caller
from ci_registry.wiring.caching import TRUSTED, cache_root, tree_of
from ci_registry.wiring.database_choice import DatabaseKind, choose_database

MAX_ARCHIVE_BYTES = 2 * 1024 * 1024 * 1024
MAX_LISTING_BYTES = 1024 * 1024
_READY = "6/import.json"
"""What grype writes last of all when it imports a database."""
_IMPORT_TIMEOUT_S = 900.0
_ARCHIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*\.(?:tar\.zst|tar\.gz|tar\.xz)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a listing says about the latest database."""

    url: str
    """Of the archive."""
    digest: Digest
    built_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDatabase:
    """A database of grype, and what people should know."""

    path: Path
    location: str
    notes: tuple[str, ...] = ()


def find_grype_database(
    caller: Caller, basis: Basis, client: HttpClient, program: Path
) -> FoundDatabase:
    """Return the database that the settings name.

    Raises:
        SetupError: they name something else.
        CiRegistryError: the published one can't be had, and none that is cached is young enough.
    """
    named = basis.settings.scan.grype_db
    if named != "auto":
        return _local(basis.project / named, named, "scan.grype_db")
    choice = choose_database(basis.settings, basis.project)
    if choice.kind is DatabaseKind.LOCAL and choice.path is not None:
        return _local(choice.path, choice.shown, "scan.db")
    folder = cache_root(basis.settings, caller.env) / "grype"
    stored = AdvisoryCache(own=folder / tree_of(basis.ci), trusted=folder / TRUSTED)
    if choice.kind is DatabaseKind.CACHE:
        return FoundDatabase(path=_newest(stored) or stored.own / "none", location="the cache")
    if choice.kind is DatabaseKind.ARTIFACTS and basis.settings.scan.db != "auto":
        raise SetupError(
            f"scan.db is {basis.settings.scan.db}: grype's databases are no artifacts of ours",
            hint="name a folder with a database of grype in scan.grype_db",
        )
    return _published(caller, basis, client, program, stored)


def _local(path: Path, shown: str, key: str) -> FoundDatabase:
    if find_file(path) is None:
        raise SetupError(
            f"{key} is {shown}, which holds no database of grype (6/vulnerability.db or vulnerability.db)",
            hint="name one in scan.grype_db, or leave it at auto",
        )
    return FoundDatabase(path=path, location=shown)


def _newest(stored: AdvisoryCache) -> Path | None:
    """Return the folder of the youngest database that is cached."""
    folders = [
        path.parent.parent
        for tree in dict.fromkeys((stored.own, stored.trusted))
        for path in tree.glob(f"*/{_READY}")
    ]
    dated = []
    for folder in folders:
        built_at = open_grype_database(folder).facts.built_at
        if built_at is not None:
            dated.append((built_at, folder))
    return max(dated)[1] if dated else None


def _published(
    caller: Caller, basis: Basis, client: HttpClient, program: Path, stored: AdvisoryCache
) -> FoundDatabase:
    """Fetch the latest database; when that fails, one that is cached counts while it is young enough."""
    url = basis.settings.scan.grype_listing
    try:
        listing = read_listing(client, url)
        found = stored.entry(listing.digest, _READY)
        if found is None:
            found = _fetch(caller, client, program, stored, listing)
        return FoundDatabase(path=found, location=url)
    except CancelledError:
        raise
    except CiRegistryError as error:
        newest = _newest(stored)
        built_at = open_grype_database(newest).facts.built_at if newest else None
        if (
            newest is None
            or not built_at
            or caller.now() - built_at > basis.settings.scan.max_db_age
        ):
            raise
        note = f"grype's database could not be updated ({error.headline}); the one of {built_at.isoformat()} was used"
        return FoundDatabase(path=newest, location="the cache", notes=(note,))


def read_listing(client: HttpClient, url: str) -> Listing:
    """Ask which database is the latest.

    Raises:
        NetworkError: there is no listing.
        IntegrityError: it is none, or names an archive elsewhere or without a sha256.
    """
    request = Request(method="GET", url=url)
    response = client.request(request, max_body_bytes=MAX_LISTING_BYTES)
    if not response.ok:
        raise NetworkError(
            f"{request.shown} answered HTTP {response.status}",
            hint="name a folder with a database of grype in scan.grype_db, or try again later",
        )
    document = as_object(parse_json(response.body, what=url, strict=False), what=url)
    path = as_text(document.get("path"), what=f"{url}: path")
    if not _ARCHIVE_NAME.fullmatch(path):
        raise IntegrityError(f"{url}: path: {path[:100]!r} is no archive beside the listing")
    try:
        built_at = parse_time(as_text(document.get("built"), what=f"{url}: built"))
    except ValueError as error:
        raise IntegrityError(f"{url}: built is no time") from error
    digest = Digest(as_text(document.get("checksum"), what=f"{url}: checksum"))
    if digest.algorithm != "sha256":
        raise IntegrityError(f"{url}: the checksum is no sha256")
    beside = posixpath.join(posixpath.dirname(urlsplit(url).path), path)
    return Listing(
        url=urljoin(url, beside),
        digest=digest,
        built_at=built_at,
    )


def _fetch(
    caller: Caller, client: HttpClient, program: Path, stored: AdvisoryCache, listing: Listing
) -> Path:
    """Download the archive, check it, and let grype import it; nobody ever sees half of it."""
    with stored.adding(listing.digest, _READY) as folder:
        if not (folder / _READY).is_file():
            archive = folder / posixpath.basename(urlsplit(listing.url).path)
            _download(client, listing, archive)
            _import(caller, program, archive, folder)
            archive.unlink()
    found = stored.entry(listing.digest, _READY)
    if found is None:
        raise IntegrityError(f"grype's database {listing.digest} is not where it was put")
    return found


def _download(client: HttpClient, listing: Listing, target: Path) -> None:
    hasher, size_bytes = hashlib.sha256(), 0
    request = Request(method="GET", url=listing.url)
    try:
        with client.stream(request) as answer, target.open("xb") as file:
            if answer.status != 200:
                raise NetworkError(f"{request.shown} answered HTTP {answer.status}")
            for chunk in answer.chunks:
                size_bytes += len(chunk)
                if size_bytes > MAX_ARCHIVE_BYTES:
                    raise IntegrityError(f"{request.shown}: more than {MAX_ARCHIVE_BYTES} bytes")
                hasher.update(chunk)
                file.write(chunk)
    except OSError as error:
        raise storage_error(error, target, "write") from error
    if hasher.hexdigest() != listing.digest.hex:
        raise IntegrityError(
            f"{request.shown} has sha256 {hasher.hexdigest()}, the listing says {listing.digest.hex}"
        )


def _import(caller: Caller, program: Path, archive: Path, folder: Path) -> None:
    """Run `grype db import`: it unpacks, adds the indexes that its searches need, and asks nobody."""
    home = folder / ".home"
    home.mkdir()
    config = home / "config.yaml"
    config.touch()
    environment = allowed_environment(caller.env, home=home) | SETTINGS
    done = caller.runner(
        Command(
            argv=(str(program), "--config", str(config), "db", "import", str(archive)),
            env=environment | {"GRYPE_DB_CACHE_DIR": str(folder), "TMPDIR": str(home)},
            cwd=home,
            timeout_s=_IMPORT_TIMEOUT_S,
        )
    )
    if not (folder / _READY).is_file():
        raise ToolError(
            f"grype db import ended with exit code {done.exit_code} and imported nothing"
            f"\n{done.error_tail()}",
            hint="update grype, or name a folder with its database in scan.grype_db",
        )
