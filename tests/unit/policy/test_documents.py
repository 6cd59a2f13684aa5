"""Policies as values: the built-in one, inline ones, names of rules, and sentences."""

from datetime import date

import pytest

from ci_registry.config.load import SAME_AS_CHECKOUT, SourceFile, load_settings
from ci_registry.config.model import InlineDocument
from ci_registry.config.yaml_reader import read_document
from ci_registry.errors import ConfigError
from ci_registry.findings import ACCEPTABLE_GAPS, Severity
from ci_registry.oci.digest import digest_of
from ci_registry.policy import reader
from ci_registry.policy.builtin import BUILT_IN, BUILT_IN_TEXT
from ci_registry.policy.explain import rule_sentence, waiver_snippet
from ci_registry.policy.model import Action, Rule, image_matches
from ci_registry.policy.reader import read_policy
from ci_registry.policy.waivers import read_waivers
from ci_registry.results import JudgedFinding, Treatment
from tests.support.findings import make_finding, make_package


def test_the_built_in_policy_is_what_its_text_says() -> None:
    assert read_policy(BUILT_IN_TEXT.encode(), file="built-in") == BUILT_IN


def test_the_digest_is_over_the_exact_bytes() -> None:
    data = b"spec: {rules: [{severity: HIGH, action: BLOCK}]}"

    assert read_policy(data, file="p.yml").digest == digest_of(data)
    assert read_policy(data + b"\n", file="p.yml").digest != digest_of(data)


def test_acceptable_gaps_are_those_of_the_findings() -> None:
    assert {str(gap) for gap in reader._Gap} == {str(gap) for gap in ACCEPTABLE_GAPS}


def test_rules_without_id_are_named_after_what_they_do() -> None:
    text = b"""spec:
  rules:
  - {severity: HIGH, action: WARN}
  - {severity: HIGH, action: WARN, onlyFixed: true}
  - {id: high-warn-3, severity: LOW, action: WARN}
  - {severity: HIGH, action: WARN, maxCount: 3}
  - {severityAtLeast: LOW, action: BLOCK}
"""

    names = [rule.id for rule in read_policy(text, file="p.yml").rules]

    assert names == ["high-warn", "high-warn-2", "high-warn-3", "high-warn-4", "low-block"]


def test_problems_of_an_inline_policy_have_the_line_of_the_settings_file() -> None:
    text = b"images: {a: {}}\npolicy:\n  spec:\n    rules:\n    - {sevrity: HIGH, action: BLOCK}\n"
    file = SourceFile(path=".ci-registry.yml", data=text)
    inline = load_settings(
        checkout=file, trusted=SAME_AS_CHECKOUT, env={}, options={}
    ).settings.policy
    assert isinstance(inline, InlineDocument)

    with pytest.raises(ConfigError, match=r"^\.ci-registry\.yml:5: unknown key 'sevrity'"):
        read_policy(inline.text.encode(), file=inline.file, first_line=inline.line)


@pytest.mark.parametrize(
    ("max_count", "action", "on_exceed", "expected"),
    [
        (None, Action.BLOCK, Action.BLOCK, "Block on any HIGH finding."),
        (None, Action.WARN, Action.BLOCK, "Warn about any HIGH finding."),
        (0, Action.WARN, Action.BLOCK, "Block on any HIGH finding."),
        (0, Action.WARN, Action.WARN, "Warn about any HIGH finding."),
        (5, Action.WARN, Action.BLOCK, "Warn about up to 5 HIGH findings, block from the 6th."),
        (1, Action.WARN, Action.BLOCK, "Warn about up to 1 HIGH finding, block from the 2nd."),
        (11, Action.BLOCK, Action.BLOCK, "Tolerate up to 11 HIGH findings, block from the 12th."),
        (20, Action.BLOCK, Action.BLOCK, "Tolerate up to 20 HIGH findings, block from the 21st."),
        (
            5,
            Action.WARN,
            Action.WARN,
            "Warn about any HIGH finding, even when there are more than 5.",
        ),
    ],
)
def test_a_rule_is_one_sentence(
    max_count: int | None, action: Action, on_exceed: Action, expected: str
) -> None:
    rule = Rule(
        id="x", severity=Severity.HIGH, action=action, max_count=max_count, on_exceed=on_exceed
    )

    assert rule_sentence(rule) == expected


def test_the_snippet_of_a_waiver_is_valid_once_a_person_has_filled_it_in() -> None:
    finding = make_finding("RHSA-2026:1", package=make_package("libx"))
    judged = JudgedFinding(
        finding=finding,
        platform="linux/amd64",
        versions=("1.0",),
        paths=(),
        effective_severity=Severity.HIGH,
        treatment=Treatment.BLOCK,
    )
    snippet = waiver_snippet(judged, "api")

    with pytest.raises(ConfigError) as caught:
        read_waivers(f"waivers:\n{snippet}".encode(), file="w.yml", today=date(2026, 1, 1))
    assert [p.message.split(" ")[0] for p in caught.value.problems] == [
        "waivers[0].owner",
        "waivers[0].reason",
        "waivers[0].expires",
    ]
    filled = snippet.replace('owner: ""', "owner: me").replace('reason: ""', "reason: fine")
    filled = filled.replace("expires:", "expires: 2026-12-31")
    waiver = read_waivers(f"waivers:\n{filled}".encode(), file="w.yml", today=date(2026, 1, 1))[0]
    assert waiver.covers(frozenset({"rhsa-2026:1"}), make_package("libx"))
    assert waiver.is_about("api", ())


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("api", True),
        ("ghcr.io/acme/api", True),
        ("ghcr.io/*", True),
        ("*/api", True),
        ("ghcr.io/*/api", True),
        ("ghcr.io/acme/a*pi", True),
        ("ghcr.io/*acme/api*x", False),
        ("a*a*pi", False),
        ("ap", False),
        ("[a]pi", False),
        ("API", False),
    ],
)
def test_image_patterns_know_only_the_star(pattern: str, *, matches: bool) -> None:
    assert image_matches((pattern,), "api", ("ghcr.io/acme/api",)) is matches


def test_a_snippet_keeps_hostile_text_inside_its_quotes() -> None:
    finding = make_finding('X"]\n- id: evil', package=make_package("lib\n- x"))
    judged = JudgedFinding(
        finding=finding,
        platform="linux/amd64",
        versions=(),
        paths=(),
        effective_severity=Severity.HIGH,
        treatment=Treatment.BLOCK,
    )

    node = read_document(waiver_snippet(judged, "api").encode(), file="w.yml")

    assert len(node.items) == 1
    assert node.items[0].find("vulnerabilities").items[0].text == finding.id  # type: ignore[union-attr]
