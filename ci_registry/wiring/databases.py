"""Finds the advisory databases that the settings name: local, cached, artifacts in registries, or a service."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.osv_dev import HttpAnswer, OsvDev
from ci_registry.advisories.osv_dev_cache import AnswerCache
from ci_registry.advisories.source import AdvisorySource
from ci_registry.cache import DiskCache
from ci_registry.config.model import DatabaseSignature
from ci_registry.errors import NetworkError, SetupError
from ci_registry.events import Level, Log
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request
from ci_registry.oci.reference import parse_reference
from ci_registry.wiring.advisory_artifacts import ArtifactReader
from ci_registry.wiring.advisory_cache import AdvisoryCache
from ci_registry.wiring.basis import Basis, Caller
from ci_registry.wiring.caching import TRUSTED, cache_root, tree_of
from ci_registry.wiring.database_choice import DatabaseKind, choose_database
from ci_registry.wiring.registries import Registries

if TYPE_CHECKING:
    from ci_registry.advisories.compiled import CompiledDatabase
    from ci_registry.verification.trust import TrustedKeys

TRIVY_DATABASE = "ghcr.io/aquasecurity/trivy-db:2"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _HttpJson:
    """Asks a JSON API through the run's HTTP client; implements `advisories.osv_dev.HttpJson`."""

    client: HttpClient

    def post(self, url: str, body: bytes, /, *, max_bytes: int) -> HttpAnswer:
        """Send JSON, return the body of a 2xx answer."""
        request = Request(
            method="POST", url=url, headers=_JSON, body=lambda: iter((body,)), size_bytes=len(body)
        )
        return self._answer(request, max_bytes)

    def get(self, url: str, /, *, max_bytes: int) -> HttpAnswer:
        """Return the body of a 2xx answer."""
        return self._answer(Request(method="GET", url=url, headers=_JSON), max_bytes)

    def _answer(self, request: Request, max_bytes: int) -> HttpAnswer:
        response = self.client.request(request, max_body_bytes=max_bytes)
        if not response.ok:
            raise NetworkError(
                f"{request.shown} answered HTTP {response.status}",
                hint="name a local database with --scan-db, or try again later",
            )
        return HttpAnswer(body=response.body, date=response.headers.get("Date"))


def artifact_reader(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache | None = None
) -> ArtifactReader:
    """Return what fetches databases for this run, with the keys that the trusted ref names."""

    def find_trust() -> "TrustedKeys | None":
        from ci_registry.verification.trust import find_trust

        return find_trust(basis.settings.trust, caller.env, basis.trusted.read)

    scan = basis.settings.scan
    return ArtifactReader(
        open_repository=registries.open,
        find_trust=find_trust,
        must_be_signed=scan.db_signature is DatabaseSignature.REQUIRED,
        say=lambda text: caller.on_event(Log(message=text, level=Level.WARNING)),
        now=caller.now,
        max_age=scan.max_db_age,
        exempt=frozenset({TRIVY_DATABASE}),
        checked=cache,
    )


def advisory_cache(caller: Caller, basis: Basis, kind: str) -> AdvisoryCache:
    """Return the cache of one kind of database, `advisories` or `trivy`, for a run of this trust."""
    folder = cache_root(basis.settings, caller.env) / kind
    return AdvisoryCache(own=folder / tree_of(basis.ci), trusted=folder / TRUSTED)


def open_osv_source(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache
) -> AdvisorySource:
    """Return the advisories of the embedded scanner: what the settings name.

    Raises:
        SetupError: it does not exist.
        CiRegistryError: no artifact could be fetched, or nobody we trust signed it.
    """
    choice = choose_database(basis.settings, basis.project)
    if choice.kind is DatabaseKind.LIVE:
        http, url = _HttpJson(client=registries.client), basis.settings.scan.osv_api.rstrip("/")
        answers = AnswerCache(disk=cache, url=url)
        return OsvDev(http=http, now=caller.now, url=url, cache=answers)
    if choice.path is not None:
        return _open_local(choice.path, choice.shown, cache)
    found = open_artifact(caller, basis, registries, cache)
    if found is not None:
        return found
    return open_osv_folder(cache_root(basis.settings, caller.env) / "osv", location="the cache")


