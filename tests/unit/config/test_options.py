"""Every setting has one name everywhere, and every front end can be made from the list."""

import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta

import pytest

from ci_registry.config.conversion import did_you_mean, format_duration
from ci_registry.config.model import ImageSettings, RunOptions, Settings
from ci_registry.config.options import Scope, all_options
from ci_registry.config.reference import render_reference
from ci_registry.oci.platform import Platform


def leaves(owner: type, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    hints = typing.get_type_hints(owner)
    for field in fields(owner):
        target = hints[field.name]
        if is_dataclass(target) and target is not Platform:
            yield from leaves(typing.cast("type", target), (*path, field.name))
        else:
            yield (*path, field.name)


def test_every_field_of_the_model_is_an_option() -> None:
    found = {(spec.scope, spec.path) for spec in all_options()}

    expected = {(Scope.SETTINGS, path) for path in leaves(Settings)}
    expected |= {(Scope.IMAGE, path) for path in leaves(ImageSettings)}
    expected |= {(Scope.RUN, path) for path in leaves(RunOptions)}
    assert found == expected - {(Scope.SETTINGS, ("images",)), (Scope.SETTINGS, ("version",))}


def test_names_are_unique_and_follow_one_rule() -> None:
    names = [spec.name for spec in all_options()]
    by_key = {spec.key: spec for spec in all_options()}

    assert len(set(names)) == len(names)
    age = by_key["scan.max_db_age"]
    assert (age.option, age.env) == ("--scan-max-db-age", "CIREG_SCAN_MAX_DB_AGE")
    assert (by_key["sign.mode"].option, by_key["sign.mode"].env) == ("--sign", "CIREG_SIGN")
    assert by_key["images.*.build_args"].multiple
    assert not any(spec.env.startswith("CI_REGISTRY") for spec in all_options())


def test_everything_has_help_and_enums_have_choices() -> None:
    by_name = {spec.name: spec for spec in all_options()}

    assert all(spec.help.endswith(".") for spec in all_options())
    assert by_name["report-formats"].choices == ("junit", "gitlab", "cyclonedx", "spdx")
    assert by_name["scanner"].choices == ("osv", "trivy", "grype", "harbor", "ecr", "quay")
    assert by_name["platforms"].default_text == "linux/amd64"
    assert by_name["offline"].is_flag


def test_secrets_are_no_command_line_options() -> None:
    secret = [spec for spec in all_options() if spec.is_secret]

    assert [spec.name for spec in secret] == ["registry-password"]
    assert "--registry-password" not in render_reference()
    assert "CIREG_REGISTRY_PASSWORD" in render_reference()


def test_the_reference_names_every_setting_in_rows_of_four_cells() -> None:
    page = render_reference()

    assert all(spec.env in page and spec.help in page for spec in all_options())
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {5}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (timedelta(hours=48), "48h"),
        (timedelta(days=7), "7d"),
        (timedelta(minutes=15), "15m"),
        (timedelta(seconds=90), "90s"),
    ],
)
def test_durations_are_written_as_they_are_read(value: timedelta, expected: str) -> None:
    assert format_duration(value) == expected


@pytest.mark.parametrize(
    ("word", "expected"), [("sevrity", "severity"), ("BLOCK", "block"), ("zzz", "")]
)
def test_near_words_are_suggested(word: str, expected: str) -> None:
    assert did_you_mean(word, ["severity", "block"]) == (
        f"did you mean {expected!r}?" if expected else ""
    )
