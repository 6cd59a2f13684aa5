"""Scans by a registry: every state of Harbor, Quay and ECR, and what it means for the verdict.

The answers are hand-made after the documentation of each API; see `tests/support/registry_scans.py`.
Those of ECR are what botocore returns (AWS API reference, 2026), with times that have a zone.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import (
    AccessError,
    CancelledError,
    CiRegistryError,
    ExitCode,
    IntegrityError,
    NetworkError,
    NotFoundError,
    RegistryError,
    SetupError,
    ToolError,
)
from ci_registry.findings import Distribution, Gap, Inventory, Package, ScanResult, Severity
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.credentials import CredentialChain
from ci_registry.scanners.ecr import EcrApi, EcrError, open_region
from ci_registry.scanners.harbor import HarborApi
from ci_registry.scanners.interface import ImageView, ReadsRegistry
from ci_registry.scanners.quay import QuayApi
from ci_registry.scanners.registry_side import RegistryApi, RegistryScanner
from ci_registry.scanners.several import SeveralScanners
from ci_registry.scanners.staging import Staging
from ci_registry.secret import Secret
from tests.support.images import ImageSpec, make_layout
from tests.support.memory_repository import MemoryRepository
from tests.support.registry_scans import (
    PAGE,
    FakeHarbor,
    FakeQuay,
    Reply,
    quay_report,
    quay_state,
    refusal,
    reply,
)
from tests.support.remote import QuickCancel, Recorder, login, quick_client

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
DIGEST = Digest("sha256:" + "a" * 64)
HARBOR = parse_reference(f"harbor.example/acme/team/api@{DIGEST}")
QUAY = parse_reference(f"quay.example/acme/api@{DIGEST}")
ECR = parse_reference(f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/api@{DIGEST}")
INVENTORY = Inventory(
    platform="linux/amd64",
    manifest_digest=DIGEST,
    config_digest="sha256:" + "c" * 64,
    distribution=Distribution(id="debian", version="12", end_of_life=False),
    packages=(
        Package(
            ecosystem="deb",
            name="libssl3",
            version="3.0.11-1~deb12u2",
            purl="pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12",
        ),
    ),
    files_count=10,
)
FOUND = {
    "id": "CVE-2026-1000",
    "package": "libssl3",
    "version": "3.0.11-1~deb12u2",
    "fix_version": "3.0.12-1~deb12u1",
    "severity": "High",
    "description": "something is wrong\nin detail",
    "links": ["https://security.example/CVE-2026-1000"],
    "preferred_cvss": {"vector_v3": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
}


def client(answer: Callable[[str, str, Any], Reply], **settings: Any) -> Any:
    """Return an HTTP client whose requests are answered by a function."""

    def handle(request: httpx.Request) -> httpx.Response:
        status, headers, body = answer(
            request.method, request.url.raw_path.decode(), request.headers
        )
        return httpx.Response(status, headers=dict(headers), content=body)

    return quick_client(transport=httpx.MockTransport(handle), **settings)


def harbor(answer: Callable[[str, str, Any], Reply], **settings: Any) -> HarborApi:
    known = login("harbor.example", "robot", "secret-1234")
    return HarborApi(client=client(answer, **settings), credentials=known)


def quay(*answers: Reply) -> QuayApi:
    token = Secret("quay-token-1234")
    return QuayApi(client=client(FakeQuay(list(answers))), token=token, token_name="QUAY_TOKEN")


@dataclass
class FakeEcr:
    """Stands for botocore's client: answers or errors by operation, the last one for good."""

    start: list[Any] = field(default_factory=lambda: [{}])
    describe: list[Any] = field(default_factory=list)
    delete: list[Any] = field(default_factory=lambda: [{"imageIds": [], "failures": []}])
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, operation: str, **parameters: Any) -> dict[str, Any]:
        self.calls.append((operation, parameters))
        script = {
            "StartImageScan": self.start,
            "DescribeImageScanFindings": self.describe,
            "BatchDeleteImage": self.delete,
        }[operation]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    @property
    def api(self) -> EcrApi:
        return EcrApi(open_region=lambda _region: self)


