"""The builder `buildah`: needs no daemon; each build has a container storage of its own."""

import dataclasses
import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci_registry.builders.buildah_features import (
    line_of_step,
    missing_features,
    parse_version,
)
from ci_registry.builders.buildah_storage import Storage, find_storage
from ci_registry.builders.checks import check_fixed_platform, check_layout
from ci_registry.builders.context_link import read_dockerfile
from ci_registry.builders.failures import Failure, build_failure, stopped_builder
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
from ci_registry.files import read_file, remove_tree, storage_error, write_atomic
from ci_registry.oci import media_types
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.platform import Platform
from ci_registry.process import (
    Completed,
    ProcessRunner,
    Runner,
    describe_program,
    find_program,
)
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome, Step
from ci_registry.secret import Masker

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: ")
_CHROOT_NOTE = "RUN shares this machine's network and processes: buildah runs it in a chroot"


def _cleanup_runner() -> Runner:
    """Return a runner that still works after a cancellation: mounts must go in any case."""
    return ProcessRunner(cancel=Cancel())


@dataclass(slots=True, kw_only=True)
class _Output:
    """What one `buildah build` printed."""

    image: str
    on_event: EventSink
    masker: Masker
    steps: list[str] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    """What came after the last `STEP` line."""
    error: str = ""

    @property
    def instructions(self) -> int:
        """How many instructions ran; `FROM` is none."""
        return sum(": FROM " not in step for step in self.steps)

    def feed(self, line: str) -> None:
        """Take one line of the log."""
        text = self.masker.mask(line.rstrip())
        if _STEP.match(text):
            self.steps.append(text)
            self.tail.clear()
        elif text.startswith("Error: "):
            self.error = text.removeprefix("Error: ")
        elif text:
            self.tail.append(text)
        if text:
            event = Log(message=text, level=Level.INFO, image=self.image, step=Step.OBTAIN)
            self.on_event(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildah:
    """Builds with `buildah`; implements `interface.Builder`."""

    run: Runner
    env: Mapping[str, str]
    """Environment of this process; only PATH and proxies are passed on."""
    on_event: EventSink
    masker: Masker
    cleanup: Runner = field(default_factory=_cleanup_runner)
    isolation: str = ""
    """`oci` or `chroot`; empty: `oci` when a container can be started here, else `chroot`."""

    @property
    def name(self) -> str:
        """`buildah`."""
        return "buildah"

    # --- probe

    def probe(self, request: BuildRequest) -> Probe:
        """Say whether buildah can serve `request`: it is started, and the Dockerfile is read."""
        program = find_program("buildah", self.env)
        if program is None:
            return Probe(
                usable=False,
                reason="the program buildah is not on PATH",
                exit_code=ExitCode.INFRASTRUCTURE,
            )
        try:
            storage = self._storage(request, program)
            problem, _ = self._problem(storage, request, read_dockerfile(request))
        except (SetupError, StorageError, ToolError) as error:
            return Probe(
                usable=False,
                reason=error.message,
                program=str(program),
                exit_code=error.exit_code,
            )
        except BuildError:
            storage, problem = self._storage(request, program), ""  # the build says it
        found = describe_program(program)
        return Probe(
            usable=not problem,
            reason=problem
            or f"buildah {storage.version}, isolation {storage.isolation}, {storage.driver}",
            version=storage.version,
            program=str(found.path),
            sha256=found.sha256,
            multi_platform=True,
            notes=(_CHROOT_NOTE,) if storage.isolation == "chroot" else (),
        )

    def _storage(self, request: BuildRequest, program: Path) -> Storage:
        return find_storage(
            self.run,
            request,
            program,
            self.env,
            self.masker,
            cleanup=self.cleanup,
            isolation=self.isolation,
        )

    def _problem(
        self, storage: Storage, request: BuildRequest, dockerfile: Dockerfile
    ) -> tuple[str, int]:
        """Return why this buildah can't build the Dockerfile, and the line; empty when it can."""
        missing = missing_features(dockerfile, parse_version(storage.version))
        if missing:
            return f"{missing[0]}, this is {storage.version}", missing[0].line
        if request.network == "none" and storage.isolation == "chroot":
            return "a chroot cannot take the network away from RUN (build.network: none)", 0
        return "", 0

    # --- build

    def build(self, request: BuildRequest) -> BuildOutcome:
        """Build into `request.layout`; see `interface.Builder`."""
        try:
            return self._build(request)
        except (StorageError, IntegrityError) as error:
            raise ToolError(error.message, hint=error.hint) from error

    def _build(self, request: BuildRequest) -> BuildOutcome:
        dockerfile = read_dockerfile(request)
        check_fixed_platform(dockerfile, request)
        program = find_program("buildah", self.env)
        if program is None:
            raise ToolError(
                "the program buildah is not on PATH", hint="install it or choose another builder"
            )
        storage = self._storage(request, program)
        problem, line = self._problem(storage, request, dockerfile)
        if problem:
            raise SetupError(
                f"buildah cannot build {request.image}: {problem}",
                hint="use a newer buildah or another builder",
                file=request.dockerfile_name if line else "",
                line=line,
            )
        try:
            built = [
                self._one(request, storage, dockerfile, platform)
                for platform in dict.fromkeys(request.platforms)
            ]
            self._join(request, [layout for layout, _, _ in built])
        finally:
            self._clear(storage, request)
            remove_tree(storage.work / "secrets") if (storage.work / "secrets").exists() else None
        check_layout(request.layout, request.platforms, tool=self.name)
        return BuildOutcome(
            builder=self.name,
            builder_version=storage.version,
            duration_s=sum(done.duration_s for _, _, done in built),
            steps_total=sum(output.instructions for _, output, _ in built),
            notes=(_CHROOT_NOTE,) if storage.isolation == "chroot" else (),
        )

    def _one(
        self, request: BuildRequest, storage: Storage, dockerfile: Dockerfile, platform: Platform
    ) -> tuple[Layout, _Output, Completed]:
        """Build one platform and push it into a layout of its own; the storage is empty again then."""
        iid = storage.work / f"{platform.slug}.iid"
        output = _Output(image=request.image, on_event=self.on_event, masker=self.masker)
        arguments = self._arguments(request, storage, platform, iid)
        done = self.run(
            storage.command(*arguments, timeout_s=request.timeout.total_seconds()),
            on_stderr_line=output.feed,
        )
        if done.exit_code != 0:
            raise self._failed(request, dockerfile, output, done)
        self._push(request, storage, platform, iid)
        self._clear(storage, request)
        return Layout(storage.work / platform.slug), output, done

    def _push(self, request: BuildRequest, storage: Storage, platform: Platform, iid: Path) -> None:
        image = read_file(iid, max_bytes=1000).decode().strip()
        target = f"oci:{platform.slug}"  # relative: a colon in the path would end it
        push = ("push", "--quiet", "--format", "oci", image, target)
        pushed = self.run(storage.command(*push, timeout_s=request.timeout.total_seconds()))
        if pushed.exit_code != 0:
            text = self.masker.mask(pushed.error_tail(1))
            raise build_failure(_failure(self.name, request, text))

    def _arguments(
        self,
        request: BuildRequest,
        storage: Storage,
        platform: Platform,
        iid: Path,
    ) -> tuple[str, ...]:
        return (
            *("bud", "--logfile", "/dev/stderr", "--isolation", storage.isolation),
            *("--platform", str(platform), "--file", str(request.dockerfile)),
            # The storage is empty, so a cache could only mix up the stages and platforms of this
            # build, as buildah before 1.45 does (containers/buildah#5400, #6957).
            *("--format", "oci", "--identity-label=false", "--layers", "--no-cache"),
            *("--timestamp", str(request.source_date_epoch), "--iidfile", str(iid)),
            *_ignore_file(request),
            *(("--target", request.target) if request.target else ()),
            *(("--network", request.network) if request.network != "default" else ()),
            *_pairs("--build-arg", request.build_args),
            *_pairs("--label", request.labels),
            *_secrets(request, storage.work / "secrets"),
            str(request.context),
        )

    def _failed(
        self, request: BuildRequest, dockerfile: Dockerfile, output: _Output, done: Completed
    ) -> CiRegistryError:
        if (stopped := stopped_builder(self.name, request, done)) is not None:
            return stopped
        text = output.error or "\n".join(output.tail) or f"buildah ended with {done.exit_code}"
        line = line_of_step(dockerfile, output.steps[-1]) if output.steps else 0
        failure = _failure(self.name, request, text)
        return build_failure(dataclasses.replace(failure, line=line, output="\n".join(output.tail)))

    def _join(self, request: BuildRequest, layouts: list[Layout]) -> None:
        """Move the images into one layout; several get an index."""
        target = Layout.create(request.layout)
        images = [
            dataclasses.replace(_adopt(layout, target), platform=platform)
            for layout, platform in zip(layouts, dict.fromkeys(request.platforms), strict=True)
        ]
        if len(images) == 1:
            target.set_root(images[0])
            return
        index = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [image.to_json() for image in images],
        }
        body = json.dumps(index, separators=(",", ":")).encode()
        target.set_root(target.write_manifest(body, media_types.OCI_INDEX))

    def _clear(self, storage: Storage, request: BuildRequest) -> None:
        for problem in storage.clear(self.cleanup):
            text = self.masker.mask(problem).split("\n", 1)[0]
            event = Log(message=text, level=Level.WARNING, image=request.image, step=Step.OBTAIN)
            self.on_event(event)


