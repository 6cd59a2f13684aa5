"""Text of strangers can't break out of any report."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.reports.escape import markdown, one_line, printable, web_link
from ci_registry.reports.github import annotations, outputs, render_output_file
from ci_registry.reports.gitlab import render_container_scanning, render_dotenv
from ci_registry.reports.junit import render_junit
from ci_registry.reports.markdown import render_summary
from ci_registry.reports.result_json import render_result
from ci_registry.reports.text import render_text
from ci_registry.results import RunResult, Verdict
from tests.support.findings import make_finding, make_package
from tests.support.results import blocked_image, make_decision, make_judged, make_run

EVIL = (
    "x]]></failure><b>&amp; \x00\x1b[2J\x9b31m\u202egpj\r\n::error::forged\n"
    "## forged | `code` | <script>alert(1)</script> [a](javascript:x) ![i](http://evil/x) @all #1 😀"
)
NASTY = st.text(
    alphabet=st.sampled_from(
        [*"a]>&<\"'|`*_[]()#@:,%\\\n\r\t\x00\x1b\x85\u2028\u202e\ufffe\ud800😀 "]
    )
)


def _run(text: str) -> RunResult:
    package = replace(make_package(), name=text, path=text, version=text, purl=f"pkg:deb/{text}@1")
    finding = replace(
        make_finding(package=package, fixed=(text,), aliases=(text,)),
        id=text,
        title=text,
        url=text,
        severity_source=text,
        severities=((text, text),),
    )
    judged = make_judged(finding=finding)
    image = blocked_image()
    decision = make_decision(Verdict.BLOCK, reasons=(text,), findings=(judged,))
    image = replace(image, error=text, action_reason=text, decision=decision, dockerfile=text)
    return make_run(image, error=text, error_hint=text, notes=(text,))


@given(NASTY)
@settings(max_examples=40, deadline=None)
def test_every_report_survives_any_text(text: str) -> None:
    run = _run(text)
    ET.fromstring(render_junit(run))
    for line in annotations(run):
        assert line.startswith(("::error ", "::warning "))
        assert not re.search(r"[\r\n\x00\x1b\x85\u2028]", line)
    json.loads(render_result(run))
    json.loads(render_container_scanning(run))
    for report in (render_text(run), render_summary(run), render_junit(run)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", report)
        report.encode()
    render_output_file(outputs(run, {}), "delimiter")


def test_xml_shows_hostile_text_and_means_nothing_by_it() -> None:
    root = ET.fromstring(render_junit(_run(EVIL)))
    assert not root.findall(".//b")
    assert not root.findall(".//script")
    assert any("<script>" in (e.text or "") for e in root.iter("failure"))


def test_markdown_shows_hostile_text_and_means_nothing_by_it() -> None:
    summary = render_summary(_run(EVIL))
    assert "<script" not in summary
    assert "](" not in summary
    assert "javascript:x" in summary
    assert "evil/x" in summary
    assert "http://evil" not in summary
    for line in summary.splitlines():
        assert not line.startswith("## forged")
        if line.startswith("|"):
            assert line.count("|") in (6, 9)


def test_workflow_commands_can_not_be_forged() -> None:
    for line in annotations(_run(EVIL)):
        assert line.count("::") >= 2
        head, _, message = line.removeprefix("::").partition("::")
        assert "\n" not in line
        assert re.fullmatch(r"(error|warning) (file|title|line)=[^:\r\n]*", head.replace(",", ""))
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", message)


def test_the_terminal_is_not_written_to_by_strangers() -> None:
    text = render_text(_run(EVIL))
    assert "\\x1b[2J\\x9b31m\\u202e" in text
    assert "\n::error::" not in text
    assert "\n## forged" not in text


def test_a_hostile_value_can_not_forge_outputs() -> None:
    with pytest.raises(IntegrityError):
        render_output_file({"image": "x\nEOF\nverdict=pass"}, "EOF")
    with pytest.raises(IntegrityError):
        render_output_file({"a<<b": "x"}, "EOF")
    assert render_output_file({"a-b": "x\ny"}, "D1") == "a-b<<D1\nx\ny\nD1\n"


def test_dotenv_values_have_no_way_out() -> None:
    image = replace(blocked_image(), destinations=('a"b\nC=d',))
    lines = render_dotenv(make_run(image)).splitlines()
    assert len(lines) == 8
    assert "IMAGE_NAME=" in lines


def test_escapes() -> None:
    assert printable("a\tb\x07") == "a    b\\x07"
    assert printable("a\r\nb\rc\u2028d") == "a\nb\nc\nd"
    assert one_line("  a\n b \x1b ") == "a b \\x1b"
    assert one_line("x" * 50, 10) == "x" * 10
    assert markdown("a|b <i> www.evil.com https://x") == (
        "a&#124;b &#60;i&#62; www&#46;evil.com https&#58;//x"
    )
    assert web_link("https://example.com/a?b=c#d") == "https://example.com/a?b=c#d"
    for url in ("javascript:alert(1)", 'https://x" onclick="y', "https://x y", "ftp://x", ""):
        assert web_link(url) == ""
