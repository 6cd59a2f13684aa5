"""Text that strangers choose (packages, advisories, branches, labels, tags) stays text everywhere."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.advisories import record, write_osv_folder
from tests.support.canaries import Canaries
from tests.support.changes import commit_base, commit_change, git, github_change
from tests.support.cli import CRITICAL, OS_RELEASE, Outcome, Project, make_project
from tests.support.images import ImageSpec, dpkg_status, make_layout, tar_of
from tests.support.registry import RunningRegistry

BRANCH = "x;touch${IFS}pwned;`id`$(id)</td><script>alert(1)</script>|%0A%0Aa"
"""What git takes for a branch; the CI's variable may hold anything."""
NAME = 'demo"]]><b>&amp;'
EVIL = (
    "]]></failure><script>alert(1)</script> \x1b[2J\x1b]0;owned\x07 \u202e\n::error::forged\n"
    "::set-output name=verdict::pass\n##[error]forged\n| a | [click](javascript:alert(1)) ![x](http://evil.example/p)"
    "\r::add-mask::x\r\n%0A::stop-commands::x\nEOF\nverdict=pass\n"
)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run on GitHub over an image full of hostile text."""

    project: Project
    done: Outcome

    @property
    def texts(self) -> dict[str, str]:
        """Every text that was written, by file name."""
        files = [*self.project.reports.iterdir(), self.project.base / "summary"]
        found = {path.name: path.read_text() for path in files if path.is_file()}
        return found | {"stdout": self.done.stdout, "stderr": self.done.stderr}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    base = tmp_path_factory.mktemp("hostile")
    label = {"Labels": {"org.opencontainers.image.title": EVIL, EVIL: EVIL}}
    image = {"from_layout": "image", "tags": ["v1", "{branch}", "{change}"], "labels": {"a": EVIL}}
    project = make_project(base, "127.0.0.1:9", images={"app": image})
    metadata = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\nSummary: {EVIL!r}\n"
    files = {
        "etc/os-release": OS_RELEASE.replace("GNU", "\x1b[31m::error::GNU"),
        "var/lib/dpkg/status": dpkg_status(("ok", "1.0", ""), ("a::error::b", "1.0]]>", "")),
        f"app/lib/python3.12/site-packages/{NAME}-1.0.dist-info/METADATA".replace(
            "/b", ""
        ): metadata,
        "srv/::error::\x1b[2Jfile": "x",
    }
    make_layout(project.folder / "image", ImageSpec(layers=[tar_of(files)], config=label))
    (base / "osv" / "records" / "CVE-2026-90001.json").unlink()
    write_osv_folder(
        base / "osv",
        record(
            "CVE-2026-90001",
            name=NAME,
            events=({"introduced": "0"}, {"fixed": "1.2"}),
            severity=[{"type": "CVSS_V3", "score": CRITICAL}],
            summary=EVIL,
            details=EVIL,
            references=[{"type": "ADVISORY", "url": "javascript:alert(1)"}],
        ),
        record("DEBIAN-2026-1", "Debian:12", "zlib"),
        record("DEBIAN-2026-2", "Debian:12", "a::error::b", summary=EVIL),
        built=datetime.now(UTC).isoformat(),
        ecosystems=("PyPI", "Debian:12"),
    )
    commit_base(project)
    commit_change(project, branch=BRANCH)
    files_of_github = {
        "GITHUB_OUTPUT": str(base / "output"),
        "GITHUB_STEP_SUMMARY": str(base / "summary"),
        "GITHUB_ENV": str(base / "env"),
        "GITHUB_PATH": str(base / "path"),
    }
    env = github_change(project, branch=f"{BRANCH}\n::error::forged") | files_of_github
    return Ran(project=project, done=project.run("run", "-v", env=env))


def test_hostile_image_is_judged_like_any_other(ran: Ran) -> None:
    assert ran.done.exit_code in (1, 5), ran.done.stderr
    image = ran.project.result()["images"][0]
    assert image["verdict"] in ("block", "incomplete")
    names = {f["finding"]["package"]["name"] for f in image["decision"]["findings"]}
    assert any("demo" in name for name in names), names
    assert "Traceback" not in ran.done.stderr


def test_no_control_character_reaches_console_or_reports(ran: Ran) -> None:
    for name, text in ran.texts.items():
        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", text), name


def test_only_our_own_workflow_commands_stand_on_the_console(ran: Ran) -> None:
    for line in (ran.done.stdout + "\n" + ran.done.stderr).splitlines():
        assert "##[" not in line
        if re.match(r"\s*::", line):
            assert re.match(
                r"::(?:(?:error|warning|notice)(?: (?:file|line|title)=[^:]*)?::|group::|endgroup::)",
                line,
            ), line
            assert "\r" not in line
    assert "::error::forged" not in [line.strip() for line in ran.done.stdout.splitlines()]


def test_outputs_of_the_step_hold_only_our_names(ran: Ran) -> None:
    text = (ran.project.base / "output").read_text()
    values: dict[str, str] = {}
    for match in re.finditer(
        r"^([a-z-]+)<<(ci_registry_[0-9a-f]+)\n(.*?)\n?^\2$\n", text, re.MULTILINE | re.DOTALL
    ):
        values[match[1]] = match[3]
        text = text.replace(match[0], "", 1)
    assert text == ""
    assert values["verdict"] in ("block", "incomplete")
    assert {"verdict", "digest", "image-ref", "junit", "result"} <= set(values)
    assert not (ran.project.base / "env").exists()
    assert not (ran.project.base / "path").exists()


def test_reports_stay_well_formed(ran: Ran) -> None:
    texts = ran.texts
    root = ET.fromstring(texts["junit-ci-registry.xml"])
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "failure", "error", "skipped"),
        *("system-out", "system-err", "properties", "property"),
    }
    json.loads(texts["result.json"])
    json.loads(texts["gl-container-scanning-report.json"])
    for line in texts["image.env"].splitlines():
        assert re.fullmatch(r"[A-Z_]+=[^\r\n\"'`$;|&<>\\ ]*", line), line


def test_summary_has_no_markup_of_strangers(ran: Ran) -> None:
    for name in ("summary.md", "summary"):
        text = ran.texts[name]
        assert "<script" not in text
        assert "](javascript:" not in text
        assert "http://evil.example" not in text
        assert not [line for line in text.splitlines() if line.startswith("::")]


def test_branch_reaches_no_shell_and_no_place_but_a_tag(ran: Ran) -> None:
    assert not list(ran.project.base.rglob("pwned"))
    tags = [tag for _, tag in ran.project.result()["images"][0]["planned_tags"] if tag]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag) for tag in tags)


def test_branch_that_is_pushed_becomes_a_harmless_tag_and_label(
    project: Project, registry: RunningRegistry, canaries: Canaries
) -> None:
    settings = project.folder / ".ci-registry.yml"
    document = json.loads(settings.read_text())
    document["images"]["app"]["tags"] = ["{branch}"]
    settings.write_text(json.dumps(document))
    git(project.folder, "init", "-q", "-b", BRANCH)
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "one")

    done = project.run("run", env=canaries.env)

    assert done.exit_code == 0, done.stderr
    (tag,) = [t for _, t in project.result()["images"][0]["planned_tags"]]
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag)
    assert registry.count("PUT", f"/manifests/{tag}") == 1
    assert not list(project.base.rglob("pwned"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tags", ["v1\n::error::x"]),
        ("tags", ["{branch}$(id)"]),
        ("repository", "--output=x"),
    ],
)
def test_tags_and_repositories_out_of_the_grammar_are_refused(
    tmp_path: Path, registry: RunningRegistry, key: str, value: object
) -> None:
    project = make_project(tmp_path, registry, images={"app": {key: value}})

    done = project.run("run")

    assert done.exit_code == 2, done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert registry.seen == []
