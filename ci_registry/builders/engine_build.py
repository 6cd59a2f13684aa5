"""The pure half of classic engine builds: what they can't do, and what their stream of messages says."""

import io
import json
import re
import tarfile
from collections import deque
from dataclasses import dataclass, field

from ci_registry.builders.interface import BuildRequest
from ci_registry.dockerfile.model import Dockerfile, Instruction
from ci_registry.events import EventSink, Level, Log
from ci_registry.results import Step
from ci_registry.secret import Masker

_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)", re.DOTALL)
_CACHED = " ---> Using cache"
_NEEDS_BUILDKIT = {
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("link", "parents", "exclude", "chmod"),
    "ADD": ("link", "parents", "exclude", "chmod", "checksum", "keep-git-dir", "unpack"),
}


def refused_instruction(dockerfile: Dockerfile) -> tuple[str, int]:
    """Return the first thing that only BuildKit understands and its line; empty when there is none."""
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            what = _refused(instruction.trigger or instruction)
            if what:
                return what, instruction.first_line
    return "", 0


def _refused(instruction: Instruction) -> str:
    if instruction.heredocs:
        return f"{instruction.keyword} <<{instruction.heredocs[0].name}"
    refused = _NEEDS_BUILDKIT.get(instruction.keyword, ())
    name = next((flag.name for flag in instruction.flags if flag.name in refused), "")
    return f"{instruction.keyword} --{name}" if name else ""


@dataclass(slots=True, kw_only=True)
class ClassicLog:
    """What a classic build has said; `feed` it each message of the stream."""

    image: str
    on_event: EventSink
    masker: Masker
    error: str = ""
    image_id: str = ""
    step: int = 0
    """1-based number of the step under way, counted over the whole Dockerfile."""
    steps_total: int = 0
    steps_cached: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    """Output of the step under way."""
    _partial: str = ""

    def feed(self, message: object) -> None:
        """Take one decoded message."""
        if not isinstance(message, dict):
            return
        aux = message.get("aux")
        if isinstance(aux, dict) and isinstance(aux.get("ID"), str):
            self.image_id = aux["ID"]
        if isinstance(message.get("error"), str):
            self.error = self.masker.mask(message["error"])
        text = message.get("stream")
        if isinstance(text, str):
            *lines, self._partial = (self._partial + text).split("\n")
            for line in lines:
                self._take(line.rstrip("\r"))

    def close(self) -> None:
        """Take what is left after the last message."""
        if self._partial:
            self._take(self._partial)
            self._partial = ""

    def _take(self, line: str) -> None:
        text = self.masker.mask(line)
        match = _STEP.match(text)
        if match:
            self.step, self.steps_total = int(match[1]), int(match[2])
            self.tail.clear()
        elif text == _CACHED:
            self.steps_cached += 1
        elif text.strip() and not text.startswith(" ---> "):
            self.tail.append(text)
        if text.strip():
            event = Log(message=text, level=Level.INFO, image=self.image, step=Step.OBTAIN)
            self.on_event(event)


def instruction_of_step(dockerfile: Dockerfile, step: int) -> Instruction | None:
    """Return the instruction of a 1-based step; None when there is no such step.

    The classic builder counts every instruction of every stage up to the target, `FROM` included,
    and the `ARG` instructions above the first `FROM`.
    """
    instructions = list(dockerfile.global_args)
    for stage in dockerfile.stages:
        instructions += [stage.origin, *stage.instructions]
    return instructions[step - 1] if 1 <= step <= len(instructions) else None


def build_parameters(request: BuildRequest, dockerfile: str, tag: str) -> dict[str, str]:
    """Return the query of `POST /build` for the classic builder."""
    parameters = {
        "t": tag,
        "dockerfile": dockerfile,
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "platform": str(request.platforms[0]),
        "buildargs": json.dumps(dict(request.build_args)),
        "labels": json.dumps(dict(request.labels)),
    }
    optional = {
        "target": request.target,
        "nocache": "1" if request.no_cache else "",
        "pull": "1" if request.pull else "",
        "networkmode": request.network if request.network != "default" else "",
    }
    return parameters | {name: value for name, value in optional.items() if value}


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a small file to a build context in tar form."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))