def _failure(tool: str, request: BuildRequest, text: str) -> Failure:
    return Failure(
        tool=tool, image=request.image, dockerfile_name=request.dockerfile_name, text=text
    )


def _ignore_file(request: BuildRequest) -> tuple[str, ...]:
    """Name the ignore file that counts: the one beside the Dockerfile replaces the context's."""
    beside = request.dockerfile.with_name(f"{request.dockerfile.name}.dockerignore")
    for path in (beside, request.context / ".dockerignore"):
        if path.is_file():
            return ("--ignorefile", str(path))
    return ()


def _pairs(option: str, values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part for name in sorted(values) for part in (option, f"{name}={values[name]}"))


def _secrets(request: BuildRequest, folder: Path) -> tuple[str, ...]:
    """Return the options; values go through private files, which are removed after the build."""
    options: list[str] = []
    for number, secret in enumerate(request.secrets):
        path = folder / str(number)
        if secret.value is not None:
            write_atomic(path, secret.value.reveal(), mode=0o600, sync=False)
        elif secret.file is not None:
            _link(path, secret.file)  # buildah splits the option at commas, quoted or not
        options += ["--secret", f"id={secret.id},src={path}"]
    return tuple(options)


def _link(path: Path, target: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target.absolute())
    except OSError as error:
        raise storage_error(error, path, "make") from error


def _adopt(source: Layout, target: Layout) -> Descriptor:
    """Move the blobs of a layout into another; returns its root."""
    root = source.root()
    try:
        for path in (source.path / "blobs").glob("*/*"):
            place = target.path / "blobs" / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    except OSError as error:
        raise storage_error(error, target.path, "move blobs to") from error
    return root
