"""Gives each buildah build a container storage of its own, and finds out how containers run in it."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_registry.builders.buildah_containers import kill_containers
from ci_registry.builders.buildah_registries import registries_config
from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import CiRegistryError, ToolError
from ci_registry.files import storage_error, write_atomic
from ci_registry.process import Command, Runner, allowed_environment
from ci_registry.secret import Masker

PROBE_TIMEOUT_S = 60.0
CLEANUP_TIMEOUT_S = 30.0
_STARTED = re.compile(r"no such file or directory|executable file .*not found", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Where buildah keeps its things, and how it can run containers there."""

    program: Path
    version: str
    work: Path
    driver: str
    isolation: str
    """`oci` or `chroot`."""
    env: Mapping[str, str]

    def command(self, *arguments: str, timeout_s: float = PROBE_TIMEOUT_S) -> Command:
        """Return a buildah command on this storage."""
        argv = (
            *(str(self.program), "--root", str(self.work / "root")),
            *("--runroot", str(self.work / "run"), "--storage-driver", self.driver),
            *arguments,
        )
        return Command(argv=argv, env=self.env, cwd=self.work, timeout_s=timeout_s)

    def clear(self, run: Runner) -> tuple[str, ...]:
        """End, unmount and remove everything, so that the folder can be deleted; returns what went wrong."""
        problems = []
        kill_containers(self.work)
        for arguments in (("rm", "--all"), ("rmi", "--all", "--force")):
            try:
                done = run(self.command(*arguments, timeout_s=CLEANUP_TIMEOUT_S))
            except CiRegistryError as error:
                problems.append(f"buildah {arguments[0]} failed: {error.message}")
                continue
            if done.exit_code != 0:
                problems.append(f"buildah {arguments[0]} failed: {done.error_tail(1)}")
        return tuple(problems)


def find_storage(
    run: Runner,
    request: BuildRequest,
    program: Path,
    env: Mapping[str, str],
    masker: Masker,
    *,
    cleanup: Runner,
    isolation: str = "",
) -> Storage:
    """Find a storage driver and an isolation that work, by starting a container with nothing in it.

    Args:
        run: runs buildah.
        request: whose work folder holds the storage.
        program: buildah itself.
        env: environment of this process.
        masker: keeps secrets out of errors.
        cleanup: runs buildah even after a cancellation.
        isolation: the one to use; empty to find out.

    Raises:
        ToolError: neither overlay nor vfs works here, or buildah does not start.
        StorageError: the work folder can't be written.
    """
    storage = _prepare(run, request, program, env, masker)
    problem = ""
    for driver in ("overlay", "vfs"):
        trial = dataclasses.replace(storage, driver=driver)
        done = run(trial.command("from", "scratch"))
        if done.exit_code != 0:
            problem = masker.mask(done.error_tail(1))
            continue
        try:
            found = isolation or _isolation(run, trial, done.stdout.decode().strip())
        finally:
            trial.clear(cleanup)
        return dataclasses.replace(trial, isolation=found)
    raise ToolError(
        f"buildah cannot keep containers below {storage.work}: {problem}",
        hint="run as root, or allow user namespaces, or choose another builder",
    )


def _isolation(run: Runner, storage: Storage, container: str) -> str:
    """Return `oci` when the runtime gets as far as missing the program that it should start."""
    arguments = ("run", "--isolation", "oci", "--network", "none", container, "--", "/absent")
    done = run(storage.command(*arguments))
    return "oci" if _STARTED.search(done.error_tail(5)) else "chroot"


def _prepare(
    run: Runner, request: BuildRequest, program: Path, env: Mapping[str, str], masker: Masker
) -> Storage:
    work = request.work / "buildah"
    try:
        for folder in (work, work / "home", work / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, work, "make") from error
    config = work / "registries.conf"
    write_atomic(config, registries_config(env, request.plain_http), sync=False)
    private = allowed_environment(env, home=work / "home", proxies=True)
    private |= {
        "CONTAINERS_REGISTRIES_CONF": str(config),
        "REGISTRY_AUTH_FILE": str(_auth_file(request, work)),
        "TMPDIR": str(work / "tmp"),
    }
    done = run(Command(argv=(str(program), "--version"), env=private, timeout_s=PROBE_TIMEOUT_S))
    if done.exit_code != 0:
        raise ToolError(f"buildah does not start: {masker.mask(done.error_tail(1))}")
    words = done.stdout.decode(errors="replace").split()
    return Storage(
        program=program,
        version=words[2] if len(words) > 2 else "unknown",
        work=work,
        driver="vfs",
        isolation="chroot",
        env=private,
    )


def _auth_file(request: BuildRequest, work: Path) -> Path:
    """Return the credentials that buildah may use: the request's, never the user's own."""
    if request.docker_config and (request.docker_config / "config.json").is_file():
        return request.docker_config / "config.json"
    empty = work / "auth.json"
    write_atomic(empty, "{}", mode=0o600, sync=False)
    return empty
