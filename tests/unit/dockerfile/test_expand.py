"""Variables and quotes are expanded as BuildKit expands them."""

import pytest

from ci_registry.dockerfile.expand import HEREDOC_BODY, ExpansionError, Rules, expand

ENV = {"PWD": "/home", "NULL": "", "FILE": "a/b.tar.gz"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("he$PWD", "he/home"),
        ("${NOPE:-x}", "x"),
        ("${NULL-x}", ""),
        ("${NULL:-x}", "x"),
        ("${NULL+x}", "x"),
        ("${NULL:+x}", ""),
        ("${PWD:?must be set}", "/home"),
        ("${NOPE:-${ALSO:-$PWD}}", "/home"),
        ("${FILE#*/}", "b.tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "a/b.tar"),
        ("${FILE%%.*}", "a/b"),
        ("${FILE/a/x}", "x/b.tar.gz"),
        ("${FILE//[./]/x}", "a/b.tar.gz"),
        ("${FILE//./_}", "a/b_tar_gz"),
        (r"${FILE/\//-}", "a-b.tar.gz"),
        ("'$PWD'", "$PWD"),
        ('"$PWD"', "/home"),
        (r"\$PWD", "$PWD"),
        ("$", "$"),
        ("$$x", "x"),
        ("a\\", "a"),
    ],
)
def test_text_expands(text: str, result: str) -> None:
    assert expand(text, ENV).text == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${PWD", "missing '}'"),
        ("${}", "bad substitution"),
        ("${PWD:=x}", "unsupported modifier"),
        ("${PWD:#x}", "unsupported modifier"),
        ("${NOPE:?say this}", "NOPE: say this"),
        ("${NOPE?}", "is not allowed to be unset"),
        ("${NULL:?}", "is not allowed to be empty"),
        ("'x", "single-quote"),
        ('"x', "double-quote"),
        (r"${FILE#\x}", "invalid escape"),
        ("${FILE/x}", "missing"),
    ],
)
def test_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpansionError, match=message.replace("?", r"\?")):
        expand(text, ENV)


def test_words_split_after_expansion_but_not_inside_quotes() -> None:
    assert expand("$x 'c d'", {"x": "a b"}).words == ("a", "b", "c d")


def test_used_and_unset_names_are_reported() -> None:
    result = expand("$PWD ${NOPE:-x}", ENV)
    assert (result.used, result.unset) == (frozenset({"PWD"}), frozenset({"NOPE"}))


def test_heredoc_bodies_keep_their_quotes() -> None:
    assert expand("\"$PWD\" 'x' \\$y", ENV, HEREDOC_BODY).text == "\"/home\" 'x' $y"


def test_backtick_can_be_the_escape() -> None:
    assert expand("c:\\x`$PWD", ENV, Rules(escape="`")).text == "c:\\x$PWD"
