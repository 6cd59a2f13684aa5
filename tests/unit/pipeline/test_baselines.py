"""Which baseline an image gets, and that what can't be compared is a problem of the baseline."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ci_registry.config.model import RuntimeSettings, ScanSettings
from ci_registry.errors import StorageError
from ci_registry.findings import Inventory, ScanResult
from ci_registry.oci.reference import parse_reference
from ci_registry.pipeline.baselines import find_baseline
from ci_registry.pipeline.state import RunContext
from ci_registry.reports.stored_findings import StoredResult
from tests.support.findings import make_scan
from tests.support.pipeline import FIRST, FakeScanner, World, make_context, make_image, make_plan


class _Matching(FakeScanner):
    def match(self, inventory: Inventory) -> ScanResult:
        return make_scan(platform=inventory.platform)


def _run(tmp_path: Path, baseline: str, **changes: object) -> RunContext:
    run = make_context(tmp_path, World())
    settings = replace(run.settings, scan=ScanSettings(baseline=baseline))
    return replace(run, settings=settings, **changes)  # type: ignore[arg-type]


def test_without_a_name_there_is_no_baseline(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    assert find_baseline(image, _run(tmp_path, ""), _Matching()) is None


@pytest.mark.parametrize(
    ("scanner", "why"),
    [
        (FakeScanner(), "scanner fake can't match the inventory of"),
        (_Matching(name="report"), "scanner report can't match the inventory of"),
        (_Matching(), "there is no public key to trust the inventory of"),
    ],
)
def test_release_that_cannot_be_matched_is_a_problem(
    tmp_path: Path, scanner: FakeScanner, why: str
) -> None:
    """Reports of others say the same of every image: against them nothing would ever be new."""
    found = find_baseline(make_image(tmp_path), _run(tmp_path, "release"), scanner)
    assert found is not None
    assert found.problem.startswith(f"{why} {FIRST}:latest")
    assert (found.platforms, found.findings) == ((), ())


def test_dry_run_without_network_reads_no_release(tmp_path: Path) -> None:
    run = _run(tmp_path, "release", dry_run=True)
    run = replace(run, settings=replace(run.settings, runtime=RuntimeSettings(offline=True)))
    found = find_baseline(make_image(tmp_path), run, _Matching())
    assert found is not None
    assert "is not read in a dry run with --offline" in found.problem


def test_image_without_destination_has_no_release(tmp_path: Path) -> None:
    image = make_image(tmp_path, plan=make_plan(destinations=()))
    found = find_baseline(image, _run(tmp_path, "release"), _Matching())
    assert found is not None
    assert found.problem == "no registry is named, so there is no released image"


def test_trusted_ref_says_where_the_release_is(tmp_path: Path) -> None:
    run = _run(
        tmp_path, "release:stable", released_at=lambda name: parse_reference(f"r.example/{name}")
    )
    found = find_baseline(make_image(tmp_path), run, _Matching())
    assert found is not None
    assert "r.example/app:stable" in found.problem


def test_stored_result_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    def read() -> StoredResult:
        raise StorageError("disk on fire")

    reader: Callable[[], StoredResult] = read
    run = _run(tmp_path, "old.json", stored_baseline=reader)
    found = find_baseline(make_image(tmp_path), run, _Matching())
    assert found is not None
    assert (found.source, found.problem) == ("old.json", "disk on fire")
