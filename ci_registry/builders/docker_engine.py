"""The builder `docker_engine`: the Docker Engine's own API, for classic builds and images already there.

BuildKit needs a client session that the `docker` library does not speak (docker/docker-py#2230), so
`RUN --mount` and build secrets are refused here and left to `buildx`.
"""

import base64
import contextlib
import hashlib
import json
import posixpath
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_registry.builders.archive import convert_archive
from ci_registry.builders.checks import check_fixed_platform, check_layout
from ci_registry.builders.context_link import MAX_DOCKERFILE_BYTES, read_dockerfile
from ci_registry.builders.docker_config import context_host, user_config_folder
from ci_registry.builders.engine_build import (
    ClassicLog,
    add_file,
    build_parameters,
    instruction_of_step,
    refused_instruction,
)
from ci_registry.builders.engine_stream import in_thread, message_of, messages, read_body
from ci_registry.builders.failures import Failure, build_failure
from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.cancel import Cancel
from ci_registry.dockerfile.model import Dockerfile
from ci_registry.errors import (
    BuildError,
    CiRegistryError,
    IntegrityError,
    SetupError,
    StorageError,
    ToolError,
)
from ci_registry.events import EventSink, Level, Log
from ci_registry.files import read_file, storage_error
from ci_registry.oci.platform import Platform
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome, Step
from ci_registry.secret import Masker

PackContext = Callable[[Path, Path, Path], None]
"""`(context, dockerfile, target)`: writes a plain tar of everything that is not ignored to `target`."""

