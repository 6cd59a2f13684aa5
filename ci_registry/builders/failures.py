"""Sorts the error texts of builders: whose fault it is, and so which exit code the run ends with."""

import re
from dataclasses import dataclass, replace

from ci_registry.builders.interface import BuildRequest
from ci_registry.errors import BuildError, CiRegistryError, SetupError, ToolError
from ci_registry.process import Completed

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_ENGINE_ABSENT = re.compile(
    r"cannot connect to the docker daemon|is the docker daemon running|error during connect"
    r"|failed to connect to the docker API|no such host.*docker\.sock",
    re.IGNORECASE,
)
_ENGINE_FORBIDDEN = re.compile(r"permission denied while trying to connect", re.IGNORECASE)
_ENGINE_DIED = re.compile(
    r"rpc error: code = Unavailable|error reading from server|closed by the remote host"
    r"|use of closed network connection|context canceled|connection reset by peer|no active session",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"did not complete successfully|returned a non-zero code|error building at STEP"
    r"|while running runtime|exit status \d+"
)
_REGISTRY = re.compile(
    r"failed to resolve source metadata|pull access denied|failed to do request"
    r"|unexpected status (?:code |from )|failed to (?:copy|authorize|fetch|pull)\b|httpReadSeeker"
    r"|initializing source|creating build container|manifest for .* not found|pinging container registry"
    r"|reading manifest|error response from daemon: (?:get|head) \"https?://"
    r"|repository .* not found",
    re.IGNORECASE,
)
_BUSY = re.compile(r"\b(?:429|50[0234]|507)\b|too ?many ?requests|toomanyrequests", re.IGNORECASE)
_DENIED = re.compile(
    r"\b40[13]\b|unauthorized|forbidden|access denied|authorization failed|insufficient_scope"
    r"|authentication required|no basic auth credentials",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"i/o timeout|deadline exceeded|connection refused|no such host|tls:|x509:|\bEOF\b"
    r"|temporary failure in name resolution|network is unreachable|client\.timeout",
    re.IGNORECASE,
)
_ABSENT = re.compile(r"not found|manifest unknown|name unknown|no such image", re.IGNORECASE)
_SETUP = (
    (re.compile(r"^secret (?P<what>\S+): not found"), "build secret {what} is missing"),
    (
        re.compile(r"failed to read dockerfile: open .*no such file"),
        "the Dockerfile cannot be read",
    ),
    (
        re.compile(r"target stage \"?(?P<what>[^\"]+)\"? could not be found"),
        "the Dockerfile has no stage {what!r}",
    ),
)
_SETUP_HINT = "check `secret_envs`, `secret_files`, `target` and `dockerfile` of the image"
_REGISTRY_ANSWERS: tuple[
    tuple[re.Pattern[str], type[SetupError] | type[ToolError], str, str], ...
] = (
    (
        _BUSY,
        ToolError,
        "could not be fetched, its registry is busy or broken",
        "run the job again later, or log in to raise the rate limit",
    ),
    (
        _NETWORK,
        ToolError,
        "could not be fetched",
        "check that the builder reaches the registry, then run again",
    ),
    (
        _DENIED,
        SetupError,
        "may not be read",
        "log in to its registry, or check the name: absent and private look alike",
    ),
    (_ABSENT, SetupError, "does not exist", "check name, tag and platform"),
)
_WORDY = (
    (re.compile(r"^(?:\S+: )?failed to resolve source metadata for \S+?: "), ""),
    (
        re.compile(r"^failed to compute cache key: failed to calculate checksum of ref \S+: "),
        "in the build context, ",
    ),
)
_KILLED = re.compile(r"exit (?:code|status):? 137|code: 137\b|signal: killed")
_FORMAT = re.compile(r"exec format error", re.IGNORECASE)
_IMAGE = re.compile(
    r"failed to resolve source metadata for (?P<a>\S+?): |initializing source docker://(?P<b>\S+?): "
    r"|pull access denied for (?P<c>[^\s,]+)|manifest for (?P<d>\S+) not found"
)
_PARSE_LINE = re.compile(r"(?:parse error on|on|at) line (\d+)", re.IGNORECASE)


