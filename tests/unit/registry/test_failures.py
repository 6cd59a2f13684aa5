"""Error answers of registries, as real ones send them."""

import pytest

from ci_registry.errors import AccessError, NotFoundError, RegistryError
from ci_registry.network.message import Headers, Response
from ci_registry.registry.failures import error_of, failure, tag_refusal


def response(status: int, body: bytes) -> Response:
    return Response(status=status, url="https://r.example/", headers=Headers(), body=body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"errors":[{"code":"DENIED","message":"no"}]}', ": DENIED: no"),
        (b'{"errors":[{"code":"DENIED","message":null,"detail":{}}]}', ": DENIED"),
        (b'{"errors":[]}', ""),
        (b'{"errors":["x"]}', ""),
        (b'{"error":"invalid_grant","error_description":"expired"}', ": invalid_grant: expired"),
        (b"<html><head><title>503\n&amp; more</title>", ": an HTML page, '503\\n& more'"),
        (b"<!DOCTYPE html><p>x", ": an HTML page"),
        (b"toomanyrequests: slow down\nplease", ": toomanyrequests: slow down"),
        (b"\xff\xfe\x1b[31mred", ": \ufffd\ufffd[31mred"),
        (b"", ""),
        (b'"text"', ""),
        (b'{"errors":[{"code":1,"message":["x"]}]}', ""),
    ],
)
def test_any_body_becomes_at_most_one_line(body: bytes, expected: str) -> None:
    assert error_of(response(500, body)).text == expected


def test_status_decides_the_class_and_the_hint() -> None:
    def of(status: int, *, writing: bool = False) -> Exception:
        return failure(response(status, b""), doing="push x", host="ghcr.io", writing=writing)

    assert isinstance(of(401), AccessError)
    denied = of(403, writing=True)
    assert isinstance(denied, AccessError)
    assert "no right to push" in denied.hint
    nobody = failure(response(403, b""), doing="read x", host="r.example", is_anonymous=True)
    assert nobody.hint.startswith("log in first: docker login r.example")
    assert isinstance(of(404), NotFoundError)
    for status in (400, 405, 413, 429, 500, 507):
        error = of(status)
        assert isinstance(error, RegistryError)
        assert error.status == status


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "docker-credential-ecr-login"),
        ("acme.azurecr.io", "docker-credential-acr-env"),
        ("europe-west3-docker.pkg.dev", "docker-credential-gcloud"),
        ("r.example", "docker login r.example"),
    ],
)
def test_without_a_login_the_hint_names_what_this_registry_wants(host: str, named: str) -> None:
    error = failure(response(401, b""), doing="read x", host=host)
    assert named in error.hint
    assert host in error.hint


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (409, b""),
        (409, b'{"errors":[{"code":"TAG_IMMUTABLE","message":"tag v1"}]}'),
        (400, b'{"errors":[{"code":"TAG_INVALID","message":"The image tag \'v1\' already exists in the \'app\' repository and cannot be overwritten because the repository is immutable."}]}'),
        (412, b'{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to \'app:v1\' configured as immutable."}]}'),
        (403, b'{"errors":[{"code":"DENIED","message":"tag is immutable"}]}'),
    ],
)  # fmt: skip
def test_immutable_tags_are_recognised_in_every_dialect(status: int, body: bytes) -> None:
    error = tag_refusal(response(status, body), tag="v1", name="r.example/app")
    assert error is not None
    assert "tag v1 of r.example/app" in error.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (201, b""),
        (400, b'{"errors":[{"code":"MANIFEST_INVALID","message":"bad"}]}'),
        (401, b"immutable"),
        (403, b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'),
        (500, b"immutable"),
    ],
)
def test_other_refusals_are_not_taken_for_an_immutable_tag(status: int, body: bytes) -> None:
    assert tag_refusal(response(status, body), tag="v1", name="r.example/app") is None
