"""Each report against its schema, its limits and the rules of its readers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
import xmlschema

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.findings import CoverageGap, Gap, ScanStatus, Severity
from ci_registry.oci.digest import Digest
from ci_registry.reports import junit
from ci_registry.reports.github import MAX_CHARS, PER_KIND, annotations, outputs
from ci_registry.reports.gitlab import render_container_scanning, render_dotenv
from ci_registry.reports.junit import render_junit
from ci_registry.reports.markdown import render_summary
from ci_registry.reports.result_json import (
    image_summary,
    read_result,
    render_result,
    result_schema,
)
from ci_registry.reports.text import render_text
from ci_registry.results import JudgedGap, RunResult, Treatment, Verdict
from tests.support.findings import AMD64, make_scan
from tests.support.results import (
    DIGEST,
    blocked_image,
    make_decision,
    make_judged,
    make_run,
    passing_image,
    sample_runs,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"
RUNS = sorted(sample_runs())


@pytest.fixture(scope="module")
def junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(SCHEMAS / "junit.xsd"))


def _many(count: int) -> RunResult:
    findings = tuple(
        replace(make_judged(f"CVE-2026-{n:05}"), paths=("p" * 900,) * 9) for n in range(count)
    )
    image = replace(blocked_image(), decision=make_decision(Verdict.BLOCK, findings=findings))
    return make_run(image)


@pytest.mark.parametrize("name", RUNS)
def test_junit_is_valid_and_read_by_others(name: str, junit_schema: xmlschema.XMLSchema) -> None:
    text = render_junit(sample_runs()[name])
    junit_schema.validate(text)
    parsed = junitparser.JUnitXml.fromstring(text.encode())
    suites = list(parsed)
    assert sum(suite.tests for suite in suites) == parsed.tests
    for suite in suites:
        cases = list(suite)
        assert suite.tests == len(cases) > 0
        kinds = [type(case.result[0]).__name__ if case.result else "" for case in cases]
        assert suite.failures == kinds.count("Failure")
        assert suite.errors == kinds.count("Error")
        assert suite.skipped == kinds.count("Skipped")


def test_junit_points_at_the_line_of_the_dockerfile() -> None:
    parsed = junitparser.JUnitXml.fromstring(render_junit(sample_runs()["crashed"]).encode())
    (case,) = [c for s in parsed for c in s if c.result and c.result[0].type == "build"]
    assert (case._elem.get("file"), case._elem.get("line")) == ("Dockerfile", "7")
    assert case.result[0].message == "RUN make: exit code 2"


def test_junit_says_what_the_verdict_rests_on() -> None:
    parsed = junitparser.JUnitXml.fromstring(render_junit(sample_runs()["blocked"]).encode())
    facts = {p.name: p.value for p in next(iter(parsed)).properties()}  # type: ignore[no-untyped-call]
    assert facts["digest"] == DIGEST
    assert facts["policy"] == "prod (enforce) from main:policy.yml"
    assert facts["scanner"] == "osv 1"
    assert facts["database"] == "osv 2026-06-15T12:00:00+00:00"
    assert facts["tool"] == "ci-registry 1.2.3"


def test_junit_of_a_flood_stays_within_the_limits(
    junit_schema: xmlschema.XMLSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = render_junit(_many(5000))
    assert len(text.encode()) <= junit.MAX_BYTES
    root = junitparser.JUnitXml.fromstring(text.encode())
    scan = next(suite for suite in root if suite.name.endswith(" scan"))
    assert scan.failures == 2001
    monkeypatch.setattr(junit, "MAX_BYTES", 2_000_000)
    text = render_junit(_many(5000))
    assert len(text.encode()) <= 2_000_000
    junit_schema.validate(text)


def test_the_same_run_gives_the_same_bytes() -> None:
    for render in (render_junit, render_container_scanning, render_result, render_summary):
        assert render(sample_runs()["several"]) == render(sample_runs()["several"])


@pytest.mark.parametrize("name", RUNS)
def test_result_json_fits_its_schema(name: str) -> None:
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(render_result(sample_runs()[name]))
    jsonschema.validate(document, schema)
    assert document["schema_version"] == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("verdict", "fine"), ("exit_code", "0"), ("images", {}), ("counts", []), ("pushed", "yes")],
)
def test_the_schema_refuses_wrong_values(key: str, value: object) -> None:
    document = json.loads(render_result(sample_runs()["passing"]))
    document[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, result_schema())


def test_result_json_has_every_output_of_the_action() -> None:
    run = sample_runs()["passing"]
    document = json.loads(render_result(run))
    paths = {"junit", "report-dir", "result"}
    made = {"plan", "cache"}
    for name in set(outputs(run, {})) - paths - made:
        assert name.replace("-", "_") in document


def test_result_json_leaves_the_package_lists_to_the_sbom() -> None:
    (image,) = json.loads(render_result(sample_runs()["passing"]))["images"]
    inventory = image["platforms"][0]["inventory"]
    assert inventory["config_digest"]
    assert "packages" not in inventory


def test_a_saved_result_is_read_back() -> None:
    saved = read_result(render_result(sample_runs()["several"]).encode())
    web, api, broken = saved.images
    assert saved.tool_version == "1.2.3"
    assert (web.name, web.verdict, web.digest) == ("web", Verdict.BLOCK, Digest(DIGEST))
    assert (api.verdict, api.policy_digest[:7]) == (Verdict.PASS, "sha256:")
    assert api.destinations == ("ghcr.io/acme/api",)
    assert (broken.digest, broken.policy_digest) == (None, "")


def test_a_saved_audit_result_still_says_what_enforce_would_say() -> None:
    decision = make_decision(Verdict.WARN, enforced=Verdict.BLOCK)
    run = make_run(replace(passing_image(), verdict=Verdict.WARN, decision=decision))
    (image,) = read_result(render_result(run).encode()).images
    assert (image.verdict, image.enforced_verdict) == (Verdict.WARN, Verdict.BLOCK)


def test_unknown_keys_of_a_saved_result_are_ignored() -> None:
    document = json.loads(render_result(sample_runs()["passing"]))
    document["new"] = {"a": 1}
    document["images"][0]["new"] = 1
    assert read_result(json.dumps(document).encode()).images[0].name == "api"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"schema_version": True}, "schema_version is True"),
        ({"schema_version": None}, "schema_version is None"),
        ({"tool_version": 1}, "tool_version"),
        ({"dry_run": "no"}, "dry_run"),
        ({"images": None}, "images"),
        ({"images": [{}]}, r"images\[0\].digest"),
        (
            {"images": [{"name": "a", "digest": "x", "verdict": "pass", "destinations": []}]},
            "not a content digest",
        ),
        ({"images": [{"digest": "", "verdict": "fine"}]}, "'fine' is no verdict"),
    ],
)
def test_a_misshapen_result_is_refused(change: dict[str, Any], message: str) -> None:
    document = json.loads(render_result(sample_runs()["passing"])) | change
    with pytest.raises(IntegrityError, match=message):
        read_result(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"schema_version":1,"schema_version":1}'])
def test_what_is_no_result_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_result(data)


def test_a_dry_run_claims_nothing_that_a_deploy_job_could_pull() -> None:
    run = sample_runs()["dry-run"]
    found = outputs(run, {})
    assert (found["pushed"], found["signed"], found["image-ref"]) == ("false", "false", "")
    assert (found["refs"], found["tags"]) == ("[]", "[]")
    assert "IMAGE_REF=\n" in render_dotenv(run)
    assert "would push" in render_text(run)
    assert "would push" in render_summary(run)
    assert json.loads(render_result(run))["images"][0]["pushed"] is False


def test_a_blocked_image_has_no_reference() -> None:
    found = outputs(sample_runs()["blocked"], {})
    assert (found["verdict"], found["exit-code"], found["failed-step"]) == ("block", "1", "judge")
    assert (found["image-ref"], found["pushed"], found["blocking-count"]) == ("", "false", "2")
    assert json.loads(found["counts"])["linux/arm64"] == {"CRITICAL": 1}


def test_with_several_images_no_digest_stands_for_the_run() -> None:
    found = outputs(sample_runs()["several"], {})
    assert (found["digest"], found["image"], found["image-ref"]) == ("", "", "")
    assert set(json.loads(found["images"])) == {"web", "api", "b.c"}
    assert json.loads(found["images"])["api"]["signed"] is True


@pytest.mark.parametrize("name", RUNS)
def test_the_same_outputs_are_set_in_every_outcome(name: str) -> None:
    run = sample_runs()[name]
    found = outputs(run, {"junit": "reports/junit.xml"})
    assert set(found) == set(outputs(sample_runs()["passing"], {}))
    assert found["junit"] == "reports/junit.xml"


def test_waived_findings_are_not_in_the_counts() -> None:
    summary = image_summary(passing_image())
    assert summary["counts"] == {"linux/amd64": {"LOW": 1}, "linux/arm64": {}}
    assert summary["waived_count"] == 1


def test_annotations_are_spent_on_what_blocks() -> None:
    run = _many(500)
    lines = annotations(run)
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == PER_KIND
    assert "title=web%3A CVE-2026-00000 in openssl" in errors[0]
    assert errors[-1].endswith("::492 more in the report") or "more in the report" in errors[-1]
    assert all(len(line) < MAX_CHARS + 500 for line in lines)


def test_a_passing_run_is_annotated_with_what_needs_attention() -> None:
    lines = annotations(sample_runs()["passing"])
    assert not [line for line in lines if line.startswith("::error")]
    assert any("file=waivers.yml,line=9" in line for line in lines)
    assert any("no tag on FROM" in line for line in lines)


def test_the_summary_keeps_to_its_budget_and_points_to_the_rest() -> None:
    run = _many(5000)
    assert len(render_summary(run).encode()) < 1_000_000
    short = render_summary(run, max_bytes=3000)
    assert len(short.encode()) <= 3000
    assert "result.json" in short.splitlines()[-1]
    assert short.startswith("## ⛔")
    assert "4500 more" in render_summary(run)


def test_blocking_findings_come_first_in_the_summary() -> None:
    listed = make_judged("CVE-2020-1", Severity.CRITICAL, Treatment.LISTED, rule_id="")
    blocking = make_judged("CVE-2026-9", Severity.HIGH)
    decision = make_decision(Verdict.BLOCK, findings=(listed, blocking))
    summary = render_summary(make_run(replace(blocked_image(), decision=decision)))
    assert summary.index("CVE-2026-9") < summary.index("CVE-2020-1")


GITLAB_SCHEMA = json.loads((SCHEMAS / "gitlab-container-scanning-15.0.7.json").read_text())


def _gitlab(run: RunResult) -> Any:
    document = json.loads(render_container_scanning(run))
    jsonschema.validate(document, GITLAB_SCHEMA)
    return document


@pytest.mark.parametrize("name", RUNS)
def test_the_gitlab_report_is_valid_and_fails_when_the_scan_is_not_whole(name: str) -> None:
    run = sample_runs()[name]
    document = _gitlab(run)
    whole = bool(run.images) and all(
        i.decision and i.decision.verdict is not Verdict.INCOMPLETE for i in run.images
    )
    assert document["scan"]["status"] == ("success" if whole else "failure")
    fatal = [m for m in document["scan"]["messages"] if m["level"] == "fatal"]
    assert bool(fatal) == (not whole)


def test_gitlab_gets_one_entry_for_all_platforms_with_a_stable_id() -> None:
    found = _gitlab(sample_runs()["blocked"])["vulnerabilities"]
    critical = [v for v in found if v["severity"] == "Critical"]
    assert len(critical) == 1
    assert critical[0]["details"]["platforms"]["value"] == "linux/amd64, linux/arm64"
    assert critical[0]["location"]["image"] == "ghcr.io/acme/web:0123abc"
    assert critical[0]["location"]["operating_system"] == "debian 12"
    assert critical[0]["identifiers"][0] == {
        "type": "cve",
        "name": "CVE-2026-0001",
        "value": "CVE-2026-0001",
        "url": "https://example.com/CVE-2026-0001",
    }
    assert critical[0]["cvss_vectors"][0]["vendor"] == "nvd"
    other = replace(blocked_image(), planned_tags=(("{sha}", "ffff"),))
    again = _gitlab(make_run(other))["vulnerabilities"]
    assert [v["id"] for v in again] == [v["id"] for v in found]
    assert len({v["id"] for v in found}) == len(found)


def test_gitlab_keeps_waived_findings_and_flags_them() -> None:
    found = _gitlab(sample_runs()["passing"])["vulnerabilities"]
    (waived,) = [v for v in found if v["name"].startswith("CVE-2026-0100")]
    assert waived["flags"][0]["origin"] == "waiver W-12"
    assert not [v for v in found if v is not waived and "flags" in v]


def test_gitlab_is_told_of_an_accepted_gap_without_failing_the_scan() -> None:
    gap = CoverageGap(gap=Gap.NO_PACKAGES, detail="no packages were found")
    accepted = JudgedGap(gap=gap, platform=AMD64, verdict=Verdict.WARN, accepted_by="team-b")
    image = replace(passing_image(), decision=make_decision(Verdict.WARN, gaps=(accepted,)))
    scan = _gitlab(make_run(image))["scan"]
    assert (scan["status"], scan["messages"][0]["level"]) == ("success", "warn")


def test_gitlab_is_told_of_a_scan_that_timed_out() -> None:
    image = replace(passing_image(), scans=(make_scan(status=ScanStatus.TIMEOUT),))
    assert _gitlab(make_run(image))["scan"]["status"] == "failure"


def test_dotenv_has_eight_variables_with_a_prefix() -> None:
    lines = render_dotenv(sample_runs()["passing"], prefix="API_").splitlines()
    assert lines == [
        f"API_REF=ghcr.io/acme/api@{DIGEST}",
        "API_NAME=ghcr.io/acme/api",
        "API_TAG=0123abc",
        f"API_DIGEST={DIGEST}",
        "API_VERDICT=pass",
        "API_SIGNED=true",
        "CI_APPLICATION_REPOSITORY=ghcr.io/acme/api",
        "CI_APPLICATION_TAG=0123abc",
    ]
    for prefix in ("", "1X", "A B", "A=B\n"):
        with pytest.raises(UsageError):
            render_dotenv(sample_runs()["passing"], prefix=prefix)


def test_the_terminal_is_told_verdict_reason_fix_and_waiver() -> None:
    text = render_text(sample_runs()["blocked"])
    assert text.startswith("BLOCK  web  sha256:")
    assert "fixed in 3.0.11-2 [linux/amd64, linux/arm64]" in text
    assert "- id: CVE-2026-0001-openssl" in text
    assert text.endswith("run: block, exit code 1\n")
    text = render_text(sample_runs()["config-error"])
    assert text.startswith("ERROR  policy.yml:3: unknown key 'sevrity'\n  hint: did you mean")


def test_nothing_found_is_not_called_clean_where_the_scan_saw_nothing() -> None:
    gap = CoverageGap(gap=Gap.NO_PACKAGES, detail="no packages were found")
    judged = JudgedGap(gap=gap, platform="linux/arm64", verdict=Verdict.INCOMPLETE)
    timeout = make_scan(platform=AMD64, status=ScanStatus.TIMEOUT)
    image = replace(
        passing_image(),
        scans=(timeout, make_scan(platform="linux/arm64")),
        decision=make_decision(Verdict.INCOMPLETE, gaps=(judged,)),
    )
    for text in (render_text(make_run(image)), render_summary(make_run(image))):
        assert "no findings" not in text
        assert "nothing found, but the scan did not cover everything" in text
    assert image_summary(image)["counts"] == {"linux/arm64": {}}


def test_an_audit_says_what_enforce_would_say() -> None:
    decision = make_decision(Verdict.WARN, enforced=Verdict.BLOCK)
    run = make_run(replace(passing_image(), verdict=Verdict.WARN, decision=decision))
    assert "enforce would say block" in render_text(run)
    assert "enforce would say **block**" in render_summary(run)