def ecr_error(code: str) -> EcrError:
    return EcrError(f"ecr was refused: {code}", code=code)


def ecr_state(status: str, findings: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "imageId": {"imageDigest": str(DIGEST)},
        "imageScanStatus": {"status": status, "description": "as it is"},
        "imageScanFindings": findings or {},
        **more,
    }


ECR_BASIC = {
    "imageScanCompletedAt": NOW - timedelta(hours=1),
    "vulnerabilitySourceUpdatedAt": NOW - timedelta(hours=6),
    "findings": [
        {
            "name": "CVE-2026-1000",
            "severity": "HIGH",
            "uri": "https://security.example/CVE-2026-1000",
            "attributes": [
                {"key": "package_name", "value": "libssl3"},
                {"key": "package_version", "value": "3.0.11-1~deb12u2"},
            ],
        }
    ],
}


def scanner(api: RegistryApi, **more: Any) -> RegistryScanner:
    values: dict[str, Any] = {
        "api": api,
        "cancel": QuickCancel(),
        "now": lambda: NOW,
        "max_db_age": timedelta(hours=48),
        "timeout_s": 20.0,
    }
    return RegistryScanner(**(values | more))


def scan(api: RegistryApi, place: Reference | None, **more: Any) -> ScanResult:
    view = ImageView(
        layout=Path("/nowhere"), inventory=INVENTORY, work=Path("/nowhere"), published=place
    )
    return scanner(api, **more).scan(view)


def gaps(result: ScanResult) -> list[str]:
    return [str(gap.gap) for gap in result.coverage.gaps]


def gap_text(result: ScanResult, gap: Gap) -> str:
    return next(item.detail for item in result.coverage.gaps if item.gap is gap)


# --- Harbor


def test_harbor_is_asked_waited_for_and_read() -> None:
    fake = FakeHarbor(
        states=[None, "Pending", "Scheduled", "Running", "Success"], vulnerabilities=[FOUND]
    )
    cancel = QuickCancel()
    result = scan(harbor(fake), HARBOR, cancel=cancel)
    (finding,) = result.findings
    assert (finding.id, finding.severity) == ("CVE-2026-1000", Severity.HIGH)
    assert finding.package == INVENTORY.packages[0]
    assert finding.fixed_versions == ("3.0.12-1~deb12u1",)
    assert (gaps(result), result.scanner, result.scanner_version) == ([], "harbor", "v0.60.0")
    assert len(cancel.slept) == 4
    path = "/api/v2.0/projects/acme/repositories/team%252Fapi/artifacts/" + DIGEST
    assert [(method, target) for method, target, _ in fake.seen[:2]] == [
        ("GET", f"{path}?with_scan_overview=true"),
        ("POST", f"{path}/scan"),
    ]
    assert fake.seen[0][2]["authorization"].startswith("Basic ")


def test_harbor_scan_that_runs_already_is_waited_for() -> None:
    """Harbor answers 409 then; the report that is waited for has the id that was seen before."""
    fake = FakeHarbor(
        trigger=refusal(409, "CONFLICT"),
        states=["Running", "Running", "Success"],
        triggered=True,
        vulnerabilities=[FOUND],
    )
    assert [f.id for f in scan(harbor(fake), HARBOR).findings] == ["CVE-2026-1000"]


def test_harbor_report_of_an_earlier_scan_does_not_count() -> None:
    """Right after the request Harbor may still show what it had."""

    class Late(FakeHarbor):
        def _artifact(self, digest: str) -> Reply:
            if self.triggered and self.looks < 2:
                self.looks += 1
                overview = {"report_id": "r-0", "scan_status": self.before}
                key = "application/vnd.security.vulnerability.report; version=1.1"
                return reply({"digest": digest, "scan_overview": {key: overview}})
            return super()._artifact(digest)

    for before in ("Success", "Error"):
        fake = Late(before=before, vulnerabilities=[FOUND])
        assert [f.id for f in scan(harbor(fake), HARBOR).findings] == ["CVE-2026-1000"]
        assert fake.looks == 3


