"""Says which parts of a Dockerfile a given buildah cannot build, before it is started."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.dockerfile.model import Dockerfile, Instruction

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One thing in a Dockerfile that needs a newer buildah."""

    what: str
    needs: Version
    line: int

    def __str__(self) -> str:
        return f"{self.what} needs buildah >= {self.needs[0]}.{self.needs[1]}"


def parse_version(text: str) -> Version:
    """Return major and minor of `buildah version 1.28.2 (image-spec …)`; (0, 0) when not found."""
    match = re.search(r"\b(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def missing_features(dockerfile: Dockerfile, version: Version) -> tuple[Missing, ...]:
    """Return what this version rejects or ignores, in the order of the Dockerfile."""
    found = [
        Missing(what=what, needs=needs, line=instruction.first_line)
        for instruction in _instructions(dockerfile)
        for what, needs in _needs(instruction)
    ]
    return tuple(missing for missing in found if version < missing.needs)


def _instructions(dockerfile: Dockerfile) -> Iterator[Instruction]:
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            yield instruction.trigger or instruction


def _needs(instruction: Instruction) -> Iterator[tuple[str, Version]]:
    keyword = instruction.keyword
    if instruction.heredocs:
        yield f"{keyword} <<{instruction.heredocs[0].name}", (1, 33)
    names = {flag.name for flag in instruction.flags}
    if keyword == "ADD" and "checksum" in names:
        yield "ADD --checksum", (1, 33)
    if keyword in ("ADD", "COPY") and "parents" in names:
        yield f"{keyword} --parents", (1, 40)
    if keyword in ("ADD", "COPY") and "link" in names:
        yield f"{keyword} --link", (1, 41)
    if keyword == "RUN" and "network" in names:
        yield "RUN --network", (1, 30)


def line_of_step(dockerfile: Dockerfile, step: str) -> int:
    """Return the line of the instruction that buildah announced, for example `STEP 4/4: RUN exit 3`.

    Stages that are not needed are not announced, so the stage is told by its length and the keyword
    at that place; when that leaves several, by the text. 0 when it stays unclear.
    """
    match = re.search(r"STEP (\d+)/(\d+): (\w+)\s*(.*)", step)
    if match is None:
        return 0
    place, length = int(match[1]), int(match[2])
    candidates = []
    for stage in dockerfile.stages:
        instructions = (stage.origin, *stage.instructions)
        if len(instructions) == length and 1 <= place <= length:
            candidates.append(instructions[place - 1])
    candidates = [c for c in candidates if c.keyword == match[3].upper()]
    if len(candidates) > 1:
        same = [c for c in candidates if " ".join(c.text.split()).endswith(match[4].strip())]
        candidates = same or candidates
    return candidates[0].first_line if len(candidates) == 1 else 0
