"""Finds the advisory databases that the settings name: a folder, osv.dev, or trivy's published artifact."""

from dataclasses import dataclass
from pathlib import Path

from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.osv_dev import HttpAnswer, OsvDev
from ci_registry.advisories.source import AdvisorySource
from ci_registry.errors import NetworkError, SetupError, ToolError
from ci_registry.files import locked, remove_tree
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Request
from ci_registry.oci.manifest import Index
from ci_registry.oci.reference import parse_reference
from ci_registry.wiring.basis import Basis, Caller
from ci_registry.wiring.caching import TRUSTED, cache_root, tree_of
from ci_registry.wiring.registries import Registries

_KEPT_DATABASES = 2
"""They have hundreds of megabytes and change several times a day."""
_DATABASE_FILE = "db/trivy.db"
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


def open_osv_source(caller: Caller, basis: Basis, client: HttpClient) -> AdvisorySource:
    """Return the advisories of the embedded scanner: a folder, what is cached, or osv.dev.

    Raises:
        SetupError: the folder named does not exist.
    """
    db, offline = basis.settings.scan.db, basis.settings.runtime.offline
    if db == "auto" and not offline:
        http = _HttpJson(client=client)
        return OsvDev(http=http, now=caller.now, url=basis.settings.scan.osv_api.rstrip("/"))
    if db in ("auto", "offline"):
        return open_osv_folder(cache_root(basis.settings, caller.env) / "osv", location="the cache")
    return open_osv_folder(_folder(basis, db), location=db)


def _folder(basis: Basis, db: str) -> Path:
    folder = basis.project / db
    if not folder.is_dir():
        raise SetupError(
            f"scan.db is {db}, which is no folder",
            hint="name a folder of OSV files, auto or offline",
        )
    return folder


def find_trivy_database(caller: Caller, basis: Basis, registries: Registries) -> tuple[Path, str]:
    """Return the folder that holds `db/trivy.db`, and where that came from: named, cached, or fetched by us.

    Raises:
        ToolError: there is none and it can't be fetched.
    """
    db, offline = basis.settings.scan.db, basis.settings.runtime.offline
    folders = cache_root(basis.settings, caller.env) / "trivy"
    cached, trusted = folders / tree_of(basis.ci), folders / TRUSTED
    if db not in ("auto", "offline") and (basis.project / db).is_dir():
        return basis.project / db, db
    if db == "offline" or offline:
        return _newest(cached, trusted), "the cache"
    reference = parse_reference(TRIVY_DATABASE if db == "auto" else db.removeprefix("oci://"))
    from ci_registry.scanners.trivy_install import install_trivy_db

    manifest = registries.open(reference).fetch(reference.target)
    if isinstance(manifest, Index) or len(manifest.layers) != 1:
        raise ToolError(f"{reference} is no trivy database: it must have exactly one layer")
    name, place = manifest.digest.hex[:16], str(reference.at(manifest.digest))
    if (trusted / name / _DATABASE_FILE).is_file():
        return trusted / name, place
    with locked(cached / ".lock"):
        folder = cached / name
        if not (folder / _DATABASE_FILE).is_file():
            install_trivy_db(registries.open(reference).open(manifest.layers[0].digest), folder)
            _remove_old(cached)
    return folder, place


def _databases(folder: Path) -> list[Path]:
    """Return the databases in a folder, the one that was fetched last first."""
    found = [file.parent.parent for file in folder.glob(f"*/{_DATABASE_FILE}")]
    return sorted(found, key=lambda path: -(path / _DATABASE_FILE).stat().st_mtime)


def _newest(cached: Path, trusted: Path) -> Path:
    """Return the database that was fetched last; the cache itself when it holds none."""
    found = _databases(cached) or _databases(trusted)
    return found[0] if found else cached


def _remove_old(cached: Path) -> None:
    """Remove databases that new ones have replaced; the last but one may be in use by another run."""
    for folder in _databases(cached)[_KEPT_DATABASES:]:
        remove_tree(folder)
