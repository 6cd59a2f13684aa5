"""The image config of a stage: what instructions without files change in it."""

import copy
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ci_registry.builders.assemble_tree import join_parts, split_path
from ci_registry.dockerfile.expand import ExpansionError, Rules, expand
from ci_registry.dockerfile.model import Instruction
from ci_registry.oci.platform import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_SHELL = ("/bin/sh", "-c")
_KEPT = ("author", "os.version", "os.features")
_KEPT_SETTINGS = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Healthcheck",
    "Shell",
    "OnBuild",
    "ArgsEscaped",
)
"""What of a base's `config` is inherited; what old engines left there besides is not."""
_PORT = re.compile(r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?(?:/(?P<protocol>[a-zA-Z]*))?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_NANOSECONDS["h"] = 60 * _NANOSECONDS["m"]
_REAL_TIME = re.compile(r"RTMIN(\+\d+)?|RTMAX(-\d+)?")


class ConfigProblem(ValueError):  # noqa: N818 - the caller makes a BuildError with file and line
    """An instruction has a value that no image may have."""


@dataclass(slots=True, kw_only=True)
class StageConfig:
    """The config of a stage while its instructions are carried out."""

    platform: Platform
    settings: dict[str, object] = field(default_factory=dict)
    """The `config` member of the image config."""
    top: dict[str, object] = field(default_factory=dict)
    """Members beside it that are kept: author, os.version, os.features."""
    variables: dict[str, str] = field(default_factory=dict)
    """`ENV` and `ARG` values that later instructions see."""
    declared: set[str] = field(default_factory=set)
    """Names that an `ARG` declared."""
    has_cmd: bool = False
    """Whether this stage has a `CMD` of its own."""

    @classmethod
    def scratch(cls, platform: Platform) -> "StageConfig":
        """Return the config of an empty image."""
        stage = cls(platform=platform, settings={"WorkingDir": "/"})
        stage._set_default_path()
        return stage

    @classmethod
    def of_base(cls, config: Mapping[str, object], platform: Platform) -> "StageConfig":
        """Return what a stage inherits from the config of its base image."""
        inner = config.get("config")
        inherited = inner if isinstance(inner, dict) else {}
        stage = cls(
            platform=platform,
            settings={k: copy.deepcopy(inherited[k]) for k in _KEPT_SETTINGS if inherited.get(k)},
            top={k: copy.deepcopy(config[k]) for k in _KEPT if config.get(k)},
        )
        for text in stage.texts("Env"):
            name, _, value = text.partition("=")
            stage.variables[name] = value
        stage._set_default_path()
        return stage

    def child(self) -> "StageConfig":
        """Return what a stage inherits that starts `FROM` this one."""
        settings = copy.deepcopy(self.settings)
        settings.pop("OnBuild", None)
        return StageConfig(
            platform=self.platform,
            settings=settings,
            top=copy.deepcopy(self.top),
            variables=dict(self.variables),
            declared=set(self.declared),
        )

    def _set_default_path(self) -> None:
        if "PATH" not in self.variables:
            self.set_env("PATH", DEFAULT_PATH)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts in the settings; empty when it is absent."""
        value = self.settings.get(name)
        return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []

    def text(self, name: str) -> str:
        """Return a text in the settings; empty when it is absent."""
        value = self.settings.get(name)
        return value if isinstance(value, str) else ""

    def set_env(self, name: str, value: str) -> None:
        """Set an environment variable; one that is there keeps its place in the list."""
        env = self.texts("Env")
        line = f"{name}={value}"
        place = next((i for i, text in enumerate(env) if text.partition("=")[0] == name), None)
        if place is None:
            env.append(line)
        else:
            env[place] = line
        self.settings["Env"] = env
        self.variables[name] = value

    def add_keys(self, name: str, keys: tuple[str, ...]) -> None:
        """Add to a set in the settings, which is an object with empty members."""
        known = self.settings.get(name)
        self.settings[name] = (dict(known) if isinstance(known, dict) else {}) | {
            key: {} for key in keys
        }

    def set_labels(self, labels: Mapping[str, str]) -> None:
        """Add labels; the last value counts."""
        known = self.settings.get("Labels")
        merged = (dict(known) if isinstance(known, dict) else {}) | dict(labels)
        if merged:
            self.settings["Labels"] = merged

    def set_command(self, name: str, command: tuple[str, ...]) -> None:
        """Set `Cmd` or `Entrypoint`; an empty one takes it away."""
        if command:
            self.settings[name] = list(command)
        else:
            self.settings.pop(name, None)

    def absolute(self, path: str) -> str:
        """Return a path as seen from the working directory; a trailing slash stays."""
        joined = path if path.startswith("/") else f"{self.text('WorkingDir') or '/'}/{path}"
        plain = join_parts(split_path(joined))
        is_folder = path in ("", ".") or path.endswith(("/", "/."))
        return plain if plain == "/" or not is_folder else f"{plain}/"


Expander = Callable[[str], str]


def expander(stage: StageConfig, escape: str) -> Expander:
    """Return a function that expands with the variables of a stage; raises `ConfigProblem`."""

    def expand_text(text: str) -> str:
        try:
            return expand(text, stage.variables, Rules(escape=escape)).text
        except ExpansionError as error:
            raise ConfigProblem(f"cannot expand {text!r}: {error}") from error

    return expand_text


def _env(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    # All values are expanded before the first is set.
    for name, value in [(expanded(n), expanded(v or "")) for n, v in instruction.pairs]:
        stage.set_env(name, value)


def _label(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    stage.set_labels({expanded(n): expanded(v or "") for n, v in instruction.pairs})


def _command(stage: StageConfig, instruction: Instruction) -> tuple[str, ...]:
    if instruction.is_exec:
        return instruction.arguments
    shell = tuple(stage.texts("Shell")) or _DEFAULT_SHELL
    return (*shell, " ".join(instruction.arguments))


def _cmd(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    stage.set_command("Cmd", _command(stage, instruction))
    stage.has_cmd = True


def _entrypoint(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    stage.set_command("Entrypoint", _command(stage, instruction))
    if not stage.has_cmd:
        stage.set_command("Cmd", ())


def _user(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    stage.settings["User"] = expanded(instruction.arguments[0])


def _workdir(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    path = stage.absolute(expanded(instruction.arguments[0]))
    stage.settings["WorkingDir"] = path.rstrip("/") or "/"


def _expose(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    ports: list[str] = []
    for argument in instruction.arguments:
        for word in expanded(argument).split():
            ports += _ports(word)
    stage.add_keys("ExposedPorts", tuple(ports))


def _ports(word: str) -> list[str]:
    match = _PORT.fullmatch(word.rpartition(":")[2])
    if match is None:
        raise ConfigProblem(f"invalid port: {word!r}")
    first, last = int(match["first"]), int(match["last"] or match["first"])
    protocol = (match["protocol"] or "tcp").lower()
    if not 0 <= first <= last <= 65_535 or protocol not in ("tcp", "udp", "sctp"):
        raise ConfigProblem(f"invalid port: {word!r}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    paths = tuple(expanded(path.strip()) for path in instruction.arguments)
    if not all(paths):
        raise ConfigProblem("VOLUME specified can not be an empty string")
    stage.add_keys("Volumes", paths)


def _stop_signal(stage: StageConfig, instruction: Instruction, expanded: Expander) -> None:
    text = expanded(instruction.arguments[0])
    name = text.upper().removeprefix("SIG")
    known = {s.name.removeprefix("SIG") for s in signal.Signals}
    is_number = text.isascii() and text.isdigit() and 0 < int(text) < 65
    if not is_number and name not in known and not _REAL_TIME.fullmatch(name):
        raise ConfigProblem(f"unknown signal: {text!r}")
    stage.settings["StopSignal"] = text


def _shell(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    stage.settings["Shell"] = list(instruction.arguments)


def _maintainer(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    stage.top["author"] = instruction.arguments[0]


def _onbuild(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    trigger = re.sub(r"^\s*ONBUILD\s*", "", instruction.text, flags=re.IGNORECASE)
    heredocs = instruction.trigger.heredocs if instruction.trigger else ()
    body = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in heredocs)
    stage.settings["OnBuild"] = [*stage.texts("OnBuild"), trigger + body]


def _healthcheck(stage: StageConfig, instruction: Instruction, _expanded: Expander) -> None:
    kind, *command = instruction.arguments
    if kind.upper() == "NONE":
        stage.settings["Healthcheck"] = {"Test": ["NONE"]}
        return
    check: dict[str, object] = {
        "Test": ["CMD" if instruction.is_exec else "CMD-SHELL", *command],
    }
    for flag, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        if nanoseconds := _duration(flag, instruction.flag(flag) or ""):
            check[key] = nanoseconds
    retries = instruction.flag("retries") or "0"
    if not (retries.isascii() and retries.isdigit()):
        raise ConfigProblem(f"--retries is no number: {retries!r}")
    if int(retries):
        check["Retries"] = int(retries)
    stage.settings["Healthcheck"] = check


def _duration(flag: str, text: str) -> int:
    """Return nanoseconds of a Go duration such as `1m30s`; 0 for none."""
    if text in ("", "0"):
        return 0
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ConfigProblem(f"--{flag} is no duration: {text!r}")
    nanoseconds = round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))
    if 0 < nanoseconds < _NANOSECONDS["ms"]:
        raise ConfigProblem(f"--{flag} is less than 1ms: {text!r}")
    return nanoseconds


SETTERS: Mapping[str, Callable[[StageConfig, Instruction, Expander], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
"""The instructions that change the config only; `WORKDIR` also makes its directory."""


def set_arguments(
    stage: StageConfig,
    instruction: Instruction,
    expanded: Expander,
    given: Mapping[str, str],
    global_values: Mapping[str, str],
) -> None:
    """Carry out an `ARG`: a given value, else the default, else the value above the first `FROM`."""
    for name, default in instruction.pairs:
        stage.declared.add(name)
        if name in given:
            stage.variables[name] = given[name]
        elif default is not None:
            stage.variables[name] = expanded(default)
        elif name in global_values:
            stage.variables[name] = global_values[name]