def stopped_builder(tool: str, request: BuildRequest, done: Completed) -> ToolError | None:
    """Return the error of a builder that was stopped from outside; what it said does not explain that."""
    if done.timed_out:
        return ToolError(
            f"building {request.image} took longer than {request.timeout}",
            hint="raise build.timeout, or look for the step that hangs",
        )
    if done.exit_code < 0:
        return ToolError(
            f"{tool} was killed by signal {-done.exit_code} while building {request.image}",
            hint="the machine may be out of memory; run the job again",
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is known about a build that failed; every text is free of secrets."""

    tool: str
    """Name of the builder, for messages."""
    image: str
    dockerfile_name: str
    text: str
    """The error as the builder put it."""
    line: int = 0
    """Of the Dockerfile; 0 when unknown."""
    output: str = ""
    """Last lines of the failing step."""

    @property
    def headline(self) -> str:
        """The first line of the error."""
        lines = (line.strip() for line in self.text.splitlines())
        first = next((line for line in lines if line), "no message")
        for pattern, replacement in _WORDY:
            first = pattern.sub(replacement, first)
        return first

    def as_error(
        self, kind: type[SetupError] | type[ToolError], message: str, hint: str
    ) -> CiRegistryError:
        """Return an error of that kind that points at the Dockerfile line when it is known."""
        file = self.dockerfile_name if self.line else ""
        return kind(message, hint=hint, file=file, line=self.line)

    def as_build_error(self, hint: str) -> BuildError:
        """Return the error of a Dockerfile that is wrong or whose instruction failed."""
        return BuildError(
            f"building {self.image} failed: {self.headline}",
            hint=hint,
            file=self.dockerfile_name,
            line=self.line,
            log=self.output,
        )


def build_failure(failure: Failure) -> CiRegistryError:
    """Return the error for a failed build: 3 for the Dockerfile's fault, 2 for settings, 4 for the rest."""
    if _NO_SPACE.search(failure.text) or _NO_SPACE.search(failure.output):
        return failure.as_error(
            ToolError,
            f"no space left while building {failure.image}",
            "free space for the engine or builder (docker system df), then run again",
        )
    if _INSTRUCTION.search(failure.text):
        return _instruction(failure)
    return _engine(failure) or _setup(failure) or _registry(failure) or _dockerfile(failure)


def _instruction(failure: Failure) -> CiRegistryError:
    if _FORMAT.search(failure.text) or _FORMAT.search(failure.output):
        return failure.as_error(
            SetupError,
            f"{failure.image}: a RUN of another platform cannot be executed here",
            "set up emulation (binfmt, QEMU), build on a machine of that platform, "
            "or use FROM --platform=$BUILDPLATFORM for the stage",
        )
    killed = _KILLED.search(failure.headline) is not None
    return failure.as_build_error(
        "the process was killed, most likely for lack of memory" if killed else ""
    )


def _engine(failure: Failure) -> CiRegistryError | None:
    if _ENGINE_FORBIDDEN.search(failure.text):
        return SetupError(
            f"no permission to use the Docker engine: {failure.headline}",
            hint="run as a user who may use the engine's socket, or choose another builder",
        )
    if _ENGINE_ABSENT.search(failure.text):
        return ToolError(
            f"the Docker engine does not answer: {failure.headline}",
            hint="start the engine, set DOCKER_HOST, or choose another builder (builder: buildah)",
        )
    if _ENGINE_DIED.search(failure.text) and not _REGISTRY.search(failure.text):
        return ToolError(
            f"{failure.tool} lost its engine while building {failure.image}: {failure.headline}",
            hint="run the job again; the engine's own log says why it stopped",
        )
    return None


def _setup(failure: Failure) -> CiRegistryError | None:
    for pattern, message in _SETUP:
        match = pattern.search(failure.text)
        if match:
            what = match.groupdict().get("what", "")
            return failure.as_error(
                SetupError, f"{failure.image}: {message.format(what=what)}", _SETUP_HINT
            )
    return None


def _registry(failure: Failure) -> CiRegistryError | None:
    if not _REGISTRY.search(failure.text):
        if failure.line == 0 or not _NETWORK.search(failure.text):
            return None
        message = f"{failure.image}: a download failed: {failure.headline}"
        return failure.as_error(ToolError, message, "run the job again")
    match = _IMAGE.search(failure.text)
    name = next(filter(None, match.groups()), "") if match else ""
    subject = f"the image {name} that {failure.image} needs" if name else "an image"
    status = _without_names(failure.text, name)
    for pattern, kind, what, hint in _REGISTRY_ANSWERS:
        if pattern.search(status):
            return failure.as_error(kind, f"{subject} {what}: {failure.headline}", hint)
    return failure.as_error(ToolError, f"{subject} could not be fetched: {failure.headline}", "")


def _without_names(text: str, name: str) -> str:
    """Take image names and addresses out: a port or tag may look like a status."""
    text = re.sub(r"https?://\S+", " ", text)
    return re.sub(r"sha256:[0-9a-f]+", " ", text.replace(name, " ") if name else text)


def _dockerfile(failure: Failure) -> CiRegistryError:
    match = _PARSE_LINE.search(failure.text)
    line = failure.line or (int(match[1]) if match else 0)
    about = "dockerfile" in failure.text.lower() and "failed to read" not in failure.text
    if line or about or failure.output:
        return replace(failure, line=line).as_build_error("")
    return ToolError(
        f"{failure.tool} failed to build {failure.image}: {failure.headline}",
        hint="this is not about the Dockerfile: see the builder's output above",
    )
