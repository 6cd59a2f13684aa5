"""Documents become nodes with file and line, and what can hide something is refused."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.config.yaml_reader import MAX_NODES, Kind, Node, read_document
from ci_registry.errors import ConfigError


def problems_of(data: bytes, first_line: int = 1) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_document(data, file="f.yml", first_line=first_line)
    return [str(problem) for problem in caught.value.problems]


def test_scalars_keep_their_source_text_and_line() -> None:
    node = read_document(b"tag: 1.10\nmode: off\nquoted: '007'\n", file="f.yml")

    found = [(k.text, v.text, v.is_plain, v.line) for k, v in node.entries]

    assert found == [
        ("tag", "1.10", True, 1),
        ("mode", "off", True, 2),
        ("quoted", "007", False, 3),
    ]


def test_lines_count_from_where_an_inline_document_begins() -> None:
    assert problems_of(b"a: 1\na: 2\n", first_line=40) == [
        "f.yml:41: duplicate key 'a', first in line 40"
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: [", "f.yml:1: not YAML: while parsing a flow node: expected the node content"),
        (b"x:\n\ta: b", "f.yml:2: not YAML: while scanning for the next token"),
        (b"a: b\n\xff", "f.yml:2: not UTF-8 text: byte 0xff"),
        (b"a: \x01", "f.yml:1: not YAML: character U+0001 is not allowed"),
        (b"a: !!python/object/apply:os.system [id]", "f.yml:1: the tag !!python/object/apply:os.s"),
        (b"a: !!str 5", "f.yml:1: the tag !!str is not allowed"),
        (b"a: ! x", "f.yml:1: the tag ! is not allowed"),
        (b"--- \na: 1\n---\nb: 1\n", "f.yml:3: a second YAML document begins here"),
        (b"[a]: 1", "f.yml:1: a key must be text, this is a list"),
        (b"1.5: x", "f.yml:1: a key must be text, this is '1.5'"),
        (b"true: x", "f.yml:1: a key must be text, this is 'true'"),
        (b"a: {b: &b {c: 1}, d: {<<: *b}}", "f.yml:1: merge keys (<<) are not supported"),
        (b"a: &a [*a]", "f.yml:1: the alias *a has no anchor before it, or contains itself"),
        (b"[" * 5000, "f.yml:1: nested more than 32 deep"),
        (b"a: &a x\nb: [" + b"*a," * 51 + b"]", "f.yml:2: more than 50 aliases"),
    ],
)
def test_what_can_hide_something_is_refused(data: bytes, expected: str) -> None:
    assert problems_of(data)[0].startswith(expected)


def test_a_bomb_of_aliases_is_refused_before_it_is_expanded() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{n}: &{n} [{','.join(['*' + chr(ord(n) - 1)] * 6)}]" for n in "bcdefghi"]

    assert problems_of("\n".join(lines).encode())[-1].endswith(
        f"more than {MAX_NODES} values, aliases included"
    )


def test_a_few_aliases_are_fine_and_stand_for_their_value() -> None:
    node = read_document(b"a: &p [x, y]\nb: *p\n", file="f.yml")

    assert node.get("b") == node.get("a")


def test_too_large_a_file_is_refused_unread() -> None:
    with pytest.raises(ConfigError, match="11 bytes, more than the 10 allowed"):
        read_document(b"a: 12345678", file="f.yml", max_bytes=10)


def test_all_strictness_problems_come_at_once() -> None:
    assert len(problems_of(b"a: !!str 1\nb: 1\nb: 2\n3: 4\n")) == 3


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_document_is_an_empty_value(data: bytes) -> None:
    assert read_document(data, file="f.yml").is_empty


def test_the_source_of_a_part_parses_alone_to_the_same_value_and_lines() -> None:
    text = b"x: 1\npolicy:\n    kind: Policy\n  # odd comment\n    spec:\n      rules: [a]\ny: {z: [q,\n  r]}\n"
    node = read_document(text, file="f.yml")
    block, flow = node.get("policy"), node.get("y")
    assert block is not None
    assert flow is not None

    assert yaml.safe_load(block.source_text()) == {"kind": "Policy", "spec": {"rules": ["a"]}}
    assert yaml.safe_load(flow.source_text()) == {"z": ["q", "r"]}
    again = read_document(block.source_text().encode(), file="f.yml", first_line=block.line)
    assert again == block


def plain(node: Node) -> object:
    if node.kind is Kind.MAPPING:
        return {key.text: plain(value) for key, value in node.entries}
    return [plain(item) for item in node.items] if node.kind is Kind.LIST else node.text


words = st.text(alphabet="abcxyz: #'\"{}[]-\n", min_size=1, max_size=12)
trees = st.recursive(
    words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(trees)
@settings(max_examples=100, deadline=None)
def test_any_tree_of_text_is_read_as_pyyaml_wrote_it(tree: object) -> None:
    text = yaml.safe_dump(tree, default_style='"', allow_unicode=True)

    if "!!" not in text:
        assert plain(read_document(text.encode(), file="f.yml")) == tree
