"""Finds what is judged without reading an image: SBOM files, and reports of other scanners."""

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ci_registry.errors import IntegrityError, UsageError
from ci_registry.files import read_file
from ci_registry.findings import Inventory
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.drive import Opened, Work
from ci_registry.pipeline.given import GivenImage, inventory_from
from ci_registry.results import RunResult
from ci_registry.sbom.document import MAX_SBOM_BYTES, SbomDocument
from ci_registry.sbom.reading import read_sbom
from ci_registry.wiring.basis import Caller
from ci_registry.wiring.command import run_pipeline
from ci_registry.wiring.report_files import read_reports


def match_sboms(caller: Caller, files: Sequence[Path]) -> tuple[RunResult, tuple[Path, ...]]:
    """Match and judge SBOM files, one per platform of one image; returns the result and the reports.

    Malformed files, files of several images and two of one platform end the run before any match.
    """
    options = dict(caller.options) | {"only": (), "image": "sbom", "push": "never"}

    def given(_opened: Opened) -> tuple[GivenImage, ...]:
        return (_image(caller, files),)

    lone = replace(caller, options=options, lone_image=True)
    return run_pipeline(lone, Work(command="match", given=given))


def judge_reports(caller: Caller) -> tuple[RunResult, tuple[Path, ...]]:
    """Judge the caller's reports by themselves; returns the result and the report files.

    Nothing says what their scanners should have looked at: the verdict is never better than incomplete.
    """
    options = dict(caller.options) | {"only": (), "image": "report", "push": "never"}
    lone = replace(caller, options=options, lone_image=True)
    given = functools.partial(_reported_image, caller)
    return run_pipeline(lone, Work(command="match", given=lambda _opened: (given(),)))


def _reported_image(caller: Caller) -> GivenImage:
    """Return the image that the reports are about: an inventory without packages per platform."""
    reports = read_reports(caller)
    platforms = dict.fromkeys(report.platform or "unknown" for report in reports)
    nothing = Inventory(
        platform="", manifest_digest="", config_digest="", distribution=None, packages=()
    )
    return GivenImage(
        name=_name(caller.reports[0].stem),
        inventories=tuple(replace(nothing, platform=platform) for platform in platforms),
        source=", ".join(report.title for report in reports),
    )


def _image(caller: Caller, files: Sequence[Path]) -> GivenImage:
    documents = [(path, _document(caller, path)) for path in files]
    images = {document.image for _, document in documents}
    if len(images) > 1:
        raise UsageError(
            f"the SBOMs are about {len(images)} images: {', '.join(sorted(images)[:5])}",
            hint="match the images one by one",
        )
    inventories = tuple(inventory_from(document, str(path)) for path, document in documents)
    platforms = [inventory.platform for inventory in inventories]
    for platform in platforms:
        if platforms.count(platform) > 1:
            what = platform or "a platform that it does not name"
            raise UsageError(f"two of the SBOMs are about {what}", hint="name each platform once")
    image = images.pop()
    return GivenImage(
        name=_name(image or files[0].stem),
        inventories=inventories,
        source=", ".join(str(path) for path in files),
        reference=_reference(image),
    )


def _document(caller: Caller, path: Path) -> SbomDocument:
    data = read_file(caller.folder / path, max_bytes=MAX_SBOM_BYTES)
    try:
        return read_sbom(data, what=str(path))
    except IntegrityError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-100:] or "image"


def _reference(image: str) -> Reference | None:
    """Return where the image is; the names of other programs' documents may be anything."""
    try:
        return parse_reference(image) if "/" in image else None
    except UsageError:
        return None
