"""The users file: scrypt and bcrypt, strict, and as slow for those who guess as it should be."""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from ci_registry.errors import ConfigError, SetupError, StorageError, UsageError
from ci_registry.registry_server.passwords import Users, hash_password
from ci_registry.secret import Secret
from ci_registry.wiring.server import parse_drain, parse_grace, users_line

PASSWORD = "corr:ect hörse"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes scrypt cheap; returns the costs that were asked for."""
    asked: list[int] = []
    real: Callable[..., bytes] = hashlib.scrypt

    def scrypt(password: bytes, **given: Any) -> bytes:
        asked.append(given.pop("n"))
        return real(password, n=2, **given)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    return asked


def _file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "users"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_password_is_checked_against_its_hash(tmp_path: Path) -> None:
    line = users_line("ann", Secret(PASSWORD), secrets.token_bytes)
    users = Users.read(_file(tmp_path, "# people", "", line), secrets.token_bytes)
    assert PASSWORD not in line
    assert users.check("ann", PASSWORD)
    assert not users.check("ann", f"{PASSWORD} ")
    assert not users.check("bob", PASSWORD)
    assert not users.check("", "")


def test_the_same_password_has_another_hash_each_time(quick: list[int]) -> None:
    made = {hash_password(Secret(PASSWORD), secrets.token_bytes) for _ in range(3)}
    assert len(made) == 3
    assert quick == [1 << 15] * 3


def test_a_user_that_does_not_exist_costs_as_much(tmp_path: Path, quick: list[int]) -> None:
    line = users_line("ann", Secret(PASSWORD), secrets.token_bytes)
    users = Users.read(_file(tmp_path, line), secrets.token_bytes)
    quick.clear()
    users.check("nobody", PASSWORD)
    users.check("ann", "wrong")
    assert quick == [1 << 15, 1 << 15]


def test_a_right_password_is_hashed_once_and_a_wrong_one_each_time(
    tmp_path: Path, quick: list[int]
) -> None:
    line = users_line("ann", Secret(PASSWORD), secrets.token_bytes)
    users = Users.read(_file(tmp_path, line), secrets.token_bytes)
    quick.clear()
    assert [users.check("ann", PASSWORD) for _ in range(5)] == [True] * 5
    assert len(quick) == 1
    assert [users.check("ann", "wrong") for _ in range(3)] == [False] * 3
    assert len(quick) == 4


def test_what_is_remembered_of_one_user_does_not_let_another_in(
    tmp_path: Path, quick: list[int]
) -> None:
    line = users_line("ann", Secret("b:c"), secrets.token_bytes)
    users = Users.read(_file(tmp_path, line), secrets.token_bytes)
    assert users.check("ann", "b:c")
    assert not users.check("annb", ":c")
    assert not users.check("ann:b", "c")


GOOD = "scrypt$15$8$1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.mark.parametrize(
    "line",
    [
        "ann",
        "ann:secret",
        "ann:$2y$05$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "ann:$2y$31$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "ann:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
        "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        f":{GOOD}",
        f"ann:{GOOD.replace('$15$', '$9$')}",
        f"ann:{GOOD.replace('$15$', '$40$')}",
        f"ann:{GOOD.replace('$8$', '$99$')}",
        f"ann:{GOOD}$",
        "ann:scrypt$15$8$1$MDEy$MDEy",
        "ann:scrypt$15$8$1$$",
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = _file(tmp_path, f"bob:{GOOD}", line)
    with pytest.raises(ConfigError, match=r"users:2: neither NAME:scrypt") as caught:
        Users.read(path, secrets.token_bytes)
    assert "serve hash-password" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_file_of_htpasswd_with_bcrypt_is_taken(tmp_path: Path) -> None:
    text = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    bob = f"bob:{text.replace('$2b$', '$2y$')}"  # as Apache writes it
    users = Users.read(_file(tmp_path, f"ann:{text}", bob, f"eve:{GOOD}"), secrets.token_bytes)
    for name in ("ann", "bob"):
        assert users.check(name, PASSWORD)
        assert not users.check(name, "wrong")
        assert not users.check(name, "x" * 100)
        assert not users.check(name, f"{PASSWORD}\0")
    assert not users.check("nobody", PASSWORD)


def test_bcrypt_without_its_package_is_told_before_anybody_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SetupError, match="bcrypt is not installed") as caught:
        Users.read(_file(tmp_path, f"ann:{text}"), secrets.token_bytes)
    assert "ci-registry[htpasswd]" in caught.value.hint
    Users.read(_file(tmp_path, f"ann:{GOOD}"), secrets.token_bytes)


def test_a_file_without_users_and_one_with_a_user_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no user in it"):
        Users.read(_file(tmp_path, "# nobody"), secrets.token_bytes)
    with pytest.raises(ConfigError, match="users:2: user ann is there twice"):
        Users.read(_file(tmp_path, f"ann:{GOOD}", f"ann:{GOOD}"), secrets.token_bytes)
    with pytest.raises(StorageError):
        Users.read(tmp_path / "none", secrets.token_bytes)


@pytest.mark.parametrize("name", ["", " ", "a:b", "#a", "a\nb"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a user name"):
        users_line(name, Secret("x"), secrets.token_bytes)
    with pytest.raises(UsageError, match="empty"):
        users_line("ann", Secret(""), secrets.token_bytes)


def test_a_grace_period_is_a_duration_or_never() -> None:
    assert [parse_grace(text) for text in ("1s", "2m", "24h", "7d", "never")] == [
        *(1.0, 120.0, 86400.0, 604800.0),
        None,
    ]
    assert [parse_drain(text) for text in ("0s", "30s")] == [0.0, 30.0]
    with pytest.raises(UsageError, match="--drain-timeout never"):
        parse_drain("never")
    for text in ("", "0", "0h", "24", "1w", "-1h", "1.5h"):
        with pytest.raises(UsageError, match="not a duration"):
            parse_grace(text)
