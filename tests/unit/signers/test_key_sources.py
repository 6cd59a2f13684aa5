"""Where a signing key comes from: absent is not the same as unusable."""

from pathlib import Path

import pytest

from ci_registry.errors import SetupError
from ci_registry.secret import Secret
from ci_registry.signers.keys import read_key_source, read_password


@pytest.mark.parametrize("env", [{}, {"KEY": ""}, {"KEY": " \n"}])
def test_missing_variable_is_absent_also_as_ci_systems_set_missing_secrets(
    env: dict[str, str],
) -> None:
    assert read_key_source("env://KEY", env) is None


def test_variable_is_read() -> None:
    assert read_key_source("env://KEY", {"KEY": "text"}) == Secret("text")


def test_missing_file_is_absent_and_a_present_one_is_read(tmp_path: Path) -> None:
    assert read_key_source("cosign.key", {}, folder=tmp_path) is None
    (tmp_path / "cosign.key").write_text("text")
    assert read_key_source("cosign.key", {}, folder=tmp_path) == Secret("text")
    assert read_key_source(str(tmp_path / "cosign.key"), {}) == Secret("text")


@pytest.mark.parametrize(
    "source",
    ["", "env://", "env://A B", "hashivault://key", "awskms:///key", "-----BEGIN X-----", "a\x00b"],
)
def test_sources_that_we_can_not_read_are_errors_and_not_absent(source: str) -> None:
    with pytest.raises(SetupError):
        read_key_source(source, {})


def test_files_that_can_not_be_a_key_are_errors(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    for name in (".", "binary", "large"):
        with pytest.raises(SetupError, match="key file"):
            read_key_source(name, {}, folder=tmp_path)


def test_unset_and_empty_password_differ() -> None:
    assert read_password({}) is None
    assert read_password({"COSIGN_PASSWORD": ""}) == Secret("")
    assert read_password({"COSIGN_PASSWORD": "x"}) == Secret("x")
