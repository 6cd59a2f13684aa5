"""The pipeline as a table: what happens to one image, and in which order.

    preflight ─ build ─ inspect ─┬─ scan ──┬─ judge ─ publish ─ sign ─ tag
                                 └─ upload ┘

Every command is a subset of this table. `gather` and `decide` come before it, `report` after it.
"""

from ci_registry.config.model import UploadMode
from ci_registry.pipeline.preflight import preflight
from ci_registry.pipeline.state import StepSpec
from ci_registry.pipeline.steps_obtain import inspect, obtain
from ci_registry.pipeline.steps_publish import publish, sign, tag, upload
from ci_registry.pipeline.steps_scan import judge_image, scan
from ci_registry.results import Step

STEPS: tuple[StepSpec, ...] = (
    StepSpec(step=Step.PREFLIGHT, needs=(), action=preflight),
    StepSpec(step=Step.OBTAIN, needs=(Step.PREFLIGHT,), action=obtain, limit="build"),
    StepSpec(step=Step.INSPECT, needs=(Step.OBTAIN,), action=inspect, limit="inspect"),
    StepSpec(step=Step.SCAN, needs=(Step.INSPECT,), action=scan, limit="scan"),
    StepSpec(step=Step.UPLOAD, needs=(Step.INSPECT,), action=upload, limit="upload"),
    StepSpec(step=Step.JUDGE, needs=(Step.SCAN,), action=judge_image),
    StepSpec(step=Step.PUBLISH, needs=(Step.JUDGE, Step.UPLOAD), action=publish, limit="upload"),
    StepSpec(step=Step.SIGN, needs=(Step.PUBLISH,), action=sign),
    StepSpec(step=Step.TAG, needs=(Step.SIGN,), action=tag),
)

COMMANDS: dict[str, tuple[Step, ...]] = {
    "run": tuple(spec.step for spec in STEPS),
    "build": (Step.PREFLIGHT, Step.OBTAIN, Step.INSPECT),
    "scan": (Step.PREFLIGHT, Step.OBTAIN, Step.INSPECT, Step.SCAN, Step.JUDGE),
}
"""Which steps each command has."""


def steps_of(command: str, upload_mode: UploadMode) -> tuple[StepSpec, ...]:
    """Return the lines of the table for a command, with only the needs that it has."""
    wanted = COMMANDS[command]
    lines = []
    for spec in STEPS:
        if spec.step not in wanted:
            continue
        needs = spec.needs
        if spec.step is Step.UPLOAD and upload_mode is UploadMode.AFTER_VERDICT:
            needs = (Step.JUDGE,)
        lines.append(
            StepSpec(
                step=spec.step,
                needs=tuple(need for need in needs if need in wanted),
                action=spec.action,
                limit=spec.limit,
            )
        )
    return tuple(lines)
