"""A run that is killed without warning leaves nothing that a later one trusts."""

import signal

import pytest

from ci_registry.registry_server.options import Fault, Stall
from tests.support.canaries import Canaries
from tests.support.cli import Project, tags_of, wait_until
from tests.support.registry import RunningRegistry


@pytest.mark.parametrize(
    "path",
    ["/blobs/uploads/", "/manifests/v1"],
    ids=["while a blob travels", "between two tags"],
)
def test_next_run_is_right_after_kill_9(
    project: Project,
    registry: RunningRegistry,
    canaries: Canaries,
    path: str,
) -> None:
    registry.faults.add(Fault(action=Stall(duration_s=30), method="PUT", path=path, times=0))
    env = canaries.env | {"CIREG_SIGN": "key"}
    running = project.start("run", env=env)
    wait_until(lambda: registry.count("PUT", path), f"PUT {path}")
    running.signal(signal.SIGKILL)
    assert running.wait().exit_code == -signal.SIGKILL
    assert "latest" not in tags_of(registry)
    assert any(project.work.iterdir())
    registry.faults.clear()

    done = project.run("run", env=env)

    assert done.exit_code == 0, done.stderr
    digest = project.result()["images"][0]["digest"]
    assert tags_of(registry) == {"v1": digest, "latest": digest}
    assert project.run("verify", f"{registry.host}/team/app:v1", env=env).exit_code == 0
    assert project.left_overs == []
