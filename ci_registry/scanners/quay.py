"""Quay's scans (API v1): they start by themselves on push, and are read by manifest."""

import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ci_registry.advisories.severity import severity_of_word
from ci_registry.errors import AccessError, IntegrityError, SetupError, ToolError
from ci_registry.network.client import HttpClient
from ci_registry.oci.reference import Reference
from ci_registry.scanners.given_report import GivenReport
from ci_registry.scanners.registry_http import ApiClient
from ci_registry.scanners.registry_side import Looked, Stage
from ci_registry.scanners.reported import Reported
from ci_registry.secret import Secret
from ci_registry.strict import as_list, as_object, as_text

_REFUSED = frozenset({"failed", "unsupported", "manifest_layer_too_large"})
_WHAT = "Quay's report"
_Json = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuayApi:
    """Asks Quay with an OAuth token."""

    client: HttpClient
    token: Secret | None
    token_name: str
    """The variable that the token is read from, for messages."""

    @property
    def name(self) -> str:
        """`quay`."""
        return "quay"

    def check(self, place: Reference) -> None:
        """Look for a token, and a namespace in the repository's name.

        Raises:
            SetupError: the repository is in no namespace.
            AccessError: there is no token.
        """
        if "/" not in place.repository:
            raise SetupError(
                f"{place.name} is no repository of Quay: the first part of the name is its namespace",
                hint=f"name it {place.registry}/NAMESPACE/{place.repository}",
            )
        if self.token is None:
            raise AccessError(
                f"{self.token_name} is not set: Quay's API wants an OAuth token",
                hint="make one with the right to read repositories, in the settings of an organization",
            )

    def start(self, place: Reference) -> None:
        """Do nothing: the push started it.

        Raises:
            AccessError: there is no token.
        """
        self.check(place)

    def look(self, place: Reference) -> Looked:
        """Read the state of the scan, with the report once there is one.

        Raises:
            ToolError: Quay says something that nobody knows, or half a report.
            CiRegistryError: it can't be asked.
        """
        token = self.token.reveal() if self.token else ""
        api = ApiClient(
            client=self.client,
            host=place.registry,
            authorization=Secret(f"Bearer {token}") if token else None,
        )
        doing = f"read Quay's report about {place}"
        repository = urllib.parse.quote(place.repository)
        answer = api.get(
            f"/api/v1/repository/{repository}/manifest/{place.digest}/security?vulnerabilities=true",
            doing=doing,
        )
        status = str(answer.get("status", ""))
        if status == "queued":
            return Looked(stage=Stage.WAITING, word=status)
        if status in _REFUSED:
            return Looked(stage=Stage.REFUSED, word=status)
        if status != "scanned":
            raise ToolError(f"cannot {doing}: its status is {status[:50]!r}, which nobody knows")
        try:
            return Looked(stage=Stage.DONE, word=status, report=_parsed(answer, place))
        except IntegrityError as error:
            raise ToolError(f"cannot {doing}: {error.message}") from error


def _parsed(answer: _Json, place: Reference) -> GivenReport:
    data = as_object(answer.get("data"), what=f"{_WHAT}: data")
    layer = as_object(data.get("Layer"), what=f"{_WHAT}: data.Layer")
    features = as_list(layer.get("Features"), what=f"{_WHAT}: data.Layer.Features")
    return GivenReport(
        what=_WHAT,
        format="JSON",
        tool="Clair",
        reported=tuple(
            item for n, feature in enumerate(features) for item in _of_feature(feature, n)
        ),
        manifest_digests=(str(place.digest),),
    )


def _of_feature(value: object, number: int) -> Iterator[Reported]:
    what = f"{_WHAT}: Features[{number}]"
    feature = as_object(value, what=what)
    name = as_text(feature.get("Name"), what=f"{what}: Name")
    version = as_text(feature.get("Version") or "", what=f"{what}: Version")
    for item in as_list(feature.get("Vulnerabilities") or [], what=f"{what}: Vulnerabilities"):
        entry = as_object(item, what=f"{what}: vulnerability")
        yield _reported(entry, name, version, what)


def _reported(entry: _Json, name: str, version: str, what: str) -> Reported:
    def text(key: str) -> str:
        return as_text(entry.get(key) or "", what=f"{what}: {key}")

    word, fix = text("Severity"), text("FixedBy")
    lines = text("Description").strip().splitlines()
    return Reported(
        id=as_text(entry.get("Name"), what=f"{what}: vulnerability name"),
        vendor_ids=(),
        kind="",
        name=name,
        version=version,
        path="",
        purl="",
        layer="",
        fixed_version=fix,
        severity=severity_of_word(word),
        severity_source=text("NamespaceName") or "clair",
        severities=((text("NamespaceName") or "clair", word),),
        title=lines[0][:200] if lines else "",
        url=text("Link").split(" ")[0],
        published_at=None,
        fix_state="fixed" if fix else "not-fixed",
    )
