"""Exact members and canonical base64 (S9)."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.attestations.shape import decode_base64, exact_members
from ci_registry.errors import IntegrityError


@pytest.mark.parametrize(
    "text",
    [
        "aGVsbG8",
        "aGVsbG8==",
        "aGVsbG8=\n",
        "aGVs\nbG8=",
        " aGVsbG8=",
        "aGVsbG8=aGVsbG8=",
        "aGVsbG!8=",
        "aGVsbG9=",
        "aGVs-_8=",
        "\uff41GVsbG8=",
        "=",
        "a",
    ],
)
def test_base64_that_no_encoder_writes_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="base64"):
        decode_base64(text, what="x")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50))
def test_canonical_base64_is_read_in_the_alphabets_allowed(data: bytes) -> None:
    assert decode_base64(base64.b64encode(data).decode(), what="x") == data
    assert decode_base64(base64.urlsafe_b64encode(data).decode(), what="x", url_safe=True) == data


def test_two_alphabets_in_one_text_are_refused() -> None:
    with pytest.raises(IntegrityError, match="mixed"):
        decode_base64("+-__", what="x", url_safe=True)


@pytest.mark.parametrize("value", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "B": 2}, [], None])
def test_objects_with_other_members_are_refused(value: object) -> None:
    with pytest.raises(IntegrityError):
        exact_members(value, ("a", "b"), what="x")


def test_optional_members_may_be_there_or_not() -> None:
    assert exact_members({"a": 1}, ("a",), optional=("b",), what="x") == {"a": 1}
    assert exact_members({"a": 1, "b": 2}, ("a",), optional=("b",), what="x") == {"a": 1, "b": 2}