@pytest.mark.parametrize("status", [400, 412, 422])
def test_image_that_harbor_refuses_to_scan_is_a_gap(status: int) -> None:
    fake = FakeHarbor(trigger=refusal(status, "BAD", "unsupported artifact"))
    result = scan(harbor(fake), HARBOR)
    assert gaps(result) == ["not-scannable"]
    text = gap_text(result, Gap.NOT_SCANNABLE)
    assert f"HTTP {status}: BAD: unsupported artifact" in text
    assert str(HARBOR) in text


def test_clean_harbor_report_does_not_say_what_was_read() -> None:
    assert gaps(scan(harbor(FakeHarbor()), HARBOR)) == ["no-data"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_age_of_harbors_advisories_is_a_gap_where_the_login_may_not_ask(status: int) -> None:
    fake = FakeHarbor(vulnerabilities=[FOUND], metadata=refusal(status, "FORBIDDEN"))
    assert gaps(scan(harbor(fake), HARBOR)) == ["database-undated"]
    again = replace(fake, looks=0, triggered=False)
    assert gaps(scan(harbor(again), HARBOR, report_is_current=True)) == []


def test_old_advisories_of_harbor_are_stale() -> None:
    fake = FakeHarbor(vulnerabilities=[FOUND])
    assert gaps(scan(harbor(fake), HARBOR, max_db_age=timedelta(hours=5))) == ["database-stale"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"states": ["Error"]}, ToolError, "by Harbor ended with Error"),
        ({"states": ["Running", "Stopped"]}, ToolError, "by Harbor ended with Stopped"),
        ({"states": ["Wonderful"]}, ToolError, "ended with 'Wonderful'"),
        ({"report": reply({})}, ToolError, "succeeded, and has no report of it"),
        ({"report": (200, {}, b'{"applic')}, RegistryError, "not valid JSON"),
        ({"vulnerabilities": [{"id": 1}]}, ToolError, r"vulnerabilities\[0\]: id: expected"),
        ({"vulnerabilities": [7]}, ToolError, r"vulnerabilities\[0\]: expected a JSON object"),
        ({"artifact": PAGE}, RegistryError, "an HTML page, 'Log in'"),
        ({"artifact": refusal(404, "NOT_FOUND")}, NotFoundError, "HTTP 404: NOT_FOUND"),
        ({"artifact": refusal(401, "UNAUTHORIZED")}, AccessError, "HTTP 401: UNAUTHORIZED"),
        ({"trigger": refusal(403, "FORBIDDEN")}, AccessError, "ask Harbor to scan .*403"),
        ({"trigger": refusal(429, "TOO_MANY")}, RegistryError, "HTTP 429"),
        ({"trigger": refusal(503, "DOWN")}, RegistryError, "HTTP 503"),
        ({"artifact": (302, {"Location": "/login"}, b"")}, NetworkError, "redirects"),
        ({"digest": "sha256:" + "0" * 64}, IntegrityError, "its answer is about sha256:000"),
    ],
)
def test_trouble_with_harbor(
    change: dict[str, Any], error: type[CiRegistryError], message: str
) -> None:
    api = harbor(FakeHarbor(**change), retries=1)
    with pytest.raises(error, match=message) as caught:
        scan(api, HARBOR)
    expected = ExitCode.CONFIG if error is AccessError else ExitCode.INFRASTRUCTURE
    assert caught.value.exit_code is expected
    assert "secret-1234" not in caught.value.message + caught.value.hint


def test_harbor_without_a_login_or_a_project_is_told_before_anything() -> None:
    api = HarborApi(client=client(FakeHarbor()), credentials=CredentialChain())
    with pytest.raises(AccessError, match=r"no user name and password for the API of harbor"):
        scanner(api).check_place(HARBOR)
    with pytest.raises(SetupError, match="is no repository of Harbor"):
        scanner(harbor(FakeHarbor())).check_place(parse_reference(f"harbor.example/api@{DIGEST}"))


