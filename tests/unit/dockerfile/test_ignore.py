"""Ignore files leave out what moby/patternmatcher leaves out."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ci_registry.dockerfile.ignore import IgnoreMatcher, Match, ignore_file_for, read_patterns
from ci_registry.errors import BuildError


def excluded(text: str, path: str) -> bool:
    return IgnoreMatcher(read_patterns(text)).matches_with_parents(path)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("foo/\n/foo\nfoo", ("foo", "foo", "foo")),
        ("./x/../y", ("y",)),
        ("#c\n #c\n\n  a b  ", ("#c", "a b")),
        ("\ufeff#c\na", ("a",)),
        ("! /a\n!\t./b", ("!a", "!b")),
        ("a\r\nb\r\n", ("a", "b")),
        ("/\n.\n//a", ("/", ".", "a")),
        ("!", ("!",)),
    ],
)
def test_patterns_are_read_and_cleaned(text: str, patterns: tuple[str, ...]) -> None:
    assert read_patterns(text) == patterns


@pytest.mark.parametrize(
    ("text", "path", "out"),
    [
        ("*.pyc", "a.pyc", True),
        ("*.pyc", "a/b.pyc", False),
        ("**/*.pyc", "a/b.pyc", True),
        ("**/*.pyc", "b.pyc", True),
        ("node_modules", "pkg/node_modules", False),
        ("node_modules", "node_modules/x/y", True),
        ("abc/**", "abc", False),
        ("abc/**", "abc/d", True),
        ("**foo", "xfoo", True),
        ("**foo*", "xfoo", False),
        ("a**", "ab/c", True),
        (r"a\d", "a5", True),
        (r"a\d", "ad", False),
        (r"a\b", "a", True),
        ("[[:digit:]]", "7", True),
        ("[!a]", "a", True),
        ("[^a]", "a", False),
        ("A", "a", False),
        ("*\n!a", "a", False),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/c", True),
        ("a\n!a/b\na/b/c", "a/b/c", True),
        ("!a\na", "a/b", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("", "a", False),
        ("é", "é", True),
    ],
)
def test_paths_are_left_out_or_kept(text: str, path: str, *, out: bool) -> None:
    assert excluded(text, path) is out


@pytest.mark.parametrize("text", ["!", "[", "[a", "[]a]", "a\\", "[z-a]*", r"a\e", "a[[:nope:]]"])
def test_malformed_patterns_are_refused_and_name_their_file(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        IgnoreMatcher(read_patterns(text), file="x/.dockerignore")
    assert caught.value.file == "x/.dockerignore"


@pytest.mark.parametrize(
    ("text", "directory", "walk"),
    [
        ("a", "a", False),
        ("a\n!a/b", "a", True),
        ("a\n!a/b", "c", False),
        ("*\n!a/b/c", "a/b", True),
        ("*\n!a/b/c", "a/x", False),
        ("*\n!*/keep", "a", True),
        ("*\n!*/keep", "a/b", False),
        ("*\n!**/keep", "a/b/c", True),
        ("*\n!^a*/keep", "ab", True),
    ],
)
def test_excluded_directories_are_walked_only_when_an_exception_may_reach_inside(
    text: str, directory: str, *, walk: bool
) -> None:
    assert IgnoreMatcher(read_patterns(text)).must_walk(directory) is walk


def test_own_ignore_file_of_a_dockerfile_replaces_the_one_of_the_context() -> None:
    dockerfile, context = Path("/r/docker/App"), Path("/r")
    both = {Path("/r/docker/App.dockerignore"), Path("/r/.dockerignore")}
    assert ignore_file_for(dockerfile, context, both.__contains__) == Path(
        "/r/docker/App.dockerignore"
    )
    only = {Path("/r/.dockerignore")}
    assert ignore_file_for(dockerfile, context, only.__contains__) == Path("/r/.dockerignore")
    assert ignore_file_for(dockerfile, context, set[Path]().__contains__) is None


def test_lower_case_dockerfile_has_a_lower_case_ignore_file() -> None:
    there = {Path("/r/dockerfile"), Path("/r/dockerfile.dockerignore"), Path("/r/.dockerignore")}
    found = ignore_file_for(Path("/r/Dockerfile"), Path("/r"), there.__contains__)
    assert found == Path("/r/dockerfile.dockerignore")


LINES = st.lists(st.text(alphabet="ab*?!/[]^-\\d.", max_size=7), max_size=5).map("\n".join)
PATHS = st.lists(st.text(alphabet="abd5^", min_size=1, max_size=3), min_size=1, max_size=4)


def matcher_or_skip(text: str) -> IgnoreMatcher:
    try:
        return IgnoreMatcher(read_patterns(text))
    except BuildError:
        assume(condition=False)
        raise


@settings(max_examples=100, deadline=None)
@given(LINES, PATHS)
def test_shortcut_agrees_with_the_chain_of_parents(text: str, parts: list[str]) -> None:
    matcher = matcher_or_skip(text)
    match: Match | None = None
    for length in range(1, len(parts) + 1):
        match = matcher.match("/".join(parts[:length]), match)
    assert match is not None
    assert matcher.matches_with_parents("/".join(parts)) == match.excluded


@settings(max_examples=100, deadline=None)
@given(LINES, PATHS, PATHS)
def test_nothing_that_is_kept_lies_in_a_folder_that_is_not_walked(
    text: str, folder: list[str], below: list[str]
) -> None:
    matcher = matcher_or_skip(text)
    for length in range(1, len(folder) + 1):
        inside = "/".join(folder[:length])
        if matcher.matches_with_parents(inside) and not matcher.must_walk(inside):
            assert matcher.matches_with_parents("/".join([*folder, *below]))
