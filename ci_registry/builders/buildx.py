"""The builder `buildx`: BuildKit through `docker buildx build`, whatever driver is behind it."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.builders.archive import convert_archive
from ci_registry.builders.buildx_command import (
    build_command,
    create_arguments,
    engine_output,
    oci_output,
    wants_fixed_times,
)
from ci_registry.builders.buildx_engine import (
    Engine,
    Way,
    emulation_note,
    find_engine,
    is_pinned,
    unusable,
)
from ci_registry.builders.buildx_failures import (
    CacheUnreadableError,
    NoPrivateBuilderError,
    failed_build,
)
from ci_registry.builders.buildx_metadata import METADATA_ENV, merge_materials, read_materials
from ci_registry.builders.buildx_progress import BuildLog
from ci_registry.builders.buildx_shortcuts import Shortcuts
from ci_registry.builders.checks import check_fixed_platform, check_layout
from ci_registry.builders.context_link import (
    HashContext,
    LinkedContext,
    dockerfile_text,
    link_context,
    read_dockerfile,
)
from ci_registry.builders.creation_time import stamp_creation_time
from ci_registry.builders.docker_config import DockerHome, prepare_docker_home
from ci_registry.builders.interface import BuildRequest, Probe
from ci_registry.cancel import Cancel
from ci_registry.dockerfile.model import Dockerfile
from ci_registry.errors import (
    BuildError,
    CiRegistryError,
    ExitCode,
    IntegrityError,
    SetupError,
    StorageError,
    ToolError,
)
from ci_registry.events import EventSink, Level, Log
from ci_registry.files import remove_tree
from ci_registry.process import Command, Completed, ProcessRunner, Runner
from ci_registry.registry.known_blobs import DamagedOfferError
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome, Step
from ci_registry.secret import Masker

CLEANUP_TIMEOUT_S = 30.0
_SAVE_NOTE = (
    "built through Docker's classic image store: one platform, no layer cache in the registry, "
    "timestamps inside layers are the build's"
)


@dataclass(slots=True, kw_only=True)
class _Found:
    """The engine, asked once per run."""

    engine: Engine | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """One build under way."""

    request: BuildRequest
    engine: Engine
    docker: DockerHome
    linked: LinkedContext
    way: Way
    fixed_times: bool = False
    """Whether BuildKit stamps the time of the commit into layers; else we do, into the config alone."""
    builder: str = ""
    notes: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Unique name for what this build leaves in the engine for a while."""
        return "ci-registry-" + hashlib.sha256(str(self.request.work).encode()).hexdigest()[:16]


