"""Harbor's scans (API v2.0): trigger, scan overview, list of vulnerabilities."""

import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ci_registry.advisories.severity import severity_of_word
from ci_registry.errors import AccessError, IntegrityError, NotFoundError, SetupError, ToolError
from ci_registry.network.client import HttpClient
from ci_registry.oci.reference import Reference
from ci_registry.registry.credentials import CredentialSource
from ci_registry.registry.failures import login_hint
from ci_registry.scanners.given_report import GivenReport, time_or_none
from ci_registry.scanners.registry_http import ApiClient, said_in
from ci_registry.scanners.registry_side import Looked, Stage
from ci_registry.scanners.reported import Reported
from ci_registry.strict import as_list, as_object, as_text

MIME_TYPE = "application/vnd.security.vulnerability.report; version=1.1"
_WAITING = frozenset({"Pending", "Scheduled", "Running"})
_FAILED = frozenset({"Error", "Stopped"})
_NOT_SCANNABLE = (400, 412, 422)
_RUNNING = 409
_DATE_KEY = "harbor.scanner-adapter/vulnerability-database-updated-at"
_WHAT = "Harbor's report"
_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HarborApi:
    """Asks Harbor with the login of the registry: a user, or a robot account that may scan."""

    client: HttpClient
    credentials: CredentialSource
    earlier: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Reference → report id and end time from before the scan was asked for."""

    @property
    def name(self) -> str:
        """`harbor`."""
        return "harbor"

    def check(self, place: Reference) -> None:
        """Look for a login, and a project in the repository's name.

        Raises:
            SetupError: the repository is in no project.
            AccessError: there is no login.
        """
        if "/" not in place.repository:
            raise SetupError(
                f"{place.name} is no repository of Harbor: the first part of the name is its project",
                hint=f"name it {place.registry}/PROJECT/{place.repository}",
            )
        self._api(place)

    def _api(self, place: Reference) -> ApiClient:
        login = self.credentials.find(place.registry, place.repository)
        if login is None or not login.username:
            raise AccessError(
                f"there is no user name and password for the API of {place.registry}",
                hint=f"{login_hint(place.registry)}; a robot account needs the right to scan",
            )
        return ApiClient(
            client=self.client,
            host=place.registry,
            authorization=login.basic,
            headers={"X-Accept-Vulnerabilities": MIME_TYPE},
        )

    def start(self, place: Reference) -> Looked | None:
        """Ask for a scan; a report from before counts no more.

        Raises:
            ToolError: the last scan failed.
            CiRegistryError: Harbor can't be asked.
        """
        api = self._api(place)
        before = _overview(self._artifact(api, place))
        if str(before.get("scan_status", "")) not in _WAITING:
            self.earlier[str(place)] = _identity(before)
        response = api.send(
            "POST",
            f"{_path(place)}/scan",
            doing=f"ask Harbor to scan {place}",
            also=(_RUNNING, *_NOT_SCANNABLE),
        )
        if response.status in _NOT_SCANNABLE:
            return Looked(stage=Stage.REFUSED, word=said_in(response))
        return None

    def _artifact(self, api: ApiClient, place: Reference) -> _Json:
        doing = f"read what Harbor says about {place}"
        artifact = api.get(f"{_path(place)}?with_scan_overview=true", doing=doing)
        told = artifact.get("digest")
        if told != place.digest:
            raise IntegrityError(f"cannot {doing}: its answer is about {str(told)[:100]}")
        return artifact

    def look(self, place: Reference) -> Looked:
        """Read the scan overview, and the report once there is one.

        Raises:
            ToolError: the scan failed, was stopped, or left no report.
            CiRegistryError: Harbor can't be asked.
        """
        api = self._api(place)
        overview = _overview(self._artifact(api, place))
        status = str(overview.get("scan_status", ""))
        if not status or status in _WAITING:
            return Looked(stage=Stage.WAITING, word=status or "nothing yet")
        if _identity(overview) == self.earlier.get(str(place)):
            word = f"nothing since a scan that ended with {status}"
            return Looked(stage=Stage.WAITING, word=word)
        if status in _FAILED:
            raise ToolError(
                f"the scan of {place} by Harbor ended with {status}",
                hint="see the scan's log in Harbor, then retry",
            )
        if status != "Success":
            raise ToolError(f"the scan of {place} by Harbor ended with {status[:50]!r}")
        return Looked(stage=Stage.DONE, word=status, report=self._report(api, place))

    def _report(self, api: ApiClient, place: Reference) -> GivenReport:
        doing = f"read Harbor's report about {place}"
        answer = api.get(f"{_path(place)}/additions/vulnerabilities", doing=doing)
        found = answer.get(MIME_TYPE)
        if not isinstance(found, dict):
            raise ToolError(
                f"Harbor says that the scan of {place} succeeded, and has no report of it",
                hint="scan again",
            )
        try:
            return _parsed(found, place, self._database_date(api, place))
        except IntegrityError as error:
            raise ToolError(f"cannot {doing}: {error.message}") from error

    def _database_date(self, api: ApiClient, place: Reference) -> datetime | None:
        """Return when the scanner's advisories were made; None when this login may not ask."""
        doing = "read when Harbor's advisories were made"
        project = urllib.parse.quote(place.repository.partition("/")[0], safe="")
        try:
            scanner = api.get(f"/api/v2.0/projects/{project}/scanner", doing=doing)
            uuid = urllib.parse.quote(str(scanner.get("uuid") or "-"), safe="")
            metadata = api.get(f"/api/v2.0/scanners/{uuid}/metadata", doing=doing)
        except (AccessError, NotFoundError):
            return None
        properties = as_object(
            metadata.get("properties") or {}, what="Harbor's scanner: properties"
        )
        return time_or_none(properties.get(_DATE_KEY), f"Harbor's scanner: {_DATE_KEY}")


