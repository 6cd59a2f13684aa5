"""Image references, as Docker reads them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import UsageError
from ci_registry.oci.digest import Digest
from ci_registry.oci.reference import Reference, is_loopback, is_tag, parse_reference

SHA = "sha256:" + "0123456789abcdef" * 4

READ = {
    "alpine": ("docker.io", "library/alpine", "", ""),
    "alpine:3.18": ("docker.io", "library/alpine", "3.18", ""),
    "acme/app": ("docker.io", "acme/app", "", ""),
    "docker.io/alpine": ("docker.io", "library/alpine", "", ""),
    "index.docker.io/acme/app:1": ("docker.io", "acme/app", "1", ""),
    f"alpine@{SHA}": ("docker.io", "library/alpine", "", SHA),
    f"alpine:3.18@{SHA}": ("docker.io", "library/alpine", "3.18", SHA),
    "ghcr.io/acme/app:v1.2.3": ("ghcr.io", "acme/app", "v1.2.3", ""),
    "GHCR.IO/acme/app": ("ghcr.io", "acme/app", "", ""),
    "localhost/app": ("localhost", "app", "", ""),
    "localhost:5000/app": ("localhost:5000", "app", "", ""),
    "localhost:5000": ("docker.io", "library/localhost", "5000", ""),
    "registry:5000/team/app:latest": ("registry:5000", "team/app", "latest", ""),
    "127.0.0.1:5000/a/b/c": ("127.0.0.1:5000", "a/b/c", "", ""),
    "[::1]:5000/app:1": ("[::1]:5000", "app", "1", ""),
    "[2001:db8::1]/app": ("[2001:db8::1]", "app", "", ""),
    "host.example/a--b/c__d/e.f_g:T_a-g.1": ("host.example", "a--b/c__d/e.f_g", "T_a-g.1", ""),
    "foo/bar/baz": ("docker.io", "foo/bar/baz", "", ""),
}


@pytest.mark.parametrize("text", READ)
def test_is_read_as_docker_reads_it(text: str) -> None:
    reference = parse_reference(text)
    found = (reference.registry, reference.repository, reference.tag, str(reference.digest or ""))
    assert found == READ[text]


REFUSED = {
    "": "not a repository",
    ":tag": "not a repository",
    "@" + SHA: "not a repository",
    "host.example/": "not a repository",
    "Acme/app": "not a repository",
    "ghcr.io/Acme/app": "not a repository",
    "a//b": "not a repository",
    "a/b/": "not a repository",
    "-a": "not a repository",
    "a..b": "not a repository",
    "a___b": "not a repository",
    "a b": "not a repository",
    "app\n": "not a repository",
    "app:": "is not a tag",
    "app:-x": "is not a tag",
    "acme/app:a/b": "is not a tag",
    "app:" + "x" * 129: "is not a tag",
    "app:1\n": "is not a tag",
    "app@sha256:abc": "is not a sha256 digest",
    "app@" + SHA.upper(): "is not a sha256 digest",
    f"app@{SHA}@{SHA}": "is not a sha256 digest",
    "alpine:3.18/foo": "not a registry host",
    "ho..st/app": "not a registry host",
    "ho_st.example/app": "not a registry host",
    "-host.example/app": "not a registry host",
    "host.example:0/app": "not a registry host",
    "host.example:65536/app": "not a registry host",
    "host.example:/app": "not a registry host",
    "https://host.example/app": "not a registry host",
    "user:pw@host.example/app": "is not a sha256 digest",
    "host.example/" + "a" * 250: "longer than 255",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_reference_is_refused_with_the_wrong_part(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert REFUSED[text] in caught.value.message


def test_upper_case_gets_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference("ghcr.io/Acme/App:1")
    assert caught.value.hint == "repository names are lower case"


_label = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
_host = st.builds(
    lambda labels, port: ".".join(labels) + (f":{port}" if port else ""),
    st.lists(_label, min_size=2, max_size=4),
    st.none() | st.integers(1, 65535),
)
_part = st.from_regex(r"[a-z0-9]{1,5}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)


@given(
    _host.filter(lambda host: host != "index.docker.io"),
    st.lists(_part, min_size=1, max_size=4),
    st.from_regex(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,20})?", fullmatch=True),
    st.booleans(),
)
@settings(max_examples=100)
def test_what_is_printed_is_read_back(
    host: str, parts: list[str], tag: str, with_digest: bool
) -> None:
    reference = Reference(
        registry=host,
        repository="/".join(parts),
        tag=tag,
        digest=Digest(SHA) if with_digest else None,
    )
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=40))
@settings(max_examples=100)
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert parse_reference(str(reference)) == reference


def test_a_reference_is_moved_to_a_tag_or_digest() -> None:
    reference = parse_reference(f"ghcr.io/acme/app:1@{SHA}")
    assert str(reference.tagged("2")) == "ghcr.io/acme/app:2"
    assert str(reference.at(Digest(SHA))) == f"ghcr.io/acme/app@{SHA}"
    assert reference.name == "ghcr.io/acme/app"


def test_the_digest_is_asked_for_before_the_tag_and_latest_last() -> None:
    assert parse_reference(f"a:1@{SHA}").target == SHA
    assert parse_reference("a:1").target == "1"
    assert parse_reference("a").target == "latest"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("[::1]", True),
        ("[::1]:5000", True),
        ("[::2]:5000", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("127.0.0.1.example:80", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("registry:5000", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_tags_are_those_of_the_specification() -> None:
    assert is_tag("v1.2_3-x")
    assert is_tag("_x")
    assert is_tag("x" * 128)
    assert not any(is_tag(text) for text in ("", ".x", "-x", "x" * 129, "a/b", "a\n", "ä"))