# --- Quay


def quay_feature(**vulnerability: Any) -> dict[str, Any]:
    entry = {
        "Name": "CVE-2026-1000",
        "Severity": "High",
        "FixedBy": "3.0.12-1~deb12u1",
        "NamespaceName": "debian",
        "Link": "https://security.example/1 https://security.example/2",
        "Description": "something is wrong",
        **vulnerability,
    }
    return {"Name": "libssl3", "Version": "3.0.11-1~deb12u2", "Vulnerabilities": [entry]}


def test_quay_is_waited_for_and_read() -> None:
    fake = FakeQuay([quay_state("queued"), quay_state("queued"), quay_report(quay_feature())])
    api = QuayApi(client=client(fake), token=Secret("t-12345678"), token_name="QUAY_TOKEN")
    result = scan(api, QUAY, report_is_current=True)
    (finding,) = result.findings
    assert (finding.id, finding.severity, finding.severity_source) == (
        *("CVE-2026-1000", Severity.HIGH),
        "debian",
    )
    assert (gaps(result), finding.fixed_versions) == ([], ("3.0.12-1~deb12u1",))
    assert {(method, path, headers["authorization"]) for method, path, headers in fake.seen} == {
        (
            "GET",
            f"/api/v1/repository/acme/api/manifest/{DIGEST}/security?vulnerabilities=true",
            "Bearer t-12345678",
        )
    }


def test_quay_does_not_say_how_old_its_advisories_are() -> None:
    assert gaps(scan(quay(quay_report(quay_feature())), QUAY)) == ["database-undated"]


