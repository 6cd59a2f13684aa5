"""The main job with real programs: dockerd, buildx, distribution 2.8, trivy, cosign 2 and 3, crane."""

import json
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import junitparser
import pytest
import xmlschema

from ci_registry.advisories.trivy_db import TrivyAdvisory, TrivyVulnerability, write_trivy_db
from ci_registry.findings import Severity
from ci_registry.reports.result_json import result_schema
from tests.support.docker import Dockerd
from tests.support.images import DEBIAN_OS_RELEASE, dpkg_status
from tests.support.peers import ROOT
from tests.support.place import PASSWORD, Place, write_advisories
from tests.support.step import Outcome, ask, call, get, manifest_status, signature_count, tags

pytestmark = [
    pytest.mark.peer(
        "dockerd", "docker", "docker-registry", "trivy", "cosign2", "cosign3", "crane"
    ),
    pytest.mark.xdist_group("place"),
]

VULNERABLE = ("zlib1g", "1:1.2.13.dfsg-1", "zlib")
HARMLESS = ("base-files", "12.4+deb12u5", "")
COSIGN = {
    "cosign2": ("cosign2", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog"),
    "cosign3": ("cosign3", "verify", "--key", "cosign.pub", "--insecure-ignore-tlog"),
}


def run(
    place: Place,
    report: Path,
    repository: str,
    *more: str,
    db: Path | None = None,
    context: Path | None = None,
    builder: str = "buildx",
    command: str = "run",
    env: dict[str, str] | None = None,
) -> Outcome:
    """Run the pipeline with trivy and a key, as a job would."""
    where = ("--context", str(context or place.context))
    argv = (
        *(command, "--image", f"{place.registry}/{repository}", *where, "--builder", builder),
        *("--scanner", "trivy", "--scan-db", str(db or place.trivy_cache)),
        *("--sign-key", str(place.folder / "cosign.key"), *more),
    )
    return call(argv, env=env or place.env, cwd=place.folder, report=report)


def run_program(place: Place, *argv: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        argv,
        env=place.env,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    print(*argv, done.returncode, done.stdout, done.stderr, sep="\n")
    return done


def keyless(place: Place) -> dict[str, str]:
    """Return an environment in which no private key could be used."""
    return {name: value for name, value in place.env.items() if not name.startswith("COSIGN")}


def critical(folder: Path, **options: datetime) -> Path:
    """Make a trivy database in which Debian's zlib has a CRITICAL vulnerability with a fix."""
    _, trivy = write_advisories(
        folder, severity=Severity.CRITICAL, fixed="1:99-1", now=options.get("now")
    )
    return trivy


def is_absent(place: Place, repository: str, digest: str) -> bool:
    """Ask the registry itself: no tag at all, and no manifest of that digest."""
    found = tags(place.registry, repository)
    return not found and manifest_status(place.registry, repository, digest) == 404


@dataclass(frozen=True)
class Passed:
    """An image that passed and was published, once for all tests that only look at it."""

    outcome: Outcome
    repository: str
    reference: str
    digest: str


@pytest.fixture(scope="module")
def passed(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Passed:
    outcome = run(place, tmp_path_factory.mktemp("report"), "team/app", "--tags", "v1")
    assert outcome.exit_code == 0
    reference = f"{place.registry}/team/app"
    return Passed(outcome, "team/app", reference, outcome.image["digest"])


# --- passing


@pytest.mark.parametrize("program", list(COSIGN))
def test_both_cosigns_verify_digest_and_tag(place: Place, passed: Passed, program: str) -> None:
    for at in (f"@{passed.digest}", ":v1"):
        assert run_program(place, *COSIGN[program], passed.reference + at).returncode == 0


def test_what_was_scanned_is_what_is_published(place: Place, passed: Passed) -> None:
    image = passed.outcome.image
    (platform,), (scan,) = image["platforms"], image["scans"]
    found = run_program(place, "crane", "digest", "--insecure", f"{passed.reference}:v1")

    assert found.stdout.strip() == passed.digest == passed.outcome.result["digest"]
    assert scan["coverage"]["manifest_digest"] == platform["manifest"]["digest"]
    assert passed.digest in {
        platform["manifest"]["digest"],
        *index_of(place, passed, platform["manifest"]["digest"]),
    }
    assert scan["scanner"] == "trivy"
    assert scan["coverage"]["gaps"] == []
    assert [finding["id"] for finding in scan["findings"]] == ["CVE-2026-90001"]


def index_of(place: Place, passed: Passed, child: str) -> list[str]:
    """Return the published digest when it is an index that holds the child."""
    _, index = get(place.registry, f"{passed.repository}/manifests/{passed.digest}")
    children = [entry["digest"] for entry in index.get("manifests", [])]
    return [passed.digest] if child in children else []


def test_image_runs_as_the_dockerfile_says(place: Place, passed: Passed) -> None:
    found = run_program(
        place, "crane", "config", "--insecure", f"{passed.reference}@{passed.digest}"
    )
    config = json.loads(found.stdout)["config"]

    assert (config["User"], config["Cmd"]) == ("app", ["cat", "/srv/app.txt"])


def test_reports_of_a_pass_are_valid_and_hold_no_secret(passed: Passed) -> None:
    report = passed.outcome.report
    jsonschema.validate(passed.outcome.result, result_schema())
    xmlschema.XMLSchema(str(ROOT / "tests/schemas/junit.xsd")).validate(
        str(report / "junit-ci-registry.xml")
    )
    suites = junitparser.JUnitXml.fromfile(str(report / "junit-ci-registry.xml"))

    assert suites.tests > 8
    assert suites.failures == suites.errors == 0
    shown = passed.outcome.stdout + passed.outcome.stderr
    for text in (shown, *(path.read_text() for path in report.iterdir())):
        assert PASSWORD not in text
        assert "PRIVATE KEY" not in text


def test_base_is_known_by_what_buildkit_used_and_proven_by_its_layers(
    place: Place, passed: Passed
) -> None:
    (base,) = passed.outcome.image["bases"]
    assert (base["reference"], base["reason"]) == (f"{place.registry}/base/debian:12", "")
    assert (base["layers_count"], base["newer_digest"]) == (1, "")
    assert base["digest"].startswith("sha256:")
    body = json.loads((passed.outcome.report / "sbom-app-linux-amd64.cdx.json").read_text())
    owners = {
        part["name"]: item["value"]
        for part in body["components"]
        for item in part.get("properties", ())
        if item["name"] == "ci-registry:from-base"
    }
    assert owners["zlib1g"] == "true"
    assert set(owners.values()) == {"true"}  # the own layers install nothing


def test_second_run_gives_the_same_digest_and_no_second_signature(
    place: Place, passed: Passed, tmp_path: Path
) -> None:
    before = signature_count(place.registry, passed.repository, passed.digest)

    again = run(place, tmp_path, passed.repository, "--tags", "v1")

    assert (again.exit_code, again.image["digest"]) == (0, passed.digest)
    assert before == (1, 2)  # the second bundle is the attested inventory
    assert signature_count(place.registry, passed.repository, passed.digest) == before
    assert again.image["published"][0]["blobs_uploaded"] == 0


# --- not passing


def test_blocked_image_leaves_no_name_and_a_report_with_the_way_out(
    place: Place, tmp_path: Path
) -> None:
    outcome = run(
        place, tmp_path / "report", "team/blocked", "--tags", "v1", db=critical(tmp_path / "db")
    )

    assert outcome.exit_code == 1
    assert is_absent(place, "team/blocked", outcome.image["digest"])
    assert outcome.result["verdict"] == "block"
    assert outcome.image["published"] == []
    failures = outcome.cases("failure")
    text = "\n".join(element.text or "" for element in failures.values())
    assert "CVE-2026-90001" in " ".join(failures)
    for line in ("waivers:", 'vulnerabilities: ["CVE-2026-90001"]', "owner:", "expires:", "1:99-1"):
        assert line in text
    assert {"publish", "sign", "tag"} <= {
        name.partition(":")[0] for name in outcome.cases("skipped")
    }
    jsonschema.validate(outcome.result, result_schema())


def test_ignore_file_in_the_tree_is_reported_and_not_applied(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text((place.context / "Dockerfile").read_text())
    (tmp_path / "app.txt").write_text("two\n")
    (tmp_path / ".trivyignore").write_text("CVE-2026-90001\n")
    (tmp_path / "trivy.yaml").write_text("severity: [LOW]\nignore-unfixed: true\n")
    db = critical(tmp_path / "db")

    outcome = run(
        place,
        tmp_path / "report",
        "team/ignored",
        *("--working-directory", str(tmp_path), "--context", "."),
        db=db,
    )

    assert outcome.exit_code == 1
    assert is_absent(place, "team/ignored", outcome.image["digest"])
    notes = " ".join(note for scan in outcome.image["scans"] for note in scan["notes"])
    assert ".trivyignore is in the tree and was not applied" in notes
    assert "trivy.yaml is in the tree and was not applied" in notes


def old_database(folder: Path) -> Path:
    return write_advisories(folder, now=datetime.now(UTC) - timedelta(days=9))[1]


def other_database(folder: Path) -> Path:
    """A database with Debian 11 and without Debian 12."""
    now = datetime.now(UTC)
    advisory = TrivyAdvisory(bucket="debian 11", package="zlib", id="CVE-2026-90001")
    detail = TrivyVulnerability(
        id="CVE-2026-90001", title="invented for the tests", severity=Severity.LOW
    )
    write_trivy_db(
        folder, [advisory], [detail], updated_at=now, next_update=now + timedelta(days=1)
    )
    return folder


@pytest.mark.parametrize(
    ("make_database", "gap"),
    [(old_database, "database-stale"), (other_database, "no-data")],
    ids=["stale", "not covering"],
)
def test_scan_that_cannot_know_is_incomplete_and_publishes_nothing(
    place: Place, tmp_path: Path, make_database: object, gap: str
) -> None:
    assert callable(make_database)
    outcome = run(place, tmp_path / "report", f"team/{gap}", db=make_database(tmp_path / "db"))

    assert outcome.exit_code == 5
    assert is_absent(place, f"team/{gap}", outcome.image["digest"])
    assert outcome.result["verdict"] == "incomplete"
    assert gap in [item["gap"]["gap"] for item in outcome.image["decision"]["gaps"]]
    assert [name for name in outcome.cases("error") if gap in name or "coverage" in name]


def test_absent_database_is_incomplete_too(place: Place, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()

    outcome = run(place, tmp_path / "report", "team/absent", db=tmp_path / "db")

    assert outcome.exit_code == 5
    assert is_absent(place, "team/absent", outcome.image["digest"])


# --- single steps


def test_verify_needs_only_the_public_key_and_fails_with_another(
    place: Place, passed: Passed, tmp_path: Path
) -> None:
    env, reference = keyless(place), f"{passed.reference}:v1"
    other = call(["keys", "generate"], env=place.env, cwd=tmp_path)
    assert other.exit_code == 0, other.stderr
    (public,) = tmp_path.glob("*.pub")
    ours = place.folder / "cosign.pub"

    good = call(
        ["verify", reference, "--trust", str(ours), "--check-tag"], env=env, cwd=place.folder
    )
    foreign = call(["verify", reference, "--trust", str(public)], env=env, cwd=place.folder)
    unsigned = call(["verify", place.base, "--trust", str(ours)], env=env, cwd=place.folder)

    assert (good.exit_code, foreign.exit_code, unsigned.exit_code) == (0, 6, 6)


def test_scan_of_a_reference_gives_the_verdict_of_the_run(
    place: Place, passed: Passed, tmp_path: Path
) -> None:
    (tmp_path / ".ci-registry.yml").write_text("version: 1\nimages: {one: {}, two: {}}\n")

    def scan(name: str, db: Path) -> Outcome:
        argv = ("scan", f"{passed.reference}@{passed.digest}", "--scanner", "trivy")
        return call(
            [*argv, "--scan-db", str(db)],
            env=keyless(place),
            cwd=tmp_path,
            report=tmp_path / name,
        )

    same, blocked = scan("same", place.trivy_cache), scan("blocked", critical(tmp_path / "db"))

    assert same.exit_code == 0
    first, second = passed.outcome.image, same.image
    assert second["digest"] == passed.digest
    assert second["decision"]["verdict"] == first["decision"]["verdict"]
    assert second["decision"]["reasons"] == first["decision"]["reasons"]
    assert second["counts"] == first["counts"]
    assert (blocked.exit_code, blocked.image["digest"]) == (1, passed.digest)


def test_sign_signs_only_what_passed(place: Place, tmp_path: Path) -> None:
    unsigned = run(place, tmp_path / "good", "team/later", "--tags", "v1", "--sign", "off")
    assert unsigned.exit_code == 0
    digest = unsigned.image["digest"]
    reference = f"{place.registry}/team/later@{digest}"
    argv = ("scan", reference, "--scanner", "trivy", "--scan-db", str(critical(tmp_path / "db")))
    bad = call(argv, env=place.env, cwd=tmp_path, report=tmp_path / "bad")
    assert bad.exit_code == 1

    def sign(report: Path) -> Outcome:
        key = str(place.folder / "cosign.key")
        argv = ("sign", reference, "--result", str(report / "result.json"), "--sign-key", key)
        return call(argv, env=place.env, cwd=tmp_path)

    refused = sign(bad.report)
    assert (refused.exit_code, signature_count(place.registry, "team/later", digest)) == (2, (0, 0))

    assert sign(unsigned.report).exit_code == 0
    assert signature_count(place.registry, "team/later", digest) == (1, 1)
    for command in COSIGN.values():
        assert run_program(place, *command, reference).returncode == 0


def test_dry_run_does_everything_and_writes_nothing(place: Place, tmp_path: Path) -> None:
    outcome = run(place, tmp_path, "team/dry", "--tags", "v1", "--dry-run")

    assert outcome.exit_code == 0
    assert is_absent(place, "team/dry", outcome.image["digest"])
    _, catalog = get(place.registry, "_catalog?n=1000")
    assert "team/dry" not in catalog["repositories"]
    assert outcome.result["dry_run"] is True
    assert not outcome.result["pushed"]
    done = {step["step"]: step["status"] for step in outcome.image["steps"]}
    assert {done[name] for name in ("upload", "scan", "judge", "publish", "sign", "tag")} == {
        "passed"
    }


def test_plan_writes_nothing(place: Place, tmp_path: Path) -> None:
    argv = ("plan", "--image", f"{place.registry}/team/planned", "--context", str(place.context))
    planned = call([*argv, "--tags", "v1"], env=place.env, cwd=tmp_path)

    assert planned.exit_code == 0
    _, catalog = get(place.registry, "_catalog?n=1000")
    assert "team/planned" not in catalog["repositories"]
    assert list(tmp_path.iterdir()) == []


# --- other ways in


def test_image_of_the_engine_is_taken_judged_and_published(
    place: Place, dockerd: Dockerd, tmp_path: Path
) -> None:
    dockerd.docker("pull", "--quiet", place.base)
    dockerd.docker("tag", place.base, "local/app:1")

    outcome = run(place, tmp_path, "team/engine", "--tags", "v1", "--from-engine", "local/app:1")

    assert outcome.exit_code == 0
    reference = f"{place.registry}/team/engine"
    found = run_program(place, "crane", "digest", "--insecure", f"{reference}:v1")
    assert found.stdout.strip() == outcome.image["digest"]
    assert (
        run_program(place, *COSIGN["cosign2"], f"{reference}@{outcome.image['digest']}").returncode
        == 0
    )


def test_engine_with_the_classic_image_store_builds_too(
    place: Place, dockerd_classic: Dockerd, tmp_path: Path
) -> None:
    env = place.env | {"DOCKER_HOST": dockerd_classic.host}

    outcome = run(place, tmp_path, "team/classic", "--tags", "v1", builder="auto", env=env)

    assert outcome.exit_code == 0
    assert "classic image store" in outcome.stdout
    reference = f"{place.registry}/team/classic@{outcome.image['digest']}"
    for command in COSIGN.values():
        assert run_program(place, *command, reference).returncode == 0


# --- two platforms


def two_platforms(folder: Path, arm64: tuple[str, str, str]) -> Path:
    """Write a context without RUN whose arm64 image holds another package than its amd64 image."""
    for architecture, package in (("amd64", HARMLESS), ("arm64", arm64)):
        root = folder / f"rootfs-{architecture}"
        for path, text in {
            "etc/os-release": DEBIAN_OS_RELEASE,
            "etc/debian_version": "12.5\n",
            "var/lib/dpkg/status": dpkg_status(HARMLESS, package).replace("amd64", architecture),
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    (folder / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY rootfs-$TARGETARCH/ /\n")
    return folder


PLATFORMS = ("--platforms", "linux/amd64,linux/arm64", "--tags", "v1")


@pytest.mark.parametrize(
    ("builder", "upload"), [("buildx", "overlap"), ("assemble", "after-verdict")]
)
def test_package_of_the_second_platform_alone_blocks_both(
    place: Place, tmp_path: Path, builder: str, upload: str
) -> None:
    context = two_platforms(tmp_path / "context", VULNERABLE)
    repository = f"team/two-{builder}"
    outcome = run(
        place,
        tmp_path / "report",
        repository,
        *(*PLATFORMS, "--publish-upload", upload),
        db=critical(tmp_path / "db"),
        context=context,
        builder=builder,
    )

    assert outcome.exit_code == 1
    image = outcome.image
    assert "linux/arm64" in image["decision"]["reasons"][0]
    assert "linux/amd64" not in image["decision"]["reasons"][0]
    for digest in (image["digest"], *(p["manifest"]["digest"] for p in image["platforms"])):
        assert is_absent(place, repository, digest)
    layer = image["platforms"][0]["layers"][0]["digest"]
    status, _ = ask(place.registry, f"{repository}/blobs/{layer}")
    assert status == (200 if upload == "overlap" else 404)
    failing = [name for name in outcome.cases("failure") if "CVE-2026-90001" in name]
    assert failing
    assert all("linux/arm64" in name for name in failing)


def test_index_and_every_platform_are_published_and_signed(place: Place, tmp_path: Path) -> None:
    context = two_platforms(tmp_path / "context", VULNERABLE)

    outcome = run(place, tmp_path / "report", "team/index", *PLATFORMS, context=context)

    assert outcome.exit_code == 0
    image = outcome.image
    _, index = get(place.registry, "team/index/manifests/v1")
    children = [entry["digest"] for entry in index["manifests"]]
    assert {f"{e['platform']['os']}/{e['platform']['architecture']}" for e in index["manifests"]}
    assert children == [platform["manifest"]["digest"] for platform in image["platforms"]]
    assert children == [scan["coverage"]["manifest_digest"] for scan in image["scans"]]
    reference = f"{place.registry}/team/index"
    for digest in (image["digest"], *children):
        for command in COSIGN.values():
            assert run_program(place, *command, f"{reference}@{digest}").returncode == 0
    trust = str(place.folder / "cosign.pub")
    verified = call(
        ["verify", f"{reference}:v1", "--trust", trust, "--format", "json"],
        env=keyless(place),
        cwd=place.folder,
    )
    assert verified.exit_code == 0
    assert len([c for c in json.loads(verified.stdout)["checks"] if "signature" in c["name"]]) == 3
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])