def _cleanup_runner() -> Runner:
    """Return a runner that still works after a cancellation: what we made must go in any case."""
    return ProcessRunner(cancel=Cancel())


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildx:
    """Builds with `docker buildx`; implements `interface.Builder`."""

    run: Runner
    env: Mapping[str, str]
    """Environment of this process; only what reaches an engine is passed on."""
    on_event: EventSink
    masker: Masker
    hash_context: HashContext
    buildkit_image: str = ""
    """Pinned by digest; used when the engine's own builder can't export OCI layouts."""
    shortcuts: Shortcuts | None = None
    """None asks the Docker CLI everything."""
    cleanup: Runner = field(default_factory=_cleanup_runner)
    _found: _Found = field(default_factory=_Found, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """`buildx`."""
        return "buildx"

    # --- probe

    def probe(self, request: BuildRequest) -> Probe:
        """Say whether buildx can serve `request`, and which of its three ways will be taken."""
        try:
            engine = self._engine(prepare_docker_home(request, self.env), request)
        except StorageError as error:
            return Probe(usable=False, reason=error.message, exit_code=error.exit_code)
        way = engine.way(request, self.buildkit_image) if not engine.problem else None
        probe = Probe(
            usable=False,
            reason=self._problem(engine, way),
            version=engine.buildx_version,
            program=str(engine.program or ""),
            sha256=engine.sha256,
            exit_code=ExitCode.INFRASTRUCTURE if engine.problem else ExitCode.CONFIG,
        )
        if probe.reason or way is None:
            return probe
        whole = way is not Way.SAVE
        return dataclasses.replace(
            probe,
            usable=True,
            reason=self._reason(engine, way),
            exports_cache=whole,
            multi_platform=whole,
            notes=emulation_note(engine, request) + ((_SAVE_NOTE,) if not whole else ()),
        )

    def _engine(self, docker: DockerHome, request: BuildRequest) -> Engine:
        with self._found.lock:
            found = self._found.engine
            if found is None or not found.covers(request.platforms):
                found = self._found.engine = find_engine(
                    self.run, docker.env, platforms=request.platforms, shortcuts=self.shortcuts
                )
            return found

    def _problem(self, engine: Engine, way: Way | None) -> str:
        if engine.problem:
            return engine.problem
        if way is None:
            return (
                "Docker's classic image store builds one platform at a time: turn on the containerd "
                "image store, or set build.buildkit_image"
            )
        if way is Way.PRIVATE_BUILDER and not is_pinned(self.buildkit_image):
            return f"build.buildkit_image is not pinned by digest: {self.buildkit_image}"
        return ""

    def _reason(self, engine: Engine, way: Way) -> str:
        start = f"buildx {engine.buildx_version}, driver {engine.driver}"
        if way is Way.DIRECT:
            return f"{start}, exports OCI layouts"
        if way is Way.PRIVATE_BUILDER:
            return f"{start}, classic image store: through a private builder from {self.buildkit_image}"
        return f"{start}, classic image store: built there, saved and converted"

    # --- build

    def build(self, request: BuildRequest) -> BuildOutcome:
        """Build into `request.layout`; see `interface.Builder`."""
        try:
            return self._build(request)
        except (StorageError, IntegrityError) as error:
            raise ToolError(error.message, hint=error.hint) from error

    def _build(self, request: BuildRequest) -> BuildOutcome:
        with contextlib.suppress(_NotOursToJudgeError):
            check_fixed_platform(_parsed(request), request)
        docker = prepare_docker_home(request, self.env)
        engine = self._engine(docker, request)
        if engine.problem:
            raise unusable(engine)
        way = engine.way(request, self.buildkit_image)
        problem = self._problem(engine, way)
        if problem or way is None:
            raise SetupError(f"buildx cannot build {request.image} here: {problem}")
        build = _Build(
            request=request,
            engine=engine,
            docker=docker,
            linked=link_context(request, self.hash_context),
            way=way,
            fixed_times=wants_fixed_times(request, dockerfile_text(request)),
        )
        outcome = self._with_fallback(build)
        if not build.fixed_times:
            stamp_creation_time(Layout(request.layout), request.source_date_epoch)
        check_layout(request.layout, request.platforms, tool=self.name)
        return outcome

    def _with_fallback(self, build: _Build) -> BuildOutcome:
        """Take the chosen way; a private builder that can't be had makes way for `SAVE`."""
        if build.way is Way.DIRECT:
            return self._to_layout(build)
        if build.way is Way.SAVE:
            return self._through_engine(build)
        try:
            return self._with_private_builder(build)
        except NoPrivateBuilderError as error:
            if len(set(build.request.platforms)) > 1:
                raise ToolError(error.message, hint=error.hint) from error
            note = f"{error.message}; {_SAVE_NOTE}"
            self._warn(build.request, note)
            return self._through_engine(
                dataclasses.replace(build, way=Way.SAVE, builder="", notes=(note,))
            )

    def _to_layout(self, build: _Build) -> BuildOutcome:
        known = build.request.known_blobs
        if known is not None:
            try:
                with known.offered_to(_emptied(build.request.layout)):
                    return self._to_empty_layout(build)
            except DamagedOfferError as error:
                self._warn(build.request, error.message)
        _emptied(build.request.layout)
        return self._to_empty_layout(build)

    def _to_empty_layout(self, build: _Build) -> BuildOutcome:
        output = oci_output(build.request.layout, fixed_times=build.fixed_times)
        return self._solve(build, output=output, cache=True)

    def _with_private_builder(self, build: _Build) -> BuildOutcome:
        """Run a BuildKit container of our own for this one build."""
        build = dataclasses.replace(build, builder=build.slug)
        try:
            self._create_builder(build)
            return self._to_layout(build)
        finally:
            self._clean_up(build, "buildx", "rm", "--force", build.builder)

    def _create_builder(self, build: _Build) -> None:
        arguments = create_arguments(build.request, build.builder, self.buildkit_image)
        done = self._docker(build, *arguments)
        if done.exit_code != 0:
            raise NoPrivateBuilderError(
                f"the private builder from {self.buildkit_image} did not start: "
                f"{self.masker.mask(done.error_tail(1))}",
                hint="check build.buildkit_image, or turn on the engine's containerd image store",
            )

    def _through_engine(self, build: _Build) -> BuildOutcome:
        """Build into the engine's store, save the image to a file, and turn that into a layout."""
        request = build.request
        image = f"{build.slug}:build"
        archive = request.work / "image.tar"
        try:
            outcome = self._solve(build, output=engine_output(image), cache=False)
            done = self._docker(build, "image", "save", "--output", str(archive), image)
            if done.exit_code != 0:
                raise ToolError(
                    f"docker could not save {request.image}: {self.masker.mask(done.error_tail(1))}"
                )
            layout = Layout.create(request.layout)
            convert_archive(archive, layout, platform=request.platforms[0])
        finally:
            archive.unlink(missing_ok=True)
            self._clean_up(build, "image", "rm", "--force", image)
        notes = outcome.notes if build.notes else (*outcome.notes, _SAVE_NOTE)
        return dataclasses.replace(outcome, notes=notes)

    def _docker(self, build: _Build, *arguments: str) -> Completed:
        command = Command(
            argv=build.engine.argv(*arguments),
            env=build.docker.env,
            timeout_s=build.request.timeout.total_seconds(),
        )
        return self.run(command)

    def _clean_up(self, build: _Build, *arguments: str) -> None:
        """Remove something from the engine; failing to is told, and hides no other error."""
        argv = build.engine.argv(*arguments)
        try:
            done = self.cleanup(
                Command(argv=argv, env=build.docker.env, timeout_s=CLEANUP_TIMEOUT_S)
            )
        except CiRegistryError as error:
            self._warn(build.request, f"left in the engine: {arguments[-1]}: {error.message}")
            return
        text = done.error_tail(1)
        if done.exit_code != 0 and "no such image" not in text.lower() and "no builder" not in text:
            self._warn(build.request, f"left in the engine: {arguments[-1]}: {text}")

    def _warn(self, request: BuildRequest, message: str) -> None:
        text = self.masker.mask(message).split("\n", 1)[0]
        event = Log(message=text, level=Level.WARNING, image=request.image, step=Step.OBTAIN)
        self.on_event(event)

    # --- one call of buildx

    def _solve(self, build: _Build, *, output: str, cache: bool) -> BuildOutcome:
        """Run buildx; when it failed over the cache that it read, run it once more without."""
        try:
            return self._solve_once(build, output=output, imports=cache, exports=cache)
        except CacheUnreadableError as error:
            note = f"built without the layer cache, which could not be read: {error.message}"
            self._warn(build.request, note)
        again = dataclasses.replace(build, notes=(*build.notes, note))
        return self._solve_once(again, output=output, imports=False, exports=cache)

    def _solve_once(
        self, build: _Build, *, output: str, imports: bool, exports: bool
    ) -> BuildOutcome:
        request = build.request
        metadata = request.work / "buildx-metadata.json"
        metadata.unlink(missing_ok=True)
        command = build_command(
            request,
            build.linked,
            output=output,
            metadata=metadata,
            builder=build.builder,
            import_cache=imports,
            export_cache=exports,
            fixed_times=build.fixed_times,
        )
        log = BuildLog(
            image=request.image,
            dockerfile_name=request.dockerfile_name,
            on_event=self.on_event,
            masker=self.masker,
        )
        done = self.run(
            Command(
                argv=build.engine.argv(*command.arguments),
                env={**build.docker.env, **METADATA_ENV, **command.secret_env},
                cwd=request.work,
                timeout_s=request.timeout.total_seconds(),
            ),
            on_stderr_line=log.feed,
        )
        if done.exit_code != 0:
            raise failed_build(request, done, log, imports=imports)
        return BuildOutcome(
            builder=self.name,
            builder_version=build.engine.buildx_version,
            duration_s=done.duration_s,
            steps_total=log.steps_total,
            steps_cached=log.steps_cached,
            warnings=tuple(log.warnings),
            notes=(*build.notes, *log.cache_problems),
            materials=merge_materials(log.materials, read_materials(metadata)),
        )


class _NotOursToJudgeError(BuildError):
    """Our parser refuses the Dockerfile: BuildKit, or the frontend that it names, has the last word."""


def _emptied(layout: Path) -> Path:
    """Remove what an earlier attempt has left."""
    if layout.exists():
        remove_tree(layout)
    return layout


def _parsed(request: BuildRequest) -> Dockerfile:
    try:
        return read_dockerfile(request)
    except BuildError as error:
        raise _NotOursToJudgeError(error.message) from error
