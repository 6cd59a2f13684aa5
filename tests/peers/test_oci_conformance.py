"""The official conformance suite of the OCI distribution specification against the embedded registry."""

import os
import secrets
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ci_registry.registry_server.options import TokenAuth
from ci_registry.registry_server.serve import TlsFiles
from ci_registry.registry_server.store import FolderStore
from tests.support.peers import find_peer
from tests.support.registry import RunningRegistry, running_registry
from tests.support.tls import Authority

pytestmark = pytest.mark.go_peer("oci-conformance")

ALL_OF_1_1 = 862
"""How many checks the suite makes for 1.1 with its optional parts."""
ALL_OF_DEV = 1032
"""The same for the next version, with several tags in one PUT and sparse manifests."""
OPTIONAL = {
    "OCI_API_BLOBS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
    "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
}
UNTRIED_WITH_TOKENS = 2
"""Mounts without a source: the suite's token is for the target alone, so no source may be read."""


@dataclass(frozen=True)
class Conformance:
    """A registry to test, and where results go."""

    registry: RunningRegistry
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, **settings: str) -> tuple[int, int]:
        """Run the suite; returns how many checks it made and how many cases it skipped."""
        program = find_peer("oci-conformance")
        assert program is not None
        env = {
            "PATH": os.defpath,
            "OCI_REGISTRY": self.registry.host,
            "OCI_RESULTS_DIR": str(self.folder),
            **OPTIONAL,
            **self.settings,
            **settings,
        }
        done = subprocess.run(
            [program],
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        report = ET.parse(self.folder / "junit.xml").getroot()
        failed = [
            case.get("name")
            for case in report.iter("testcase")
            if case.find("failure") is not None or case.find("error") is not None
        ]
        assert failed == [], done.stdout[-3000:]
        assert done.returncode == 0, done.stderr
        return int(report.get("tests", 0)), int(report.get("skipped", 0))


@pytest.fixture(params=["plain", "tls-and-tokens"])
def suite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Conformance]:
    """In memory over plain http, and in a folder over TLS with tokens."""
    results = tmp_path / "results"
    results.mkdir()
    if request.param == "plain":
        with running_registry() as registry:
            yield Conformance(registry, results, {"OCI_TLS": "disabled"})
        return
    authority = Authority(tmp_path)
    issued = authority.issue("server")
    password = secrets.token_hex(8)
    store = FolderStore(tmp_path / "registry", durable=False)
    with running_registry(
        store=store,
        tls=TlsFiles(certificate=issued.certificate, key=issued.key),
        users={"ann": password},
        token_auth=TokenAuth(key=secrets.token_bytes(16)),
    ) as registry:
        login = {"OCI_USERNAME": "ann", "OCI_PASSWORD": password, "OCI_CACHE_AUTH": "false"}
        tls = {"OCI_TLS": "enabled", "SSL_CERT_FILE": str(authority.file)}
        yield Conformance(registry, results, login | tls)
    store.close()


def _check(suite: Conformance, made: tuple[int, int], wanted: int) -> None:
    """A mount that was not tried leaves out the two reads after it."""
    untried = UNTRIED_WITH_TOKENS if "OCI_USERNAME" in suite.settings else 0
    checks, skipped = made
    assert skipped == untried
    assert checks >= wanted - 2 * untried


def test_everything_that_1_1_asks_for_is_there(suite: Conformance) -> None:
    _check(suite, suite.run(OCI_VERSION="1.1"), ALL_OF_1_1)


def test_everything_that_the_next_version_asks_for_is_there_and_sparse_manifests(
    suite: Conformance,
) -> None:
    object.__setattr__(suite.registry.server.options, "sparse", True)
    _check(suite, suite.run(OCI_VERSION="dev", OCI_DATA_SPARSE="true"), ALL_OF_DEV)


def test_what_a_registry_lacks_is_noticed(tmp_path: Path) -> None:
    with running_registry(patch_status=201) as registry:
        suite = Conformance(registry, tmp_path, {"OCI_TLS": "disabled"})
        with pytest.raises(AssertionError, match="chunk"):
            suite.run(OCI_VERSION="1.1")
