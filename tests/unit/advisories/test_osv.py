"""The OSV record parser."""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.advisories.osv import RangeType, affected_keys, parse_advisory, parse_time
from ci_registry.errors import IntegrityError
from tests.support.advisories import DATA, record


def _parse(document: object) -> object:
    return parse_advisory(json.dumps(document).encode(), what="x.json")


def test_record_is_read_whole() -> None:
    document = record(
        "DEBIAN-CVE-2026-0001",
        "Debian:12",
        "openssl",
        versions=["3.0.1-1"],
        aliases=["GHSA-a"],
        upstream=["CVE-2026-0001"],
        related=["CVE-2026-0002"],
        summary="One line\nand more",
        severity=[{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N"}],
        database_specific={"severity": "HIGH"},
    )
    advisory = parse_advisory(json.dumps(document).encode(), what="x.json")
    assert advisory.id == "DEBIAN-CVE-2026-0001"
    assert advisory.aliases == ("GHSA-a",)
    assert advisory.upstream == ("CVE-2026-0001",)
    assert advisory.related == ("CVE-2026-0002",)
    assert advisory.title == "One line"
    assert advisory.published_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert advisory.severity_word == "HIGH"
    assert not advisory.withdrawn
    (affected,) = advisory.affected
    assert (affected.ecosystem, affected.name) == ("Debian:12", "openssl")
    assert affected.ranges[0].type is RangeType.ECOSYSTEM
    assert [e.kind for e in affected.ranges[0].events] == ["introduced", "fixed"]


def test_withdrawn_is_read() -> None:
    advisory = parse_advisory(
        json.dumps(record("X-1", withdrawn="2026-02-01T00:00:00.123456789Z")).encode(), what="x"
    )
    assert advisory.withdrawn


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"id": ""},
        {"id": 7},
        {"id": "a\nb"},
        {"id": "X-1", "affected": {}},
        {"id": "X-1", "affected": [{"package": {"name": "a"}}]},
        {"id": "X-1", "aliases": "CVE-2026-1"},
        {"id": "X-1", "withdrawn": "soon"},
        {"id": "X-1", "published": "2026-01-01T00:00:00"},
        record("X-1", range_type="MAGIC"),
        record("X-1", events=[{"fixed": "1"}]),
        record("X-1", events=[{"introduced": "0", "repaired": "1"}]),
        record("X-1", events=[{"introduced": 0}]),  # type: ignore[dict-item]
        record("X-1", severity=[7]),
        record("A-1", schema_version="2.0.0"),
        record("A-1", schema_version=1),
    ],
)
def test_misshapen_record_is_an_error_that_names_the_file(document: object) -> None:
    with pytest.raises(IntegrityError, match=r"x\.json"):
        _parse(document)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "affected", "ranges", "events", "package", "type", "severity"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_a_record_or_a_named_error(document: object) -> None:
    with contextlib.suppress(IntegrityError):
        assert _parse(document)


def test_times_need_a_zone() -> None:
    assert parse_time("2026-01-01T01:00:00+01:00") == datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError):
        parse_time("2026-01-01T00:00:00")
    with pytest.raises(ValueError):
        parse_time("0001-01-01T00:00:00+05:00")


@pytest.mark.skipif(not DATA.is_dir(), reason="no sample advisories beside the checkout")
def test_every_real_sample_record_is_read() -> None:
    paths = sorted(DATA.glob("osv/*/*.json"))
    assert len(paths) == 750
    for path in paths:
        assert parse_advisory(path.read_bytes(), what=path.name).id


@pytest.mark.parametrize("version", ["1.0.0", "1.7.4", "1.99.0"])
def test_later_minor_versions_of_the_schema_are_read(version: str) -> None:
    assert _parse(record("A-1", schema_version=version, something_new=True))


def test_several_names_of_one_release_are_one() -> None:
    document = record("RHSA-1", "Red Hat:enterprise_linux:9::baseos", "openssl")
    advisory = parse_advisory(json.dumps(document).encode(), what="x.json")
    assert advisory.affected[0].ecosystem == "Red Hat:enterprise_linux:9"
    assert affected_keys(document, what="x.json")[1] == (("Red Hat:enterprise_linux:9", "openssl"),)
