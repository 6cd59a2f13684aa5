"""Reads what `docker buildx build --progress rawjson` writes to stderr, line by line, into events."""

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError
from ci_registry.events import EventSink, Level, Log, Progress
from ci_registry.results import Step
from ci_registry.secret import MASK, Masker
from ci_registry.strict import parse_json

MAX_LINE_BYTES = 32 * 1024 * 1024
TAIL_LINES = 40
_STEP = re.compile(r"\[(?:(?P<stage>.+) )?\d+/\d+\] (?P<instruction>.+)", re.DOTALL)
_FROM = re.compile(r"FROM (?P<reference>\S+)@(?P<digest>sha256:[0-9a-f]{64})")
_SOURCE_LINE = re.compile(r"[^\s:]+:(\d+)")
_FRAME = "--------------------"
_LINE_SUFFIX = re.compile(r" \(line \d+\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """One node of the build graph, as last reported."""

    name: str
    cached: bool = False
    completed: bool = False
    error: str = ""


@dataclass(slots=True, kw_only=True)
class BuildLog:
    """Everything worth keeping of one run of buildx; `feed` it each line of stderr."""

    image: str
    dockerfile_name: str
    on_event: EventSink
    masker: Masker
    vertices: dict[str, Vertex] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    plain: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    """Lines that are no JSON: buildx's own words."""
    source_line: int = 0
    """Line of the Dockerfile that the error is about; 0 when buildx did not say."""
    _tails: dict[str, deque[str]] = field(default_factory=dict)
    _partial: dict[tuple[str, int], str] = field(default_factory=dict)
    _before_frame: int = 0

    def feed(self, line: str) -> None:
        """Take one line; a line that is no solve status is kept as text."""
        if not line.startswith("{"):
            self._feed_text(line.rstrip())
            return
        try:
            status = parse_json(
                line.encode(), what="progress", max_bytes=MAX_LINE_BYTES, strict=False
            )
        except IntegrityError:
            self._feed_text(line.rstrip()[:1000])
            return
        for vertex in _objects(status, "vertexes"):
            self._take_vertex(vertex)
        for entry in _objects(status, "statuses"):
            self._take_status(entry)
        for entry in _objects(status, "logs"):
            self._take_log(entry)
        for entry in _objects(status, "warnings"):
            self._take_warning(entry)

    # --- the parts of a solve status

    def _take_vertex(self, data: dict[str, object]) -> None:
        digest = _text(data, "digest")
        before = self.vertices.get(digest)
        vertex = Vertex(
            name=self.masker.mask(_text(data, "name")),
            cached=bool(data.get("cached")) or (before is not None and before.cached),
            completed=bool(data.get("completed")),
            error=self.masker.mask(_text(data, "error")),
        )
        self.vertices[digest] = vertex
        if data.get("started") and before is not None and not vertex.completed:
            self._log(vertex.name, Level.DEBUG if _is_internal(vertex.name) else Level.INFO)
        if vertex.completed and not (before is not None and before.completed):
            self._flush(digest)
            detail = {"cached": "true"} if vertex.cached else {}
            if vertex.error:
                detail["error"] = vertex.error
            self._progress(vertex.name, 1, 1, "steps", detail)

    def _take_status(self, data: dict[str, object]) -> None:
        what = self.masker.mask(_text(data, "name") or _text(data, "id"))
        current, total = _number(data, "current"), _number(data, "total")
        if current or total:
            self._progress(_text(data, "id") or what, current, total, "bytes", {})

    def _take_log(self, data: dict[str, object]) -> None:
        """Hand out whole lines only: a secret that is cut in two would not be recognised."""
        key = (_text(data, "vertex"), _number(data, "stream"))
        text = self._partial.pop(key, "") + _decode(_text(data, "data"))
        *lines, rest = re.split(r"\r\n|\n|\r", text)
        if rest:
            self._partial[key] = rest
        for line in lines:
            self._log_output(key[0], line)

    def _take_warning(self, data: dict[str, object]) -> None:
        text = _LINE_SUFFIX.sub("", self.masker.mask(_decode(_text(data, "short")).strip()))
        ranges = _objects(data, "range")
        start = ranges[0].get("start") if ranges else None
        line = _number(start, "line") if isinstance(start, dict) else 0
        warning = f"{self.dockerfile_name}:{line}: {text}" if line else text
        if text and warning not in self.warnings:
            self.warnings.append(warning)
            self._log(text, Level.WARNING, line=line)

    def _feed_text(self, line: str) -> None:
        """Keep buildx's own words; `Dockerfile:4` before a frame of dashes is the failing line."""
        text = self.masker.mask(line)
        match = _SOURCE_LINE.fullmatch(text)
        if text == _FRAME and self._before_frame:
            self.source_line = self._before_frame
        self._before_frame = int(match[1]) if match else 0
        if text:
            self.plain.append(text)

    # --- events

    def _log(self, message: str, level: Level, *, line: int = 0) -> None:
        first = message.split("\n", 1)[0].rstrip()
        if first:
            file = self.dockerfile_name if line else ""
            self.on_event(
                Log(
                    message=first,
                    level=level,
                    image=self.image,
                    step=Step.OBTAIN,
                    file=file,
                    line=line,
                )
            )

    def _log_output(self, vertex: str, line: str) -> None:
        text = self.masker.mask(line)
        self._tails.setdefault(vertex, deque(maxlen=TAIL_LINES)).append(text)
        self._log(text, Level.INFO)

    def _progress(
        self, what: str, done: int, total: int, unit: str, detail: dict[str, str]
    ) -> None:
        self.on_event(
            Progress(
                image=self.image,
                step=Step.OBTAIN,
                what=what,
                done=done,
                total=total,
                unit=unit,
                detail=detail,
            )
        )

    def _flush(self, vertex: str) -> None:
        for key in [key for key in self._partial if key[0] == vertex]:
            self._log_output(vertex, self._partial.pop(key))

    # --- what came of it

    @property
    def steps_total(self) -> int:
        """Instructions of the Dockerfile that were solved, over all platforms; `FROM` is none."""
        return sum(_is_instruction(v.name) for v in self.vertices.values())

    @property
    def steps_cached(self) -> int:
        """How many of them came from the cache."""
        return sum(_is_instruction(v.name) and v.cached for v in self.vertices.values())

    @property
    def materials(self) -> tuple[tuple[str, str], ...]:
        """(reference, digest) of each image that was used, from the names of the vertices."""
        found = set()
        for vertex in self.vertices.values():
            step = _STEP.fullmatch(vertex.name)
            match = _FROM.match(step["instruction"]) if step else None
            if match:
                found.add((match["reference"], match["digest"]))
        return tuple(sorted(found))

    @property
    def cache_problems(self) -> tuple[str, ...]:
        """One line for each cache that could not be read or written although the build went on."""
        lines = []
        for vertex in self.vertices.values():
            if not vertex.error:
                continue
            if vertex.name.startswith("exporting cache"):
                lines.append(f"the layer cache was not written: {vertex.error}")
            elif vertex.name.startswith("importing cache") and not _is_absent(vertex.error):
                lines.append(f"{vertex.name} failed: {vertex.error}")
        return tuple(lines)

    @property
    def error(self) -> str:
        """The last `ERROR:` of buildx without its prefixes; empty when there is none."""
        lines = list(self.plain)
        starts = [i for i, line in enumerate(lines) if line.startswith("ERROR: ")]
        if not starts:
            return ""
        text = "\n".join(lines[starts[-1] :]).removeprefix("ERROR: ")
        for prefix in ("failed to build: ", "failed to solve: ", "failed to solve: "):
            text = text.removeprefix(prefix)
        return text

    @property
    def failed_output(self) -> str:
        """The last lines that the failing step printed."""
        for digest, vertex in self.vertices.items():
            if vertex.error and digest in self._tails:
                return "\n".join(self._tails[digest])
        return ""


def _objects(data: object, key: str) -> list[dict[str, object]]:
    value = data.get(key) if isinstance(data, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(data: dict[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _number(data: dict[str, object], key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) else 0


def _decode(text: str) -> str:
    """Decode base64; when a masker has already cut into it, nothing of it is readable."""
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return f"{MASK}\n"


def _is_internal(name: str) -> bool:
    return not _STEP.fullmatch(name)


def _is_instruction(name: str) -> bool:
    step = _STEP.fullmatch(name)
    return step is not None and not step["instruction"].startswith("FROM ")


def _is_absent(error: str) -> bool:
    """A cache that is not there yet is no problem."""
    return error.rstrip().endswith("not found")
