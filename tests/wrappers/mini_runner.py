"""A small GitHub runner: runs the `run` steps of a composite action as the real one does, and nothing else.

It is as strict as the action is meant to be: only `${{ inputs.NAME }}` and
`${{ steps.ID.outputs.NAME }}` are expressions, anything else is an error. What the log says is read
as the real runner reads it: `::command::` at the start of a line, `##[command]` anywhere in one.
"""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_SUMMARY_BYTES = 1024 * 1024
"""Over it GitHub drops the whole summary."""
TIMEOUT_S = 240
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_REFERENCE = re.compile(
    r"(?:inputs\.(?P<input>[\w-]+)|steps\.(?P<step>[\w-]+)\.outputs\.(?P<output>[\w-]+))"
)
_NEW = re.compile(r"::(?P<name>[\w-]+)(?: (?P<properties>[^:]*(?::(?!:)[^:]*)*))?::(?P<data>.*)")
_OLD = re.compile(r"##\[(?P<name>[\w-]+)(?: (?P<properties>[^\]]*))?\](?P<data>.*)")
_COMMANDS = frozenset(
    {
        *("error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands"),
        *("set-output", "save-state", "set-env", "add-path", "echo", "add-matcher"),
        *("remove-matcher", "internal-set-repo-path"),
    }
)


class RunnerError(AssertionError):
    """The action does what a real runner would refuse."""


@dataclass(frozen=True, kw_only=True)
class WorkflowCommand:
    """One command that the runner would obey."""

    name: str
    properties: dict[str, str]
    data: str


@dataclass(frozen=True, kw_only=True)
class ActionRun:
    """What a step that uses the action did."""

    exit_code: int
    outputs: dict[str, str]
    """Outputs that action.yml declares, as later steps of the workflow see them."""
    written: dict[str, str]
    """Everything that the steps wrote to `$GITHUB_OUTPUT`."""
    log: str
    commands: tuple[WorkflowCommand, ...]
    summary: str
    exported: dict[str, str]
    """What was written to `$GITHUB_ENV`."""

    def annotations(self, kind: str) -> list[WorkflowCommand]:
        """Return the annotations of one kind: error, warning or notice."""
        return [command for command in self.commands if command.name == kind]


@dataclass(frozen=True, kw_only=True)
class Event:
    """What started the workflow."""

    name: str = "push"
    ref: str = "refs/heads/main"
    sha: str = ""
    head_ref: str = ""
    base_ref: str = ""
    protected: bool = True
    payload: Mapping[str, Any] = field(
        default_factory=lambda: {"repository": {"default_branch": "main"}}
    )


@dataclass(frozen=True, kw_only=True)
class MiniRunner:
    """One job on one machine."""

    workspace: Path
    temp: Path
    """RUNNER_TEMP; shared between steps of a job."""
    action: Path
    """Folder of the action."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of the job: `env:` of the workflow and of the machine."""
    event: Event = field(default_factory=Event)
    repository: str = "acme/shop"

    def use(self, inputs: Mapping[str, str], **env: str) -> ActionRun:
        """Run the action as one step with `with: inputs` and `env: env`."""
        action = load_action(self.action)
        unknown = set(inputs) - set(action["inputs"])
        if unknown:
            raise RunnerError(f"unexpected inputs: {', '.join(sorted(unknown))}")
        known = {name: str(entry.get("default", "")) for name, entry in action["inputs"].items()}
        known |= inputs
        job = _Job(runner=self, inputs=known, env=env)
        for step in action["runs"]["steps"]:
            if job.exit_code == 0:
                job.run(step)
        outputs = {
            name: job.evaluate(entry["value"]) for name, entry in action["outputs"].items()
        }  # also after a failure, as the real one
        return job.finished(outputs)


def load_action(folder: Path) -> dict[str, Any]:
    """Load action.yml and refuse what a real runner refuses or what could inject."""
    action: dict[str, Any] = yaml.safe_load((folder / "action.yml").read_text())
    if action["runs"]["using"] != "composite":
        raise RunnerError("only composite actions run here")
    for what in ("inputs", "outputs"):
        for name, entry in action[what].items():
            if "${{" in entry["description"]:
                raise RunnerError(f"the description of {name} holds an expression")
    for step in action["runs"]["steps"]:
        if "uses" in step or step.get("shell") != "bash":
            raise RunnerError("a step is no bash script")
        if "${{" in step["run"]:
            raise RunnerError("an expression inside a script is an injection")
        if set(step) - {"name", "id", "shell", "env", "run"}:
            raise RunnerError(f"keys that are not known here: {set(step)}")
    return action


