"""The head of an answer."""

import io

import pytest

from ci_registry.network.head import (
    MAX_FIELDS,
    CutHeadError,
    Framing,
    Head,
    MalformedHeadError,
    NoAnswerError,
    framing,
    read_head,
)


def read(text: bytes) -> Head:
    return read_head(io.BytesIO(text).readline)


def test_status_and_fields_are_read_up_to_the_empty_line() -> None:
    file = io.BytesIO(
        b"HTTP/1.1 201 Made it\r\nLocation: /a b\r\nX-A:1\r\nx-a:\t2 \r\nEmpty:\r\n\r\nbody"
    )
    head = read_head(file.readline)
    assert (head.minor_version, head.status, head.reason) == (1, 201, "Made it")
    assert head.fields == (
        (b"location", b"/a b"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"empty", b""),
    )
    assert head.all(b"x-a") == (b"1", b"2")
    assert file.read() == b"body"


@pytest.mark.parametrize("line", [b"HTTP/1.0 200\n", b"HTTP/1.1 200 \r\n", b"HTTP/1.1 200 OK\r\n"])
def test_lines_may_end_and_reasons_be_left_out_as_real_servers_do(line: bytes) -> None:
    assert read(line + b"A: b\n\n").fields == ((b"a", b"b"),)


def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert read(interim + b"HTTP/1.1 204 No Content\r\n\r\n").status == 204
    with pytest.raises(MalformedHeadError, match="interim"):
        read(interim * 9)


def test_the_end_before_the_first_byte_is_told_from_a_broken_answer() -> None:
    with pytest.raises(NoAnswerError):
        read(b"")


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nA: b", b"HTTP/1.1 200 OK\r\nA: b\r\n"]
)
def test_an_end_within_the_head_is_told_from_a_malformed_one(text: bytes) -> None:
    with pytest.raises(CutHeadError):
        read(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "status line"),
        (b"HTTP/2 200\r\n\r\n", "status line"),
        (b"HTTP/1.1 20\r\n\r\n", "status line"),
        (b"HTTP/1.1 099 x\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 a\rb\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no header field"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "no header field"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "no header field"),
        (b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "control character"),
        (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", "control character"),
        (b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9-secret\r\n\r\n", "header field X-Name is not UTF-8"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", "more than 256"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000 + b"\r\n\r\n", "larger than 131072"),
        (b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"x" * 1000 + b"\r\n") * 200, "larger than 131072"),
    ],
)
def test_what_is_no_answer_is_refused_and_its_values_are_not_shown(text: bytes, match: str) -> None:
    with pytest.raises(MalformedHeadError, match=match) as caught:
        read(text)
    assert "secret" not in str(caught.value)


def test_a_separator_that_only_python_knows_does_not_begin_a_field() -> None:
    head = read("HTTP/1.1 200 OK\r\nA: b\x85X-Evil: \u2028c\r\n\r\n".encode())
    assert [name for name, _ in head.fields] == [b"a"]


def framed(method: str, fields: bytes, *, first: bytes = b"HTTP/1.1 200 OK") -> Framing:
    return framing(method, read(first + b"\r\n" + fields + b"\r\n"))


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("GET", b"Content-Length: 5\r\n", Framing(length_bytes=5)),
        ("GET", b"Content-Length: 5, 5\r\nContent-Length: 5\r\n", Framing(length_bytes=5)),
        ("GET", b"", Framing(closes=True)),
        ("GET", b"Transfer-Encoding: Chunked\r\n", Framing(chunked=True)),
        (
            "GET",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Framing(chunked=True, closes=True),
        ),
        ("HEAD", b"Content-Length: 5\r\n", Framing(length_bytes=0)),
        ("HEAD", b"Transfer-Encoding: chunked\r\n", Framing(length_bytes=0)),
        (
            "GET",
            b"Connection: Foo, Close\r\nContent-Length: 5\r\n",
            Framing(length_bytes=5, closes=True),
        ),
    ],
)
def test_the_end_of_a_body_is_known_from_its_head(
    method: str, fields: bytes, expected: Framing
) -> None:
    assert framed(method, fields) == expected


def test_old_servers_close_unless_they_say_otherwise() -> None:
    assert framed("GET", b"Content-Length: 5\r\n", first=b"HTTP/1.0 200 OK").closes
    kept = b"Connection: keep-alive\r\nContent-Length: 5\r\n"
    assert not framed("GET", kept, first=b"HTTP/1.0 200 OK").closes


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: " + b"9" * 30 + b"\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
    ],
)
def test_an_end_that_is_not_clear_is_refused(fields: bytes) -> None:
    with pytest.raises(MalformedHeadError):
        framed("GET", fields)
