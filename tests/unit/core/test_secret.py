"""Secrets do not print, and the masker finds them in every form in which tools write them."""

import base64
import copy
import html
import json
import threading
import urllib.parse
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.oci.digest import Digest
from ci_registry.results import Verdict
from ci_registry.secret import MASK, Masker, Secret

PASSWORD = 'p&ss/w<rd+"ü\\'


def test_a_secret_never_shows_its_value() -> None:
    secret = Secret("hunter2222")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", str([secret])]
    assert all("hunter2222" not in text for text in shown)
    assert not hasattr(secret, "__dict__")
    assert json.dumps({"password": secret}, default=str) == '{"password": "***"}'
    assert copy.deepcopy(secret).reveal() == "hunter2222"


def test_secrets_are_equal_by_value_and_false_when_empty() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("x")
    assert not Secret("")


FORMS = {
    "itself": PASSWORD,
    "base64": base64.b64encode(PASSWORD.encode()).decode(),
    "base64 without padding": base64.b64encode(PASSWORD.encode()).decode().rstrip("="),
    "base64url": base64.urlsafe_b64encode(PASSWORD.encode()).decode(),
    "url": urllib.parse.quote(PASSWORD, safe=""),
    "form": urllib.parse.quote_plus(PASSWORD),
    "url in lower case": urllib.parse.quote(PASSWORD, safe="").lower(),
    "JSON": json.dumps(PASSWORD)[1:-1],
    "JSON in UTF-8": json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
    "XML text": html.escape(PASSWORD, quote=False),
    "XML attribute": html.escape(PASSWORD),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_masked(form: str) -> None:
    masked = Masker([Secret(PASSWORD)]).mask(f"before {FORMS[form]} after")
    assert masked == f"before {MASK} after"


@pytest.mark.parametrize("user", ["a", "ab", "abc", "abcd"])
def test_basic_auth_is_masked_whatever_the_length_of_the_user_name(user: str) -> None:
    password = "correct-horse-battery"
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    masked = Masker([Secret(password)]).mask(f"Authorization: Basic {header}")
    assert MASK in masked
    rest = masked.replace(MASK, "").split()[-1]
    assert len(rest) <= len(header) - (len(password) * 4 // 3 - 4)


@given(
    st.text(alphabet=st.characters(codec="ascii", min_codepoint=33), min_size=8, max_size=40),
    st.binary(max_size=5),
    st.binary(max_size=5),
)
@settings(max_examples=100)
def test_base64_of_a_longer_text_keeps_no_four_bytes_of_the_secret(
    value: str, before: bytes, after: bytes
) -> None:
    encoded = base64.b64encode(before + value.encode() + after).decode()
    masked = Masker([Secret(value)]).mask(encoded)
    kept = sum(len(part) for part in masked.split(MASK))
    assert MASK in masked
    assert kept <= len(base64.b64encode(before)) + len(base64.b64encode(after)) + 8


def test_each_line_of_a_key_is_masked_alone() -> None:
    pem = "-----BEGIN KEY-----\nMIIBVQIBADAN\r\n  AbCdEfGhIjKl  \nab\n-----END KEY-----\n"
    masker = Masker([Secret(pem)])
    assert masker.mask("line: MIIBVQIBADAN") == "line: ***"
    assert masker.mask("line: AbCdEfGhIjKl.") == "line: ***."
    assert masker.mask("ab stays: cab") == "ab stays: cab"
    assert masker.mask(pem) == MASK


@pytest.mark.parametrize("value", ["", "abc", "  \n ", "\n"])
def test_values_too_short_to_protect_are_left_alone(value: str) -> None:
    assert Masker([Secret(value)]).mask("abc \n xyz") == "abc \n xyz"


def test_the_longest_form_goes_first() -> None:
    masker = Masker([Secret("token"), Secret("token-long-one")])
    assert masker.mask("x token-long-one y token z") == "x *** y *** z"


def test_secrets_added_by_many_threads_are_all_kept() -> None:
    masker = Masker()
    values = [f"secret-number-{n}-{n * 7919}" for n in range(64)]
    barrier = threading.Barrier(8)

    def add(mine: list[str]) -> None:
        barrier.wait()
        for value in mine:
            masker.add(Secret(value))

    threads = [threading.Thread(target=add, args=(values[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [value for value in values if masker.mask(value) != MASK] == []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    text: str = ""
    verdict: Verdict = Verdict.PASS
    parts: tuple["_Value | str", ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    digest: Digest | None = None
    count: int = 0


def test_values_are_masked_inside_and_enumerations_are_not() -> None:
    masker = Masker([Secret("pass"), Secret("s3cr3t!")])
    digest = Digest("sha256:" + "ab" * 32)
    value = _Value(
        text="the s3cr3t!",
        parts=(_Value(text="deep s3cr3t!"), "s3cr3t!"),
        facts={"note": "a s3cr3t! too"},
        digest=digest,
    )
    masked = masker.mask_value(value)
    assert masked.text == "the ***"
    assert masked.parts == (_Value(text="deep ***"), "***")
    assert masked.facts == {"note": "a *** too"}
    assert masked.verdict is Verdict.PASS
    assert masked.digest is digest


def test_a_value_without_secrets_comes_back_as_it_is() -> None:
    value = _Value(text="clean", parts=("a",), facts={"b": "c"})
    assert Masker([Secret("s3cr3t!")]).mask_value(value) is value
    assert Masker().mask_value(value) is value