@pytest.mark.parametrize("state", ["failed", "unsupported", "manifest_layer_too_large"])
def test_image_that_quay_can_not_scan_is_a_gap(state: str) -> None:
    result = scan(quay(quay_state("queued"), quay_state(state)), QUAY)
    assert gaps(result) == ["not-scannable"]
    assert gap_text(result, Gap.NOT_SCANNABLE) == f"quay can't scan {QUAY}: it says {state}"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (quay_state("odd"), ToolError, "its status is 'odd'"),
        (reply({}), ToolError, "its status is ''"),
        (quay_state("scanned"), ToolError, "data: expected a JSON object"),
        (reply({"status": "scanned", "data": {"Layer": {}}}), ToolError, "Features: expected"),
        (quay_report({"Name": 1}), ToolError, r"Features\[0\]: Name: expected"),
        (refusal(401, "invalid_token"), AccessError, "HTTP 401"),
        (refusal(404, "not_found"), NotFoundError, "HTTP 404"),
        (refusal(502, "down"), RegistryError, "HTTP 502"),
        (PAGE, RegistryError, "an HTML page"),
    ],
)
def test_trouble_with_quay(answer: Reply, error: type[CiRegistryError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        scan(quay(answer), QUAY)
    assert "quay-token-1234" not in caught.value.message + caught.value.hint


def test_quay_without_a_token_is_told_before_anything() -> None:
    api = QuayApi(client=client(FakeQuay([PAGE])), token=None, token_name="MY_TOKEN")
    with pytest.raises(AccessError, match="MY_TOKEN is not set"):
        scanner(api).check_place(QUAY)
    with pytest.raises(SetupError, match="is no repository of Quay"):
        scanner(api).check_place(parse_reference(f"quay.example/api@{DIGEST}"))


# --- ECR


def test_ecr_is_asked_waited_for_and_all_pages_are_read() -> None:
    second = {"findings": [{"name": "CVE-2026-2", "severity": "UNDEFINED", "attributes": []}]}
    fake = FakeEcr(
        describe=[
            ecr_error("ScanNotFoundException"),
            ecr_state("PENDING"),
            ecr_state("IN_PROGRESS"),
            ecr_state("COMPLETE", ECR_BASIC, nextToken="n-1"),
            ecr_state("COMPLETE", second),
        ]
    )
    result = scan(fake.api, ECR)
    assert {f.id: f.severity for f in result.findings} == {
        "CVE-2026-1000": Severity.HIGH,
        "CVE-2026-2": Severity.UNKNOWN,
    }
    assert result.coverage.databases[0].built_at == NOW - timedelta(hours=6)
    assert gaps(result) == ["undecided", "undecided"]  # no package, and basic scans know no fixes
    asked = {"registryId": "123456789012", "repositoryName": "team/api"}
    identity = {"imageId": {"imageDigest": str(DIGEST)}}
    assert fake.calls[0] == ("StartImageScan", asked | identity)
    assert fake.calls[-1][1]["nextToken"] == "n-1"


def test_enhanced_findings_name_packages_fixes_and_suppressed_ones() -> None:
    package = {"name": "libssl3", "version": "3.0.11", "release": "1~deb12u2", "epoch": 0}

    def entry(number: int, status: str, fixed: str) -> dict[str, Any]:
        return {
            "severity": "CRITICAL",
            "status": status,
            "title": f"CVE-2026-{number} - openssl",
            "epss": {"score": 0.5},
            "packageVulnerabilityDetails": {
                "vulnerabilityId": f"CVE-2026-{number}",
                "relatedVulnerabilities": ["GHSA-aaaa-bbbb-cccc"],
                "vulnerablePackages": [package | {"fixedInVersion": fixed}],
            },
        }

    findings = {
        "imageScanCompletedAt": NOW,
        "enhancedFindings": [
            entry(1, "ACTIVE", "3.0.12-1~deb12u1"),
            entry(2, "SUPPRESSED", "NotAvailable"),
            entry(3, "CLOSED", ""),
        ],
    }
    refused = ecr_error("ValidationException")  # enhanced scanning scans by itself
    fake = FakeEcr(start=[refused], describe=[ecr_state("ACTIVE", findings)])
    result = scan(fake.api, ECR)
    assert {f.id: (f.fixed_versions, f.fix_state) for f in result.findings} == {
        "CVE-2026-1": (("3.0.12-1~deb12u1",), "fixed"),
        "CVE-2026-2": ((), "not-fixed"),
    }
    assert {f.package for f in result.findings} == {INVENTORY.packages[0]}
    assert gaps(result) == ["database-undated"]


@pytest.mark.parametrize(
    "state",
    [
        "FAILED",
        "UNSUPPORTED_IMAGE",
        "SCAN_ELIGIBILITY_EXPIRED",
        "FINDINGS_UNAVAILABLE",
        "LIMIT_EXCEEDED",
        "IMAGE_ARCHIVED",
    ],
)
def test_image_that_ecr_can_not_scan_is_a_gap(state: str) -> None:
    result = scan(FakeEcr(describe=[ecr_state(state)]).api, ECR)
    assert gaps(result) == ["not-scannable"]
    assert f"it says {state}: as it is" in gap_text(result, Gap.NOT_SCANNABLE)


@pytest.mark.parametrize("code", ["UnsupportedImageTypeException", "ImageArchivedException"])
def test_image_that_ecr_refuses_is_a_gap(code: str) -> None:
    for fake in (FakeEcr(start=[ecr_error(code)]), FakeEcr(describe=[ecr_error(code)])):
        assert gaps(scan(fake.api, ECR)) == ["not-scannable"]


def test_scan_that_ecr_made_earlier_today_counts_with_its_age() -> None:
    old = dict(ECR_BASIC, vulnerabilitySourceUpdatedAt=NOW - timedelta(hours=50))
    fake = FakeEcr(
        start=[ecr_error("LimitExceededException")], describe=[ecr_state("COMPLETE", old)]
    )
    assert "database-stale" in gaps(scan(fake.api, ECR))


def test_ecr_answer_about_another_digest_is_the_wrong_image() -> None:
    other = ecr_state("COMPLETE", ECR_BASIC) | {"imageId": {"imageDigest": "sha256:" + "0" * 64}}
    assert "wrong-image" in gaps(scan(FakeEcr(describe=[other]).api, ECR))


@pytest.mark.parametrize(
    ("fake", "error", "message"),
    [
        (FakeEcr(start=[ecr_error("AccessDeniedException")]), AccessError, "AccessDenied"),
        (FakeEcr(describe=[ecr_error("ExpiredTokenException")]), AccessError, "ExpiredToken"),
        (FakeEcr(start=[ecr_error("ImageNotFoundException")]), NotFoundError, "ImageNotFound"),
        (FakeEcr(start=[ecr_error("ThrottlingException")]), RegistryError, "Throttling"),
        (FakeEcr(describe=[ecr_error("ServerException")]), RegistryError, "ServerException"),
        (FakeEcr(describe=[ecr_state("NEW_WORD")]), ToolError, "its status is 'NEW_WORD'"),
        (FakeEcr(describe=[{}]), ToolError, "its status is ''"),
        (
            FakeEcr(describe=[ecr_state("COMPLETE", {"findings": [{}]})]),
            ToolError,
            r"findings\[0\]: name: expected",
        ),
        (
            FakeEcr(describe=[ecr_state("ACTIVE", {"enhancedFindings": [{}]})]),
            ToolError,
            "it names no vulnerability",
        ),
        (
            FakeEcr(describe=[ecr_state("COMPLETE", {}, nextToken="again")]),
            ToolError,
            "more than 1000 pages",
        ),
    ],
)
def test_trouble_with_ecr(fake: FakeEcr, error: type[CiRegistryError], message: str) -> None:
    with pytest.raises(error, match=message):
        scan(fake.api, ECR)


@pytest.mark.parametrize(
    "host",
    ["ghcr.io", "123.dkr.ecr.eu-west-1.amazonaws.com", "public.ecr.aws", "a.dkr.ecr.b.evil.com"],
)
def test_registry_that_is_not_ecr_is_told_before_anything(host: str) -> None:
    with pytest.raises(SetupError, match="is no registry of ECR"):
        scanner(FakeEcr().api).check_place(parse_reference(f"{host}/a/b@{DIGEST}"))


def test_ecr_without_botocore_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    with pytest.raises(SetupError, match="needs botocore, which is not installed") as caught:
        open_region("eu-west-1", timeout_s=1.0, retries=0)
    assert caught.value.hint == "pip install 'ci-registry[ecr]'"


# --- severities


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("None", "NONE"),
        ("Unknown", "UNKNOWN"),
        ("Negligible", "NEGLIGIBLE"),
        ("Low", "LOW"),
        ("Medium", "MEDIUM"),
        ("High", "HIGH"),
        ("Critical", "CRITICAL"),
        ("INFORMATIONAL", "NEGLIGIBLE"),
        ("UNDEFINED", "UNKNOWN"),
        ("UNTRIAGED", "UNKNOWN"),
        ("Dreadful", "UNKNOWN"),
    ],
)
def test_words_for_severities(word: str, severity: str) -> None:
    fake = FakeHarbor(vulnerabilities=[FOUND | {"severity": word}])
    basic = dict(ECR_BASIC, findings=[ECR_BASIC["findings"][0] | {"severity": word}])  # type: ignore[index]
    results = (
        scan(harbor(fake), HARBOR),
        scan(quay(quay_report(quay_feature(Severity=word))), QUAY),
        scan(FakeEcr(describe=[ecr_state("COMPLETE", basic)]).api, ECR),
    )
    assert [str(result.findings[0].severity) for result in results] == [severity] * 3


