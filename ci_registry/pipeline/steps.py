"""The pipeline as a table: what happens to one image, and in which order.

    preflight ─ build ─ inspect ─┬─ scan ──┬─ judge ─ publish ─ sign ─ tag
                                 └─ upload ┘

Every command is a subset of this table. `gather` and `decide` come before it, `report` after it.
"""

from ci_registry.config.model import UploadMode
from ci_registry.pipeline.preflight import preflight
from ci_registry.pipeline.state import Done, ImageRun, RunContext, StepSpec
from ci_registry.results import Step

# Each step imports its module when it runs; the build imports what comes after it while it waits.


def _obtain(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_obtain import obtain  # noqa: PLC0415 - see above

    return obtain(image, run)


def _inspect(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_inspect import inspect  # noqa: PLC0415 - see above

    return inspect(image, run)


def _scan(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_scan import scan  # noqa: PLC0415 - see above

    return scan(image, run)


def _judge(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_scan import judge_image  # noqa: PLC0415 - see above

    return judge_image(image, run)


def _upload(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_publish import upload  # noqa: PLC0415 - see above

    return upload(image, run)


def _publish(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_publish import publish  # noqa: PLC0415 - see above

    return publish(image, run)


def _sign(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_publish import sign  # noqa: PLC0415 - see above

    return sign(image, run)


def _tag(image: ImageRun, run: RunContext) -> Done:
    from ci_registry.pipeline.steps_publish import tag  # noqa: PLC0415 - see above

    return tag(image, run)


STEPS: tuple[StepSpec, ...] = (
    StepSpec(step=Step.PREFLIGHT, needs=(), action=preflight),
    StepSpec(step=Step.OBTAIN, needs=(Step.PREFLIGHT,), action=_obtain, limit="build"),
    StepSpec(step=Step.INSPECT, needs=(Step.OBTAIN,), action=_inspect, limit="inspect"),
    StepSpec(step=Step.SCAN, needs=(Step.INSPECT,), action=_scan, limit="scan"),
    StepSpec(step=Step.UPLOAD, needs=(Step.INSPECT,), action=_upload, limit="upload"),
    StepSpec(step=Step.JUDGE, needs=(Step.SCAN,), action=_judge),
    StepSpec(step=Step.PUBLISH, needs=(Step.JUDGE, Step.UPLOAD), action=_publish, limit="upload"),
    StepSpec(step=Step.SIGN, needs=(Step.PUBLISH,), action=_sign),
    StepSpec(step=Step.TAG, needs=(Step.SIGN,), action=_tag),
)

COMMANDS: dict[str, tuple[Step, ...]] = {
    "run": tuple(spec.step for spec in STEPS),
    "build": (Step.PREFLIGHT, Step.OBTAIN, Step.INSPECT),
    "match": (Step.SCAN, Step.JUDGE),
    "rescan": (Step.SCAN, Step.JUDGE),
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
