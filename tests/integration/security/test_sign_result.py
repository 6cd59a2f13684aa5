"""`sign` believes a result only when it says that this very digest passed in a real, enforced run."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.canaries import REGISTRY_PASSWORD, USER, Canaries
from tests.support.cli import Outcome, Project, make_project
from tests.support.registry import RunningRegistry, running_registry


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image that passed and was pushed unsigned, and its result."""

    project: Project
    registry: RunningRegistry
    canaries: Canaries
    result: dict[str, Any]

    def sign(self, result: bytes, *arguments: str) -> Outcome:
        path = self.project.base / "given.json"
        path.write_bytes(result)
        reference = f"{self.registry.host}/team/app@{self.result['images'][0]['digest']}"
        env = self.canaries.env
        return self.project.run("sign", reference, "--result", str(path), *arguments, env=env)

    @property
    def is_signed(self) -> bool:
        return any(s.method == "PUT" and "sha256-" in s.path for s in self.registry.seen)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory, canaries: Canaries) -> Iterator[Pushed]:
    with running_registry(users={USER: REGISTRY_PASSWORD}) as registry:
        project = make_project(tmp_path_factory.mktemp("pushed"), registry)
        done = project.run("run", "--sign", "off", env=canaries.env)
        assert done.exit_code == 0, done.stderr
        yield Pushed(project=project, registry=registry, canaries=canaries, result=project.result())


def other_digest(result: dict[str, Any]) -> None:
    result["images"][0]["digest"] = "sha256:" + "0" * 64


def dry_run(result: dict[str, Any]) -> None:
    result["dry_run"] = True


def audit(result: dict[str, Any]) -> None:
    result["images"][0]["verdict"] = "warn"
    result["images"][0]["decision"] |= {"mode": "audit", "enforced_verdict": "block"}


def blocked_while_the_run_says_pass(result: dict[str, Any]) -> None:
    result["images"][0]["verdict"] = "block"
    result["images"][0]["decision"] |= {"verdict": "block", "enforced_verdict": "block"}
    result["verdict"] = "pass"


def never_judged(result: dict[str, Any]) -> None:
    result["images"][0]["decision"] = None
    result["images"][0]["verdict"] = "pass"


def decided_by_the_change(result: dict[str, Any]) -> None:
    result["images"][0]["decision"]["policy_source"] = "untrusted: policy.yml"


def pass_beside_a_blocking_decision(result: dict[str, Any]) -> None:
    result["images"][0]["decision"] |= {"verdict": "block", "enforced_verdict": "pass"}


@pytest.mark.parametrize(
    "forge",
    [
        other_digest,
        dry_run,
        audit,
        blocked_while_the_run_says_pass,
        never_judged,
        decided_by_the_change,
        pass_beside_a_blocking_decision,
    ],
    ids=lambda forge: forge.__name__,
)
def test_result_that_does_not_say_that_this_digest_passed_signs_nothing(
    pushed: Pushed, forge: Callable[[dict[str, Any]], None]
) -> None:
    result = json.loads(json.dumps(pushed.result))
    forge(result)

    done = pushed.sign(json.dumps(result).encode())

    assert done.exit_code in (2, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert not pushed.is_signed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b'{"schema_version": 1, "schema_version": 1}',
        b"{" + b" " * (65 * 1024 * 1024),
    ],
    ids=["empty", "deep", "twice", "large"],
)
def test_result_that_is_none_signs_nothing(pushed: Pushed, data: bytes) -> None:
    done = pushed.sign(data)

    assert done.exit_code == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert not pushed.is_signed


def test_result_of_a_run_that_passed_signs(pushed: Pushed, tmp_path: Path) -> None:
    """The last one: the registry of this module has a signature afterwards."""
    done = pushed.sign(json.dumps(pushed.result).encode())

    assert done.exit_code == 0, done.stderr
    assert pushed.is_signed