def _path(place: Reference) -> str:
    """Return the artifact's path; the slashes in a repository's name are encoded twice."""
    project, _, repository = place.repository.partition("/")
    twice = urllib.parse.quote(urllib.parse.quote(repository, safe=""), safe="")
    once = urllib.parse.quote(project, safe="")
    target = urllib.parse.quote(place.target, safe=":")
    return f"/api/v2.0/projects/{once}/repositories/{twice}/artifacts/{target}"


def _overview(artifact: _Json) -> _Json:
    """Return the overview of our kind of report; it is missing while a scan is queued."""
    overviews = artifact.get("scan_overview")
    found = overviews.get(MIME_TYPE) if isinstance(overviews, dict) else None
    return found if isinstance(found, dict) else {}


def _identity(overview: _Json) -> tuple[str, str]:
    """Return what tells one scan from the next; two empty texts for no scan."""
    return str(overview.get("report_id", "")), str(overview.get("end_time", ""))


def _parsed(report: _Json, place: Reference, database: datetime | None) -> GivenReport:
    scanner = as_object(report.get("scanner") or {}, what=f"{_WHAT}: scanner")
    items = as_list(report.get("vulnerabilities") or [], what=f"{_WHAT}: vulnerabilities")
    return GivenReport(
        what=_WHAT,
        format="JSON",
        tool=str(scanner.get("name") or "harbor"),
        tool_version=str(scanner.get("version") or ""),
        reported=tuple(_reported(item, n) for n, item in enumerate(items)),
        manifest_digests=(str(place.digest),),
        made_at=time_or_none(report.get("generated_at"), f"{_WHAT}: generated_at"),
        database_built_at=database,
    )


def _reported(item: object, number: int) -> Reported:
    what = f"{_WHAT}: vulnerabilities[{number}]"
    entry = as_object(item, what=what)

    def text(key: str) -> str:
        return as_text(entry.get(key) or "", what=f"{what}: {key}")

    word, fix = text("severity"), text("fix_version")
    links = as_list(entry.get("links") or [], what=f"{what}: links")
    lines = text("description").strip().splitlines()
    return Reported(
        id=as_text(entry.get("id"), what=f"{what}: id"),
        vendor_ids=(),
        kind="",
        name=as_text(entry.get("package"), what=f"{what}: package"),
        version=text("version"),
        path="",
        purl="",
        layer="",
        fixed_version=fix,
        severity=severity_of_word(word),
        severity_source="harbor",
        severities=(("harbor", word), *_vectors(entry, what)),
        title=lines[0][:200] if lines else "",
        url=str(links[0]) if links else "",
        published_at=None,
        fix_state="fixed" if fix else "not-fixed",
    )


def _vectors(entry: _Json, what: str) -> Iterator[tuple[str, str]]:
    scores = as_object(entry.get("preferred_cvss") or {}, what=f"{what}: preferred_cvss")
    for key in ("vector_v3", "vector_v2"):
        if vector := scores.get(key):
            yield "cvss", str(vector)