@dataclass
class _Job:
    runner: MiniRunner
    inputs: dict[str, str]
    env: dict[str, str]
    exit_code: int = 0
    log: str = ""
    summary: str = ""
    exported: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    def evaluate(self, template: str) -> str:
        """Fill in the few expressions that are allowed."""

        def value(match: re.Match[str]) -> str:
            found = _REFERENCE.fullmatch(match[1])
            if found is None:
                raise RunnerError(f"unknown expression: {match[1]}")
            if found["input"]:
                return self.inputs[found["input"]]
            return self.outputs.get(found["step"], {}).get(found["output"], "")

        return _EXPRESSION.sub(value, template)

    def run(self, step: Mapping[str, Any]) -> None:
        """Run one script as `shell: bash` does."""
        commands = self.runner.temp / "_runner_file_commands"
        commands.mkdir(parents=True, exist_ok=True)
        mark = secrets.token_hex(8)
        files = {
            name: commands / f"{name.lower()}_{mark}"
            for name in ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")
        }
        for path in files.values():
            path.touch()
        event = commands / f"event_{mark}.json"
        event.write_text(json.dumps(self.runner.event.payload))
        script = self.runner.temp / f"{mark}.sh"
        script.write_text(step["run"])
        env = dict(self.runner.env) | github_variables(self.runner)
        env |= self.env | self.exported
        env |= {name: self.evaluate(str(text)) for name, text in step.get("env", {}).items()}
        env |= {name: str(path) for name, path in files.items()}
        env["GITHUB_EVENT_PATH"] = str(event)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            env=env,
            cwd=self.runner.workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        self.exit_code = done.returncode
        self.log += done.stdout.decode()
        self.outputs[step.get("id", mark)] = read_file_command(files["GITHUB_OUTPUT"].read_text())
        self.exported |= read_file_command(files["GITHUB_ENV"].read_text())
        self.summary += files["GITHUB_STEP_SUMMARY"].read_text()
        if files["GITHUB_PATH"].read_text():
            raise RunnerError("the action changes the PATH of the job")

    def finished(self, outputs: dict[str, str]) -> ActionRun:
        written = {n: v for step in self.outputs.values() for n, v in step.items()}
        return ActionRun(
            exit_code=self.exit_code,
            outputs=outputs,
            written=written,
            log=self.log,
            commands=read_commands(self.log),
            summary=self.summary,
            exported=self.exported,
        )


def github_variables(runner: MiniRunner) -> dict[str, str]:
    """Return what GitHub sets in every step."""
    event = runner.event
    short = re.sub(r"^refs/(heads|tags|pull)/", "", event.ref)
    return {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(runner.action),
        "GITHUB_WORKSPACE": str(runner.workspace),
        "GITHUB_EVENT_NAME": event.name,
        "GITHUB_REF": event.ref,
        "GITHUB_REF_NAME": short,
        "GITHUB_REF_TYPE": "tag" if event.ref.startswith("refs/tags/") else "branch",
        "GITHUB_REF_PROTECTED": str(event.protected).lower(),
        "GITHUB_SHA": event.sha,
        "GITHUB_HEAD_REF": event.head_ref,
        "GITHUB_BASE_REF": event.base_ref,
        "GITHUB_REPOSITORY": runner.repository,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_ACTOR": "someone",
        "GITHUB_RUN_ID": "1",
        "RUNNER_OS": "Linux",
        "RUNNER_TEMP": str(runner.temp),
    }


def machine_environment(*names: str) -> dict[str, str]:
    """Return what a job sees of the machine: PATH and the like, and these variables."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", *names)
    keep += tuple(name for name in os.environ if name.startswith("PIP_"))
    return {name: os.environ[name] for name in keep if name in os.environ}


def read_file_command(text: str) -> dict[str, str]:
    """Read `$GITHUB_OUTPUT` or `$GITHUB_ENV` as the runner does."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, heredoc, delimiter = line.partition("<<")
        if not heredoc or "=" in name:
            name, equals, value = line.partition("=")
            if not equals:
                raise RunnerError(f"invalid format: {line!r}")
            found[name] = value
            continue
        content = []
        for part in lines:
            if part == delimiter:
                break
            content.append(part)
        else:
            raise RunnerError(f"delimiter of {name} is missing")
        found[name] = "\n".join(content)
    return found


def read_commands(log: str) -> tuple[WorkflowCommand, ...]:
    """Return the commands that a runner obeys in a log."""
    found: list[WorkflowCommand] = []
    resume = ""
    for line in log.splitlines():
        command = _parse_command(line)
        if command is None:
            if resume and line.strip() == f"::{resume}::":
                resume = ""
            continue
        if resume:
            continue
        if command.name == "stop-commands":
            resume = command.data
        found.append(command)
    return tuple(found)


def _parse_command(line: str) -> WorkflowCommand | None:
    match = _NEW.match(line.lstrip()) or _OLD.search(line)
    if match is None or match["name"].lower() not in _COMMANDS:
        return None
    properties = {}
    for item in re.split(r"[,;]", match["properties"] or ""):
        name, _, value = item.strip().partition("=")
        if name:
            properties[name] = _unescape(value, {"%3A": ":", "%2C": ","})
    return WorkflowCommand(
        name=match["name"].lower(), properties=properties, data=_unescape(match["data"], {})
    )


def _unescape(text: str, more: Mapping[str, str]) -> str:
    for escaped, plain in ({"%0D": "\r", "%0A": "\n"} | dict(more)).items():
        text = text.replace(escaped, plain)
    return text.replace("%25", "%")