# --- the wait


@pytest.mark.parametrize(
    ("api", "place", "word"),
    [
        (harbor(FakeHarbor(states=[None])), HARBOR, "nothing yet"),
        (harbor(FakeHarbor(states=["Running"])), HARBOR, "Running"),
        (quay(quay_state("queued")), QUAY, "queued"),
        (FakeEcr(describe=[ecr_error("ScanNotFoundException")]).api, ECR, "no scan yet"),
        (FakeEcr(describe=[ecr_state("IN_PROGRESS")]).api, ECR, "IN_PROGRESS"),
    ],
)
def test_scan_that_does_not_end_in_time_is_infrastructure(
    api: RegistryApi, place: Reference, word: str
) -> None:
    with pytest.raises(ToolError, match=f"within 0.5 s: it says {word}") as caught:
        scan(api, place, timeout_s=0.5)
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    assert "scan.timeout" in caught.value.hint


def test_wait_ends_with_the_run() -> None:
    cancel = QuickCancel()
    cancel.set("SIGTERM")
    with pytest.raises(CancelledError):
        scan(quay(quay_state("queued")), QUAY, cancel=cancel)


def test_pauses_grow_up_to_a_limit() -> None:
    cancel = QuickCancel()
    states = [quay_state("queued")] * 12
    scan(quay(*states, quay_report()), QUAY, cancel=cancel)
    assert cancel.slept[:3] == [1.0, 1.5, 2.25]
    assert cancel.slept[-1] == 10.0


