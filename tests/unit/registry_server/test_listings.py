"""Listings: order, pages, filters."""

import json
from typing import Any

import pytest

from ci_registry.oci import media_types
from ci_registry.oci.digest import digest_of
from tests.support.asking import Asked, code_of, content_of

SUBJECT = digest_of(b"subject")


def _tags(ask: Asked, query: str = "") -> list[str]:
    answer = ask("GET", f"/v2/a/tags/list{query}")
    assert answer.status == 200
    return [str(tag) for tag in json.loads(content_of(answer))["tags"]]


def test_tags_come_sorted_and_in_pages(ask: Asked) -> None:
    _, body = ask.manifest("a")
    for tag in ("b", "B", "a", "_", "10", "2"):
        ask.put("a", tag, body)
    everything = ["10", "2", "B", "_", "a", "b"]
    assert _tags(ask) == everything
    assert _tags(ask, "?n=2&last=2") == ["B", "_"]
    assert _tags(ask, "?n=0") == []
    assert _tags(ask, "?last=zzz") == []
    seen, target = [], "/v2/a/tags/list?n=4"
    while target:
        answer = ask("GET", target)
        seen += json.loads(content_of(answer))["tags"]
        target = answer.header("link").partition(">")[0].removeprefix("<")
    assert seen == everything


def test_the_last_page_has_no_link(ask: Asked) -> None:
    _, body = ask.manifest("a", "one")
    ask.put("a", "two", body)
    assert ask("GET", "/v2/a/tags/list?n=2").header("link") == ""
    assert ask("GET", "/v2/a/tags/list?n=1").header("link") != ""
    ask.set(paging_link=False)
    assert ask("GET", "/v2/a/tags/list?n=1").header("link") == ""


def test_a_page_is_never_longer_than_the_registry_likes(ask: Asked) -> None:
    _, body = ask.manifest("a", "one")
    ask.put("a", "two", body)
    ask.set(page_limit=1)
    assert _tags(ask, "?n=1000") == ["one"]
    assert 'rel="next"' in ask("GET", "/v2/a/tags/list").header("link")


@pytest.mark.parametrize("n", ["-1", "x", "1e3", ""])
def test_a_page_size_that_is_no_number_is_refused(ask: Asked, n: str) -> None:
    assert ask("GET", f"/v2/a/tags/list?n={n}").status == 400


def test_tags_of_an_unknown_repository_are_404_and_of_an_untagged_one_empty(ask: Asked) -> None:
    answer = ask("GET", "/v2/a/tags/list")
    assert (answer.status, code_of(answer)) == (404, "NAME_UNKNOWN")
    ask.manifest("a")
    assert _tags(ask) == []


def test_the_catalog_lists_repositories_in_pages(ask: Asked) -> None:
    for name in ("c", "a/b", "a"):
        ask.manifest(name)
    answer = ask("GET", "/v2/_catalog?n=2")
    assert json.loads(content_of(answer)) == {"repositories": ["a", "a/b"]}
    assert answer.header("link") == '</v2/_catalog?n=2&last=a%2Fb>; rel="next"'
    answer = ask("GET", "/v2/_catalog?n=2&last=a%2Fb")
    assert json.loads(content_of(answer)) == {"repositories": ["c"]}


def _refer(ask: Asked, number: int, **members: Any) -> str:
    subject = {"mediaType": media_types.OCI_MANIFEST, "digest": SUBJECT, "size": 2}
    digest, _ = ask.manifest("a", subject=subject, annotations={"n": str(number)}, **members)
    return digest


def test_referrers_show_type_and_annotations(ask: Asked) -> None:
    first = _refer(ask, 1, artifactType="x/sbom")
    second = _refer(ask, 2)
    answer = ask("GET", f"/v2/a/referrers/{SUBJECT}")
    assert answer.header("content-type") == media_types.OCI_INDEX
    index = json.loads(content_of(answer))
    assert (index["schemaVersion"], index["mediaType"]) == (2, media_types.OCI_INDEX)
    found = {m["digest"]: (m["artifactType"], m["annotations"]) for m in index["manifests"]}
    assert found == {first: ("x/sbom", {"n": "1"}), second: (media_types.OCI_EMPTY, {"n": "2"})}


def test_referrers_are_filtered_by_type_and_say_so(ask: Asked) -> None:
    first = _refer(ask, 1, artifactType="x/sbom")
    _refer(ask, 2, artifactType="x/other")
    answer = ask("GET", f"/v2/a/referrers/{SUBJECT}?artifactType=x/sbom")
    assert [m["digest"] for m in json.loads(content_of(answer))["manifests"]] == [first]
    assert answer.header("oci-filters-applied") == "artifactType"


def test_referrers_come_in_pages(ask: Asked) -> None:
    digests = sorted(_refer(ask, n, artifactType="x/y") for n in range(5))
    ask.set(page_limit=2)
    seen, target = [], f"/v2/a/referrers/{SUBJECT}?artifactType=x%2Fy"
    while target:
        answer = ask("GET", target)
        seen += [m["digest"] for m in json.loads(content_of(answer))["manifests"]]
        target = answer.header("link").partition(">")[0].removeprefix("<")
    assert seen == digests


def test_a_deleted_referrer_is_no_longer_listed(ask: Asked) -> None:
    digest = _refer(ask, 1)
    ask("DELETE", f"/v2/a/manifests/{digest}")
    answer = ask("GET", f"/v2/a/referrers/{SUBJECT}")
    assert json.loads(content_of(answer))["manifests"] == []


def test_referrers_of_what_nobody_knows_are_empty(ask: Asked) -> None:
    answer = ask("GET", f"/v2/nobody/referrers/{SUBJECT}")
    assert (answer.status, json.loads(content_of(answer))["manifests"]) == (200, [])
    assert ask("GET", "/v2/a/referrers/sha256:abc").status == 400


def test_a_registry_without_the_referrers_api(ask: Asked) -> None:
    ask.set(referrers_api=False)
    assert ask("GET", f"/v2/a/referrers/{SUBJECT}").status == 404
