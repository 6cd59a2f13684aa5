"""The real trivy with results kept from earlier runs: the same scan, to the last note."""

from dataclasses import replace
from pathlib import Path

import pytest

from ci_registry.cache import DiskCache
from ci_registry.findings import ScanResult
from ci_registry.scanners import trivy_layers
from tests.support.trivy_cases import CASES, make_database, scanner_for, view_of

pytestmark = pytest.mark.peer("trivy")


@pytest.fixture(name="database", scope="module")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


def scan(folder: Path, database: Path, case: str, cache: DiskCache | None) -> ScanResult:
    folder.mkdir()
    result = scanner_for(database, cache=cache).scan(view_of(folder, case))
    return replace(result, duration_s=0.0)


@pytest.mark.parametrize("case", sorted(CASES))
def test_kept_results_change_nothing(
    tmp_path: Path, database: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivy_layers, "SMALLEST_LAYER_BYTES", 0)
    cache = DiskCache(folder=tmp_path / "cache", max_bytes=1 << 30)
    plain = scan(tmp_path / "plain", database, case, None)
    first = scan(tmp_path / "first", database, case, cache)
    second = scan(tmp_path / "second", database, case, cache)
    assert plain == first == second


def test_results_of_one_image_serve_another_with_the_same_base(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivy_layers, "SMALLEST_LAYER_BYTES", 0)
    cache = DiskCache(folder=tmp_path / "cache", max_bytes=1 << 30)
    for case in sorted(CASES):
        kept = scan(tmp_path / f"{case}-kept", database, case, cache)
        assert kept == scan(tmp_path / f"{case}-plain", database, case, None), case
