"""Scans by ECR: botocore against moto's server, which answers as ECR does."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from ci_registry.cancel import Cancel
from ci_registry.errors import AccessError, ExitCode, NetworkError, NotFoundError
from ci_registry.findings import Inventory, Package, ScanResult
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.scanners.ecr import EcrApi, open_region
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.registry_side import RegistryScanner
from tests.support.cli import wait_until
from tests.support.peers import find_peer

pytestmark = pytest.mark.peer("moto_server")
pytest.importorskip("botocore", reason="botocore is not installed")

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": "sha256:" + "c" * 64,
            "size": 2,
        },
        "layers": [],
    }
)
PACKAGE = Package(
    ecosystem="deb", name="moto_fake", version="9.9.9", purl="pkg:deb/moto_fake@9.9.9"
)


@pytest.fixture(name="server", scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with closing(create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    program = find_peer("moto_server")
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        env = dict(os.environ) | {"MOTO_ACCOUNT_ID": "123456789012"}
        process = subprocess.Popen(
            [str(program), "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/moto-api/data.json"), "moto answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@pytest.fixture(name="place")
def _place(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Reference:
    """Give an image in a fresh repository."""
    import botocore.session

    post(f"{server}/moto-api/reset", None)
    for name, value in (
        ("AWS_ENDPOINT_URL_ECR", server),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret"),
        ("AWS_CONFIG_FILE", str(tmp_path / "none")),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    client = botocore.session.get_session().create_client("ecr", region_name="eu-west-1")
    client.create_repository(repositoryName="team/api")
    digest = str(digest_of(MANIFEST.encode()))
    client.put_image(repositoryName="team/api", imageManifest=MANIFEST, imageDigest=digest)
    client.close()
    return parse_reference(f"{HOST}/team/api@{digest}")


def post(url: str, document: object) -> None:
    data = json.dumps(document).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5):
        pass


def script(server: str, place: Reference, *states: dict[str, Any]) -> None:
    """Have moto answer with these states, each once, the last one for good."""
    results = [
        {
            "registryId": "123456789012",
            "repositoryName": place.repository,
            "imageId": {"imageDigest": place.digest},
            **state,
        }
        for state in states
    ]
    post(
        f"{server}/moto-api/static/ecr/scan-finding-results",
        {"results": results, "region": "eu-west-1", "account_id": "123456789012"},
    )


def api() -> EcrApi:
    opened: dict[str, Any] = {}

    def open_once(region: str) -> Any:
        if region not in opened:
            opened[region] = open_region(region, timeout_s=10.0, retries=0)
        return opened[region]

    return EcrApi(open_region=open_once)


def scan(place: Reference) -> ScanResult:
    inventory = Inventory(
        platform="linux/amd64",
        manifest_digest=str(place.digest),
        config_digest="sha256:" + "c" * 64,
        distribution=None,
        packages=(PACKAGE,),
        files_count=3,
    )
    scanner = RegistryScanner(
        api=api(),
        cancel=Cancel(),
        now=lambda: datetime.now(UTC),
        max_db_age=timedelta(hours=48),
        timeout_s=20.0,
        first_pause_s=0.01,
    )
    nowhere = Path("/nowhere")
    return scanner.scan(
        ImageView(layout=nowhere, inventory=inventory, work=nowhere, published=place)
    )


def test_scan_is_asked_for_and_its_findings_are_read(place: Reference) -> None:
    result = scan(place)
    (finding,) = result.findings
    assert (finding.id, finding.package, str(finding.severity)) == (
        "CVE-9999-9999",
        PACKAGE,
        "HIGH",
    )
    assert ("cvss", "AV:N/AC:L/Au:N/C:P/I:P/A:P") in finding.severities
    built_at = result.coverage.databases[0].built_at
    assert built_at is not None
    assert abs(datetime.now(UTC) - built_at) < timedelta(minutes=5)
    names = {str(gap.gap) for gap in result.coverage.gaps}
    assert names == {
        "unknown-distribution",
        "undecided",
    }  # no os-release, and basic scans know no fixes


def test_second_scan_of_the_day_is_refused_by_ecr_and_the_first_one_counts(
    place: Reference,
) -> None:
    assert [f.id for f in (*scan(place).findings, *scan(place).findings)] == ["CVE-9999-9999"] * 2


def test_state_that_is_no_scan_is_a_gap(server: str, place: Reference) -> None:
    script(
        server, place, {"imageScanStatus": {"status": "UNSUPPORTED_IMAGE", "description": "odd"}}
    )
    names = [str(gap.gap) for gap in scan(place).coverage.gaps]
    assert "not-scannable" in names


def test_enhanced_findings(server: str, place: Reference) -> None:
    finding = {
        "severity": "CRITICAL",
        "status": "ACTIVE",
        "packageVulnerabilityDetails": {
            "vulnerabilityId": "CVE-2026-1",
            "vulnerablePackages": [
                {"name": "moto_fake", "version": "9.9.9", "fixedInVersion": "10"}
            ],
        },
    }
    completed = int(datetime.now(UTC).timestamp())
    findings = {"enhancedFindings": [finding], "imageScanCompletedAt": completed}
    script(server, place, {"imageScanStatus": {"status": "ACTIVE"}, "imageScanFindings": findings})
    (found,) = scan(place).findings
    assert (found.id, found.fixed_versions) == ("CVE-2026-1", ("10",))


def test_image_and_repository_that_are_not_there(place: Reference) -> None:
    with pytest.raises(NotFoundError, match="ImageNotFoundException"):
        scan(place.at(Digest("sha256:" + "0" * 64)))
    with pytest.raises(NotFoundError, match="RepositoryNotFoundException"):
        scan(parse_reference(f"{HOST}/team/other@{place.digest}"))


def test_image_is_taken_away_by_digest(place: Reference) -> None:
    api().remove(place)
    api().remove(place)  # it is gone: nothing to do
    with pytest.raises(NotFoundError):
        scan(place)


def test_no_login_and_no_answer(place: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:9")
    with pytest.raises(NetworkError) as caught:
        scan(place)
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(AccessError, match="no AWS login"):
        scan(place)