def open_artifact(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache
) -> "CompiledDatabase | None":
    """Return the compiled database of the artifacts that are named; None when the cache alone counts and has none.

    Raises:
        CiRegistryError: no artifact could be fetched, or nobody we trust signed it.
    """
    from ci_registry.advisories.compiled import open_compiled

    choice = choose_database(basis.settings, basis.project)
    reader = artifact_reader(caller, basis, registries, cache)
    stored = advisory_cache(caller, basis, "advisories")
    if choice.kind is DatabaseKind.CACHE:
        fetched = reader.cached(choice.references, stored)
    else:
        fetched = reader.fetch_ours(choice.references, stored)
    if fetched is None:
        return None
    return open_compiled(
        fetched.folder, location=fetched.location, notes=fetched.notes, cache=cache
    )


def _open_local(path: Path, shown: str, cache: DiskCache | None) -> AdvisorySource:
    from ci_registry.advisories.compiled import is_compiled, open_compiled

    if is_compiled(path):
        return open_compiled(path, location=shown, cache=cache)
    if path.is_dir():
        return open_osv_folder(path, location=shown)
    raise SetupError(
        f"scan.db is {shown}, which is no folder",
        hint="name a folder of OSV files, or the advisories.sqlite that ci-registry db build wrote",
    )


def find_trivy_database(
    caller: Caller, basis: Basis, registries: Registries
) -> tuple[Path, str, tuple[str, ...]]:
    """Return the folder that holds `db/trivy.db`, where that came from, and what people should know.

    Raises:
        CiRegistryError: there is none and it can't be fetched, or nobody we trust signed it.
    """
    named = basis.settings.scan.trivy_db
    if named != "auto":
        return _trivy_folder(basis.project / named, named), named, ()
    choice = choose_database(basis.settings, basis.project)
    if choice.path is not None:
        return choice.path, choice.shown, ()
    stored = advisory_cache(caller, basis, "trivy")
    reader = artifact_reader(caller, basis, registries)
    references = choice.references
    if choice.kind is DatabaseKind.CACHE:
        found = reader.cached(references, stored, trivy=True)
        return (found.folder, "the cache", ()) if found else (stored.own, "the cache", ())
    if choice.kind is DatabaseKind.LIVE:
        references = (parse_reference(TRIVY_DATABASE),)
    fetched = reader.fetch_trivy(references, stored)
    return fetched.folder, fetched.location, fetched.notes


def _trivy_folder(path: Path, shown: str) -> Path:
    if (path / "db" / "trivy.db").is_file():
        return path
    raise SetupError(
        f"scan.trivy_db is {shown}, which holds no database of trivy (db/trivy.db)",
        hint="name a cache folder of trivy, or leave it at auto",
    )


def exploitation_for_trivy(
    caller: Caller, basis: Basis, registries: Registries, cache: DiskCache
) -> "CompiledDatabase | None":
    """Return our own database beside trivy's, for its lists of exploited vulnerabilities; None for none.

    An artifact is fetched for that only when the policy asks for them.

    Raises:
        CiRegistryError: it is damaged, or could not be fetched.
    """
    from ci_registry.advisories.compiled import is_compiled, open_compiled

    choice = choose_database(basis.settings, basis.project)
    if choice.path is not None:
        if not choice.path.is_dir() or not is_compiled(choice.path):
            return None
        return open_compiled(choice.path, location=choice.shown, cache=cache)
    if not basis.policy.uses_kev or not choice.references:
        return None
    return open_artifact(caller, basis, registries, cache)
