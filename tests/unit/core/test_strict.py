"""JSON from outside: bounded, and without anything that two readers understand differently."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.errors import IntegrityError
from ci_registry.strict import (
    MAX_JSON_DEPTH,
    as_list,
    as_object,
    as_size,
    as_text,
    parse_json,
)

REFUSED = {
    "duplicate key": (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
    "duplicate key below": (b'[{"x": {"a": 1, "b": 2, "a": 3}}]', "duplicate key 'a'"),
    "escaped duplicate": (b'{"a": 1, "\\u0061": 2}', "duplicate key 'a'"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "Infinity": (b"[Infinity]", "Infinity is not JSON"),
    "minus Infinity": (b"[-Infinity]", "-Infinity is not JSON"),
    "overflow": (b"[1e999]", "out of range"),
    "BOM": (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
    "not UTF-8": (b'{"a": "\xff"}', "utf-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not valid JSON"),
    "trailing bytes": (b"{} {}", "Extra data"),
    "empty": (b"", "not valid JSON"),
    "comment": (b"{} // x", "not valid JSON"),
    "single quotes": (b"{'a': 1}", "not valid JSON"),
    "control character": (b'{"a": "\x00"}', "control character"),
    "endless number": (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
    "half a pair": (b'{"a": "\\ud800"}', "surrogate"),
    "half a pair in a key": (b'{"\\uDFFF": 1}', "surrogate"),
    "half a pair in a list": (b'["x", "\\uDc00\\ud800"]', "surrogate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_json_is_refused_by_name(case: str) -> None:
    data, words = REFUSED[case]
    with pytest.raises(IntegrityError) as caught:
        parse_json(data, what="the answer")
    assert caught.value.message.startswith("the answer: ")
    assert words in caught.value.message


def test_a_whole_surrogate_pair_is_text() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', what="x") == "\U0001f600"


def test_an_escaped_backslash_before_u_is_no_surrogate() -> None:
    assert parse_json(b'"\\\\ud800"', what="x") == "\\ud800"


def test_size_is_checked_before_anything_is_parsed() -> None:
    with pytest.raises(IntegrityError, match="11 bytes of JSON, more than 10"):
        parse_json(b"[" * 11, what="x", max_bytes=10)
    assert parse_json(b"[" + b" " * 8 + b"]", what="x", max_bytes=10) == []


@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_depth_is_bounded(pair: str) -> None:
    opening = pair[0] if pair == "[]" else '{"a":'

    def nested(depth: int) -> bytes:
        inner = "" if pair == "[]" else "1"
        return (opening * depth + inner + pair[1] * depth).encode()

    parse_json(nested(MAX_JSON_DEPTH), what="x")
    with pytest.raises(IntegrityError, match="nested 65 deep"):
        parse_json(nested(MAX_JSON_DEPTH + 1), what="x")


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[" * 500 + '\\"{' * 500
    assert parse_json(json.dumps([text]).encode(), what="x") == [text]


def test_many_brackets_side_by_side_are_no_depth() -> None:
    value = [{"a": [n]} for n in range(500)]
    assert parse_json(json.dumps(value).encode(), what="x") == value


@pytest.mark.parametrize("strict", [True, False])
def test_a_million_brackets_are_an_error_and_no_crash(strict: bool) -> None:
    with pytest.raises(IntegrityError):
        parse_json(b"[" * 1_000_000, what="x", strict=strict)


def test_lenient_reading_still_refuses_what_is_not_json() -> None:
    assert parse_json(b'{"a": 1, "a": 2}', what="x", strict=False) == {"a": 2}
    for data in (b"[NaN]", b"\xef\xbb\xbf[]", b"[\xff]", b'"\\ud800"'):
        with pytest.raises(IntegrityError):
            parse_json(data, what="x", strict=False)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab{}[]\\"'), inner),
    max_leaves=20,
)


@given(_JSON, st.booleans())
@settings(max_examples=100)
def test_what_json_can_say_is_read_as_json_reads_it(value: object, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse_json(data, what="x") == value


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_give_a_value_or_the_one_error(data: bytes) -> None:
    try:
        parse_json(data, what="x")
    except IntegrityError:
        return


def test_shapes_are_checked_by_name() -> None:
    assert as_object({"a": 1}, what="x") == {"a": 1}
    assert as_list([1], what="x") == [1]
    assert as_text("t", what="x") == "t"
    assert as_size(2**63 - 1, what="x") == 2**63 - 1
    for check, wrong, words in (
        (as_object, [], "expected a JSON object, found list"),
        (as_list, {}, "expected a JSON array, found dict"),
        (as_text, 1, "expected a JSON string, found int"),
        (as_size, True, "expected a size"),
        (as_size, -1, "expected a size"),
        (as_size, 1.0, "expected a size"),
        (as_size, "1", "expected a size"),
        (as_size, 2**63, "expected a size"),
    ):
        with pytest.raises(IntegrityError) as caught:
            check(wrong, what="manifest.size")
        assert caught.value.message.startswith(f"manifest.size: {words}")


def _depth_byte_by_byte(data: bytes) -> int:
    depth = deepest = 0
    inside = escaped = False
    for byte in data:
        if inside:
            inside = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte == ord('"'):
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


@given(st.lists(st.sampled_from([bytes([byte]) for byte in b'[]{}"\\a,\n'])).map(b"".join))
@settings(max_examples=100)
def test_depth_of_anything_is_what_a_look_at_each_byte_says(inner: bytes) -> None:
    data = b"[" * MAX_JSON_DEPTH + inner
    deep = _depth_byte_by_byte(data) > MAX_JSON_DEPTH
    with pytest.raises(IntegrityError) as caught:
        parse_json(data, what="x")
    assert ("nested" in str(caught.value)) == deep


@pytest.mark.parametrize("text", [b'"', b'"\\"', b'"a', b'"a\\'])
def test_strings_without_an_end_take_no_time(text: bytes) -> None:
    data = b"[" * 65 + text * 500_000
    with pytest.raises(IntegrityError):
        parse_json(data, what="x")