CONNECT_TIMEOUT_S = 10
_DEFAULT_HOST = "unix:///var/run/docker.sock"
MAX_ARCHIVE_BYTES = 256 * 1024**3
SAVE_PLATFORM_API = (1, 48)
"""The first API version whose image export can choose a platform."""
_OTHER_PLATFORM = re.compile(
    r"no suitable export target found|does not provide the specified platform"
    r"|does not match the specified platform"
)
_NOTE = "built by the engine's classic builder: one platform, no layer cache in the registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    """An engine that answers."""

    session: Any
    """The `docker` library's APIClient: a `requests` session that knows the way to the engine."""
    version: str
    api: tuple[int, int]
    os: str
    architecture: str

    def url(self, path: str) -> str:
        """Return the address of an API call."""
        return f"{self.session.base_url}/v{self.api[0]}.{self.api[1]}{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerEngine:
    """Builds with, and exports images from, a Docker engine; implements `interface.Builder`."""

    env: Mapping[str, str]
    """Environment of this process; only what names the engine is read."""
    on_event: EventSink
    masker: Masker
    cancel: Cancel
    pack_context: PackContext

    @property
    def name(self) -> str:
        """`docker_engine`."""
        return "docker_engine"

    # --- probe

    def probe(self, request: BuildRequest) -> Probe:
        """Say whether an engine answers and its classic builder can serve `request`."""
        try:
            with self._connect() as engine:
                problem, _ = self._problem(request, read_dockerfile(request))
                found = f"Docker Engine {engine.version}, classic builder"
                return Probe(
                    usable=not problem,
                    reason=problem or found,
                    version=engine.version,
                    notes=(_NOTE,) if not problem else (),
                )
        except BuildError:
            return Probe(usable=True, reason="the Dockerfile has errors, which the build will show")
        except (SetupError, StorageError, ToolError) as error:
            return Probe(usable=False, reason=error.message, exit_code=error.exit_code)

    def _problem(self, request: BuildRequest, dockerfile: Dockerfile) -> tuple[str, int]:
        if request.secrets:
            names = ", ".join(secret.id for secret in request.secrets)
            return f"the engine's classic builder has no build secrets ({names})", 0
        if len(set(request.platforms)) > 1:
            return "the engine's classic builder builds one platform at a time", 0
        beside = request.dockerfile.with_name(f"{request.dockerfile.name}.dockerignore")
        if beside.exists():
            return f"an ignore file of its own ({beside.name}) needs BuildKit", 0
        what, line = refused_instruction(dockerfile)
        return (f"{what} needs BuildKit", line) if what else ("", 0)

    # --- the engine

    @contextlib.contextmanager
    def _connect(self) -> Iterator[_Engine]:
        """Connect to the engine that `DOCKER_HOST`, or the current Docker context, names.

        Raises:
            ToolError: no engine answers.
            SetupError: it may not be used.
        """
        import docker.errors
        import docker.utils

        names = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        env = {name: self.env[name] for name in names if self.env.get(name)}
        if "DOCKER_HOST" not in env and (host := context_host(self.env)):
            env["DOCKER_HOST"] = host
        user = user_config_folder(self.env)
        if env.get("DOCKER_TLS_VERIFY") and user is not None:
            env.setdefault("DOCKER_CERT_PATH", str(user))
        host = env.get("DOCKER_HOST", _DEFAULT_HOST)
        if host.startswith("unix://") and not Path(host.removeprefix("unix://")).exists():
            raise self._no_engine("no such socket", host)
        try:
            options = docker.utils.kwargs_from_env(environment=env)
            session = docker.APIClient(version="auto", timeout=CONNECT_TIMEOUT_S, **options)
        except docker.errors.DockerException as error:
            raise self._no_engine(str(error), host) from error
        with contextlib.closing(session):
            facts = session.version()
            major, minor = session.api_version.split(".")
            yield _Engine(
                session=session,
                version=str(facts.get("Version", "unknown")),
                api=(int(major), int(minor)),
                os=str(facts.get("Os", "")),
                architecture=str(facts.get("Arch", "")),
            )

    def _no_engine(self, text: str, host: str) -> CiRegistryError:
        text = self.masker.mask(text)
        if "PermissionError" in text or "Permission denied" in text:
            return SetupError(
                f"no permission to use the Docker engine at {host}",
                hint="run as a user who may use the engine's socket, or choose another builder",
            )
        return ToolError(
            f"the Docker engine does not answer at {host}: {text}",
            hint="start the engine, set DOCKER_HOST, or choose another builder (builder: buildah)",
        )

    # --- build

    def build(self, request: BuildRequest) -> BuildOutcome:
        """Build one platform into `request.layout`; see `interface.Builder`."""
        try:
            return self._build(request)
        except (StorageError, IntegrityError) as error:
            raise ToolError(error.message, hint=error.hint) from error

    def _build(self, request: BuildRequest) -> BuildOutcome:
        dockerfile = read_dockerfile(request)
        check_fixed_platform(dockerfile, request)
        problem, line = self._problem(request, dockerfile)
        if problem:
            raise SetupError(
                f"docker_engine cannot build {request.image}: {problem}",
                hint="use builder: buildx",
                file=request.dockerfile_name if line else "",
                line=line,
            )
        started = time.monotonic()
        tag = "ci-registry-" + hashlib.sha256(str(request.work).encode()).hexdigest()[:16]
        with self._connect() as engine:
            try:
                log = self._run_build(engine, request, dockerfile, f"{tag}:build")
                self._export(engine, f"{tag}:build", request.layout, request.platforms[0])
            finally:
                self._remove(engine, f"{tag}:build", request.image)
        check_layout(request.layout, request.platforms, tool=self.name)
        return BuildOutcome(
            builder=self.name,
            builder_version=engine.version,
            duration_s=time.monotonic() - started,
            steps_total=log.steps_total,
            steps_cached=log.steps_cached,
            notes=(_NOTE,),
        )

    def _run_build(
        self, engine: _Engine, request: BuildRequest, dockerfile: Dockerfile, tag: str
    ) -> ClassicLog:
        context = request.work / "context.tar"
        name = self._pack(request, context)
        log = ClassicLog(image=request.image, on_event=self.on_event, masker=self.masker)
        deadline = time.monotonic() + request.timeout.total_seconds()
        try:
            with context.open("rb") as body:
                response = self._call(
                    lambda: engine.session.post(
                        engine.url("/build"),
                        params=build_parameters(request, name, tag),
                        data=body,
                        headers=_build_headers(request),
                        stream=True,
                        timeout=None,
                    ),
                    request.image,
                )
                for message in messages(read_body(response, self.cancel, self.masker, deadline)):
                    log.feed(message)
        except OSError as error:
            raise storage_error(error, context, "read") from error
        finally:
            context.unlink(missing_ok=True)
        log.close()
        if log.error or not log.image_id:
            raise self._failed(request, dockerfile, log)
        return log

    def _pack(self, request: BuildRequest, target: Path) -> str:
        """Write the context; returns the name of the Dockerfile in it.

        A Dockerfile that is not in the context, or is ignored, gets a name of its own there, and the
        ignore file hides it from `COPY . .`.
        """
        self.pack_context(request.context, request.dockerfile, target)
        with tarfile.open(target, "a:") as tar:
            names = {posixpath.normpath(name) for name in tar.getnames()}
            if request.dockerfile.is_relative_to(request.context):
                inside = request.dockerfile.relative_to(request.context).as_posix()
                if inside in names:
                    return inside
            raw = read_file(request.dockerfile, max_bytes=MAX_DOCKERFILE_BYTES)
            name = f".dockerfile.{hashlib.sha256(raw).hexdigest()[:16]}"
            ignore = request.context / ".dockerignore"
            if ".dockerignore" in names:
                patterns = read_file(ignore, max_bytes=MAX_DOCKERFILE_BYTES) + b"\n"
            else:
                patterns = b".dockerignore\n"
            add_file(tar, name, raw)
            add_file(tar, ".dockerignore", patterns + name.encode() + b"\n")
        return name

    def _failed(
        self, request: BuildRequest, dockerfile: Dockerfile, log: ClassicLog
    ) -> CiRegistryError:
        instruction = instruction_of_step(dockerfile, log.step)
        text = log.error or "the engine ended the build without an image"
        if instruction is not None and instruction.keyword == "FROM":
            # The engine does not say what it could not fetch.
            base = (instruction.arguments or ("",))[0]
            text = f"failed to resolve source metadata for {base}: {text}"
        failure = Failure(
            tool=self.name,
            image=request.image,
            dockerfile_name=request.dockerfile_name,
            text=text,
            line=instruction.first_line if instruction is not None else 0,
            output="\n".join(log.tail),
        )
        return build_failure(failure)

    # --- export

    def export_image(self, reference: str, layout: Path, platform: Platform) -> BuildOutcome:
        """Write an image that the engine has into an OCI layout; nothing is built or pulled.

        Raises:
            SetupError: the engine has no such image.
            BuildError: the image is of another platform.
            ToolError: no engine answers, or it sent something that is no image.
        """
        started = time.monotonic()
        try:
            with self._connect() as engine:
                self._export(engine, reference, layout, platform)
        except (StorageError, IntegrityError) as error:
            raise ToolError(error.message, hint=error.hint) from error
        check_layout(layout, (platform,), tool=self.name)
        return BuildOutcome(
            builder=self.name,
            builder_version=engine.version,
            duration_s=time.monotonic() - started,
            notes=(f"taken from the engine: {reference}",),
        )

    def _export(self, engine: _Engine, reference: str, layout: Path, platform: Platform) -> None:
        archive = layout.with_name(f".{layout.name}.tar")
        parameters = {"names": reference}
        if engine.api >= SAVE_PLATFORM_API:
            parameters["platform"] = json.dumps(platform.to_json())
        try:
            response = self._call(
                lambda: engine.session.get(
                    engine.url("/images/get"), params=parameters, stream=True, timeout=None
                ),
                reference,
            )
            self._save(response, archive)
            convert_archive(archive, Layout.create(layout), platform=platform)
        finally:
            archive.unlink(missing_ok=True)

    def _save(self, response: Any, archive: Path) -> None:
        size_bytes = 0
        try:
            with archive.open("wb") as file:
                for chunk in read_body(response, self.cancel, self.masker, None):
                    size_bytes += len(chunk)
                    if size_bytes > MAX_ARCHIVE_BYTES:
                        raise ToolError(f"the engine sent more than {MAX_ARCHIVE_BYTES} bytes")
                    file.write(chunk)
        except OSError as error:
            raise storage_error(error, archive, "write") from error

    def _remove(self, engine: _Engine, tag: str, image: str) -> None:
        """Take our tag off the image again; layers stay in the engine's build cache."""
        response = engine.session.delete(
            engine.url(f"/images/{tag}"), params={"force": "1"}, timeout=CONNECT_TIMEOUT_S
        )
        if response.status_code not in (200, 404):
            text = f"left in the engine: {tag}: status {response.status_code}"
            event = Log(message=text, level=Level.WARNING, image=image, step=Step.OBTAIN)
            self.on_event(event)

    # --- HTTP

    def _call(self, send: Callable[[], Any], subject: str) -> Any:
        """Send one request; returns the open response."""
        import requests

        self.cancel.check()
        try:
            response = in_thread(send, self.cancel)
        except requests.RequestException as error:
            raise ToolError(
                f"the Docker engine broke off: {self.masker.mask(str(error))}",
                hint="run the job again; the engine's own log says why it stopped",
            ) from error
        if response.status_code == 200:
            return response
        text = self.masker.mask(message_of(response.content))
        if response.status_code == 404:
            raise SetupError(
                f"the Docker engine has no image {subject}: {text}",
                hint="check the name with `docker image ls`",
            )
        if _OTHER_PLATFORM.search(text):
            raise SetupError(
                f"the Docker engine has {subject} for another platform only: {text}",
                hint="build or pull it for the platform that `platforms` names",
            )
        raise build_failure(
            Failure(tool=self.name, image=subject, dockerfile_name="Dockerfile", text=text)
        )


def _build_headers(request: BuildRequest) -> dict[str, str]:
    """Return the headers; credentials come from the private configuration of the request only."""
    import docker.auth

    headers = {"Content-Type": "application/x-tar"}
    path = request.docker_config / "config.json" if request.docker_config else None
    if path is not None and path.is_file():
        credentials = docker.auth.load_config(config_path=str(path)).get_all_credentials()  # type: ignore[no-untyped-call]
        encoded = base64.urlsafe_b64encode(json.dumps(credentials).encode()).decode()
        headers["X-Registry-Config"] = encoded
    return headers
