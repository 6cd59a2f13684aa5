"""Preflight: everything that can fail late fails now, and all of it at once."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.config.model import ImageSettings
from ci_registry.errors import (
    CancelledError,
    ExitCode,
    IncompleteError,
    SetupError,
    ToolError,
)
from ci_registry.pipeline.plan import PlanProblem
from ci_registry.pipeline.preflight import preflight
from ci_registry.pipeline.sizes import remember_size
from ci_registry.pipeline.state import Done
from ci_registry.results import CaseStatus, StepStatus
from ci_registry.secret import Secret
from tests.support.pipeline import (
    FIRST,
    MAIN,
    SECOND,
    FakeScanner,
    World,
    make_context,
    make_image,
    make_plan,
)


def _statuses(done: Done) -> dict[str, CaseStatus]:
    return {case.name: case.status for case in done.cases}


def _go(tmp_path: Path, world: World | None = None, **changes: Any) -> Done:
    run_changes = changes.pop("run", {})
    image = make_image(tmp_path, **changes)
    return preflight(image, make_context(tmp_path, world or World(), **run_changes))


def test_everything_in_order_passes_and_loads_the_key(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    done = preflight(image, make_context(tmp_path, World()))
    assert done.status is StepStatus.PASSED
    assert done.exit_code is ExitCode.OK
    assert image.signer is not None
    statuses = _statuses(done)
    assert statuses.pop("build secrets present") is CaseStatus.SKIPPED
    assert set(statuses.values()) == {CaseStatus.PASSED}


def test_all_problems_come_at_once_and_the_worst_code_decides(tmp_path: Path) -> None:
    def no_key() -> None:
        raise SetupError("the key can't be read", hint="check the password")

    world = World(
        refused={FIRST, SECOND},
        scanner=FakeScanner(error=ToolError("trivy crashed")),
        signer=no_key,
    )
    plan = make_plan(
        builder="",
        problems=(
            PlanProblem(message="there is no Dockerfile", file="Dockerfile", hint="name it"),
            PlanProblem(message="unknown placeholder {brnch}", hint="did you mean {branch}?"),
        ),
    )
    settings = ImageSettings(secret_envs=("TOKEN", "npm=NPM_TOKEN"))
    done = _go(tmp_path, world, plan=plan, settings=settings)
    assert done.status is StepStatus.ERROR
    assert done.exit_code is ExitCode.CONFIG
    for words in (
        "there is no Dockerfile",
        "unknown placeholder {brnch}",
        "TOKEN",
        "NPM_TOKEN",
        "trivy crashed",
        f"{FIRST}: push refused",
        f"{SECOND}: push refused",
        "the key can't be read",
    ):
        assert words in done.reason, words
    assert done.hint == "name it"
    assert [name for name, status in _statuses(done).items() if status is CaseStatus.ERROR] == [
        "plan complete",
        "build secrets present",
        "scanner available",
        "push allowed",
        "signing key usable",
    ]
    assert _statuses(done)["builder available"] is CaseStatus.SKIPPED


def test_the_hint_belongs_to_the_worst_problem(tmp_path: Path) -> None:
    world = World(
        refused={FIRST}, scanner=FakeScanner(error=ToolError("trivy crashed", hint="retry"))
    )
    done = _go(tmp_path, world)
    assert (done.exit_code, done.hint) == (ExitCode.CONFIG, "log in")


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((ExitCode.BUILD, ExitCode.CONFIG), ExitCode.CONFIG),
        ((ExitCode.BUILD,), ExitCode.BUILD),
        ((ExitCode.INFRASTRUCTURE, ExitCode.BUILD), ExitCode.INFRASTRUCTURE),
    ],
)
def test_problems_of_the_plan_keep_their_own_codes(
    tmp_path: Path, codes: tuple[ExitCode, ...], worst: ExitCode
) -> None:
    problems = tuple(PlanProblem(message=f"p{code}", exit_code=code) for code in codes)
    done = _go(tmp_path, plan=make_plan(problems=problems))
    assert done.exit_code is worst


def test_one_problem_says_where_it_is(tmp_path: Path) -> None:
    problem = PlanProblem(
        message="unknown instruction RUNN\nRUNN x", file="Dockerfile", line=3, hint="RUN?"
    )
    done = _go(tmp_path, plan=make_plan(problems=(problem,)))
    assert done.reason == "Dockerfile:3: unknown instruction RUNN"
    case = next(case for case in done.cases if case.status is CaseStatus.ERROR)
    assert case.line == 3
    assert case.body == "unknown instruction RUNN\nRUNN x\nRUN?"


def test_several_problems_each_say_where_they_are(tmp_path: Path) -> None:
    problems = (
        PlanProblem(message="first", file="Dockerfile", line=3),
        PlanProblem(message="second", hint="do it"),
    )
    done = _go(tmp_path, plan=make_plan(problems=problems))
    case = next(case for case in done.cases if case.status is CaseStatus.ERROR)
    assert "Dockerfile:3: first\nsecond (do it)" in case.body


def test_build_secrets_are_looked_for_by_variable(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "npmrc").write_text("x")
    settings = ImageSettings(secret_envs=("npm=NPM_TOKEN",), secret_files={"npmrc": "npmrc"})
    done = _go(tmp_path, settings=settings, secrets={"NPM_TOKEN": Secret("hunter22")})
    case = next(case for case in done.cases if case.name == "build secrets present")
    assert (case.status, case.body) == (CaseStatus.PASSED, "2 build secrets")
    assert "hunter22" not in str(done)


def test_a_key_that_is_asked_for_and_absent_is_an_error(tmp_path: Path) -> None:
    done = _go(tmp_path, World(signer=lambda: None))
    assert done.exit_code is ExitCode.CONFIG
    assert "COSIGN_PRIVATE_KEY is not set" in done.reason


def test_key_and_push_are_not_asked_for_when_the_plan_writes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise AssertionError("the key was loaded for nothing")

    plan = make_plan(push=False, push_reason="push is never", sign=False, sign_reason="no push")
    done = _go(tmp_path, World(refused={FIRST}, signer=fail), plan=plan)
    assert done.status is StepStatus.PASSED
    by_name = {case.name: case for case in done.cases}
    assert by_name["push allowed"].status is CaseStatus.SKIPPED
    assert by_name["push allowed"].message == "push is never"
    assert by_name["signing key usable"].message == "no push"


def test_two_and_a_half_times_the_last_size_must_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1000 * 2**20
    monkeypatch.setattr("ci_registry.pipeline.preflight.free_bytes", lambda _folder: free)
    run = make_context(tmp_path, World())
    image = make_image(tmp_path)
    remember_size(run.cache, "app", 400 * 2**20)
    assert preflight(image, run).status is StepStatus.PASSED
    remember_size(run.cache, "app", 401 * 2**20)
    done = preflight(image, run)
    assert done.exit_code is ExitCode.INFRASTRUCTURE
    assert "has 1000 MiB free, this image needs 1002 MiB" in done.reason
    assert "CIREG_WORK_DIR" in done.hint


def test_an_operating_system_error_in_a_check_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/work")

    monkeypatch.setattr("ci_registry.pipeline.preflight.free_bytes", fail)
    done = _go(tmp_path, World(refused={FIRST}))
    assert "cannot read or write /work: Permission denied" in done.reason
    assert "push refused" in done.reason


def test_evidence_that_is_missing_is_5(tmp_path: Path) -> None:
    done = _go(tmp_path, World(scanner=FakeScanner(error=IncompleteError("no database"))))
    assert done.exit_code is ExitCode.INCOMPLETE


def test_a_cancelled_run_checks_nothing_more(tmp_path: Path) -> None:
    world = World(scanner=FakeScanner(error=CancelledError("interrupted: SIGTERM")))
    with pytest.raises(CancelledError):
        _go(tmp_path, world)


def test_signing_keys_are_never_given_to_a_build(tmp_path: Path) -> None:
    settings = ImageSettings(secret_envs=("COSIGN_PRIVATE_KEY",))
    secrets = {"COSIGN_PRIVATE_KEY": Secret("hunter22")}
    done = _go(tmp_path, settings=settings, secrets=secrets)
    assert done.exit_code is ExitCode.CONFIG
    assert "never given to a build" in done.reason


def test_a_fork_gets_no_build_secret(tmp_path: Path) -> None:
    settings = ImageSettings(secret_envs=("NPM_TOKEN",))
    secrets = {"NPM_TOKEN": Secret("hunter22")}
    fork = replace(MAIN, is_fork=True)
    done = _go(tmp_path, settings=settings, secrets=secrets, run={"ci": fork})
    assert done.exit_code is ExitCode.CONFIG
    assert "fork" in done.reason


def test_a_key_file_is_never_given_to_a_build(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "cosign.key").write_text("key")
    settings = ImageSettings(secret_files={"x": "./cosign.key"})
    run = make_context(tmp_path, World())
    signing = replace(run.settings, sign=replace(run.settings.sign, key="cosign.key"))
    done = _go(tmp_path, settings=settings, run={"settings": signing})
    assert done.exit_code is ExitCode.CONFIG
    assert "./cosign.key is never given to a build" in done.reason


@pytest.mark.parametrize("kind", ["absent", "folder", "huge"])
def test_a_secret_file_that_can_not_be_read_stops_before_the_build(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "project" / "folder").mkdir(parents=True)
    (tmp_path / "project" / "huge").write_bytes(b"x" * (512 * 1024 + 1))
    done = _go(tmp_path, settings=ImageSettings(secret_files={"npmrc": kind}))
    assert done.exit_code is ExitCode.CONFIG
    assert "build secret npmrc: " in done.reason