# --- places


def test_image_that_is_nowhere_needs_a_staging_repository() -> None:
    alone = scanner(quay(quay_report()))
    with pytest.raises(
        SetupError, match="scanner quay reads only what is in the registry"
    ) as caught:
        alone.check_place(None)
    assert "scan.staging" in caught.value.hint
    with pytest.raises(SetupError, match="reads only what is in the registry"):
        scan(quay(quay_report()), None)
    several = SeveralScanners(scanners=(alone, alone))
    assert isinstance(several, ReadsRegistry)
    with pytest.raises(SetupError, match="reads only what is in the registry"):
        several.check_place(None)


@dataclass
class Stage:
    """A staging repository in memory, and what was taken away from it."""

    repository: MemoryRepository = field(default_factory=MemoryRepository)
    removed: list[str] = field(default_factory=list)
    removal_error: CiRegistryError | None = None
    recorder: Recorder = field(default_factory=Recorder)

    def staging(self, **more: Any) -> Staging:
        @contextlib.contextmanager
        def open_remover() -> Iterator[Callable[[Reference], None]]:
            def remove(place: Reference) -> None:
                if self.removal_error is not None:
                    raise self.removal_error
                assert place.digest is not None
                self.removed.append(place.digest)
                self.repository.delete(place.digest)

            yield remove

        values: dict[str, Any] = {
            "repository": parse_reference("quay.example/ci/staging"),
            "open": lambda _place: self.repository,
            "open_remover": open_remover,
            "cancel": Cancel(),
            "on_event": self.recorder,
        }
        return Staging(**(values | more))


def staged_view(folder: Path, *, published: Reference | None = None) -> ImageView:
    made = make_layout(folder / "layout", ImageSpec(layers=[{"etc/os-release": "ID=debian\n"}]))
    inventory = replace(INVENTORY, manifest_digest=made.digest)
    return ImageView(layout=made.layout, inventory=inventory, work=folder, published=published)


def test_image_is_in_the_staging_repository_for_the_time_of_its_scan(tmp_path: Path) -> None:
    stage = Stage()
    view = staged_view(tmp_path)
    there: list[bool] = []

    def answer(_method: str, path: str, _headers: Any) -> Reply:
        there.append(view.inventory.manifest_digest in stage.repository.manifests)
        assert f"/ci/staging/manifest/{view.inventory.manifest_digest}/" in path
        return quay_report(quay_feature())

    api = QuayApi(client=client(answer), token=Secret("t-12345678"), token_name="QUAY_TOKEN")
    result = scanner(api, staging=stage.staging(), report_is_current=True).scan(view)
    assert (there, gaps(result), len(result.findings)) == ([True], [], 1)
    assert stage.repository.blobs
    assert stage.removed == [view.inventory.manifest_digest]
    assert stage.repository.manifests == {}


@pytest.mark.parametrize(
    ("answer", "error"),
    [(quay_state("odd"), ToolError), (refusal(503, "x"), RegistryError), (PAGE, RegistryError)],
)
def test_image_is_taken_away_after_a_failure(
    tmp_path: Path, answer: Reply, error: type[CiRegistryError]
) -> None:
    stage = Stage()
    with pytest.raises(error):
        scanner(quay(answer), staging=stage.staging()).scan(staged_view(tmp_path))
    assert (len(stage.removed), stage.repository.manifests) == (1, {})


def test_image_is_taken_away_after_a_cancellation_and_a_lost_answer(tmp_path: Path) -> None:
    stage, cancel = Stage(), QuickCancel()
    cancel.set("SIGTERM")
    with pytest.raises(CancelledError):
        scanner(quay(quay_state("queued")), staging=stage.staging(), cancel=cancel).scan(
            staged_view(tmp_path)
        )
    assert stage.repository.manifests == {}

    def lose(_reference: str) -> None:
        raise NetworkError("the answer was lost")

    lossy = Stage(repository=MemoryRepository(after_push=lose))
    (tmp_path / "second").mkdir()
    with pytest.raises(NetworkError):
        scanner(quay(), staging=lossy.staging()).scan(staged_view(tmp_path / "second"))
    assert (len(lossy.removed), lossy.repository.manifests) == (1, {})


def test_image_that_can_not_be_taken_away_is_named_and_the_scan_counts(tmp_path: Path) -> None:
    stage = Stage(removal_error=AccessError("no right to delete"))
    staging = stage.staging()
    result = scanner(quay(quay_report()), staging=staging).scan(staged_view(tmp_path))
    assert "could not be taken away again: no right to delete" in result.notes[-1]
    assert "could not be taken away again" in stage.recorder.lines[-1]


def test_image_that_was_there_before_stays(tmp_path: Path) -> None:
    stage, view = Stage(), staged_view(tmp_path)
    digest = Digest(view.inventory.manifest_digest)
    body = (view.layout / "blobs" / "sha256" / digest.hex).read_bytes()
    stage.repository.push(digest, body, json.loads(body)["mediaType"])
    scanner(quay(quay_report()), staging=stage.staging()).scan(view)
    assert (stage.removed, digest in stage.repository.manifests) == ([], True)


def test_published_image_is_not_staged_unless_it_is_in_another_registry(tmp_path: Path) -> None:
    stage = Stage()
    staging = stage.staging()
    here = staged_view(tmp_path, published=QUAY)
    scanner(quay(quay_report()), staging=staging).scan(here)
    assert stage.removed == []
    scanner(quay(quay_report()), staging=staging).scan(replace(here, published=HARBOR))
    assert len(stage.removed) == 1


def test_run_that_may_write_nothing_stages_nothing(tmp_path: Path) -> None:
    stage = Stage()
    staging = stage.staging(refusal="a dry run leaves nothing there")
    with pytest.raises(AccessError, match=r"staging .*: a dry run leaves nothing there"):
        scanner(quay(quay_report()), staging=staging).check_place(None)
    with pytest.raises(AccessError):
        scanner(quay(quay_report()), staging=staging).scan(staged_view(tmp_path))
    assert stage.repository.calls == []


def test_ecr_takes_images_away_by_its_own_api() -> None:
    fake = FakeEcr()
    fake.api.remove(ECR)
    assert fake.calls == [
        (
            "BatchDeleteImage",
            {
                "registryId": "123456789012",
                "repositoryName": "team/api",
                "imageIds": [{"imageDigest": str(DIGEST)}],
            },
        )
    ]
    gone = FakeEcr(delete=[{"failures": [{"failureCode": "ImageNotFound"}]}])
    gone.api.remove(ECR)
    kept = FakeEcr(delete=[{"failures": [{"failureCode": "X", "failureReason": "in use"}]}])
    with pytest.raises(EcrError, match=r"ECR did not delete .* in use"):
        kept.api.remove(ECR)
