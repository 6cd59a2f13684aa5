"""What a change request writes, no protected branch reads."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.config.model import RuntimeSettings, ScanSettings, Settings
from ci_registry.oci.manifest import parse_manifest
from ci_registry.wiring.caching import open_cache, size_bytes
from ci_registry.wiring.databases import find_trivy_database
from tests.support.images import ImageSpec, make_layout

PUSH = CiContext(provider=Provider.GITHUB, event=EventKind.PUSH, branch="main")
CHANGE = CiContext(provider=Provider.GITHUB, event=EventKind.CHANGE_REQUEST)
FORK = replace(PUSH, is_fork=True)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_trees_differ_by_trust_and_nothing_else(tmp_path: Path) -> None:
    env = {"CIREG_CACHE_DIR": str(tmp_path)}
    trees = {open_cache(Settings(), ci, env).folder.relative_to(tmp_path) for ci in (CHANGE, FORK)}
    assert trees == {Path("changes")}
    for ci in (PUSH, replace(PUSH, event=EventKind.SCHEDULE), replace(PUSH, branch="feature")):
        assert open_cache(Settings(), ci, env).folder == tmp_path / "trusted"


def test_folder_and_limit_come_from_the_settings(tmp_path: Path) -> None:
    settings = Settings(
        cache_dir=str(tmp_path / "mine"), runtime=RuntimeSettings(cache_max_size="3MiB")
    )
    cache = open_cache(settings, PUSH, {"CIREG_CACHE_DIR": str(tmp_path / "other")})
    assert cache.folder == tmp_path / "mine" / "trusted"
    assert cache.max_bytes == 3 << 20


@pytest.mark.parametrize(
    ("text", "size"), [("1KiB", 1024), ("500MiB", 500 << 20), ("2GiB", 2 << 30), ("1TiB", 1 << 40)]
)
def test_sizes_are_powers_of_two(text: str, size: int) -> None:
    assert size_bytes(text) == size


# --- trivy's database


class Place:
    """A cache, and a registry whose database changes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = folder / "cache"
        self._layouts = folder / "layouts"
        self.release = 1
        self.installed: list[Path] = []
        monkeypatch.setattr("ci_registry.scanners.trivy_install.install_trivy_db", self._install)

    def _install(self, chunks: Iterable[bytes], folder: Path) -> None:
        assert b"".join(chunks) == b"layer"
        (folder / "db").mkdir(parents=True)
        (folder / "db" / "trivy.db").write_text(str(self.release))
        self.installed.append(folder)

    def _fetch(self, _target: str) -> object:
        layout = self._layouts / str(self.release)
        made = make_layout(layout, ImageSpec(layers=[{"release": str(self.release)}]))
        return parse_manifest((layout / "blobs" / "sha256" / made.digest.hex).read_bytes())

    @staticmethod
    def _open(_digest: str) -> Iterator[bytes]:
        yield b"layer"

    def find(self, ci: CiContext, *, offline: bool = False) -> Path:
        repository = SimpleNamespace(fetch=self._fetch, open=self._open)
        settings = Settings(
            cache_dir=str(self.cache),
            scan=ScanSettings(db="auto"),
            runtime=RuntimeSettings(offline=offline),
        )
        basis = SimpleNamespace(settings=settings, ci=ci, project=self.cache)
        registries = SimpleNamespace(open=lambda _reference: repository)
        caller = SimpleNamespace(env={}, now=lambda: NOW, on_event=print)
        return find_trivy_database(cast(Any, caller), cast(Any, basis), cast(Any, registries))[0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def test_a_change_reads_the_database_of_protected_runs_but_never_writes_there(
    place: Place,
) -> None:
    by_change = place.find(CHANGE)
    assert by_change.is_relative_to(place.cache / "trivy" / "changes")
    trusted = place.find(PUSH)
    assert trusted.is_relative_to(place.cache / "trivy" / "trusted")
    assert len(place.installed) == 2  # what the change had fetched was not taken
    place.release = 2
    newer = place.find(PUSH)
    assert place.find(CHANGE) == newer
    assert len(place.installed) == 3


def test_old_databases_are_removed_and_the_last_but_one_stays(place: Place) -> None:
    import os

    found = []
    for place.release in range(1, 5):
        folder = place.find(PUSH)
        os.utime(folder / "db" / "trivy.db", (place.release, place.release))
        found.append(folder)
    place.release = 5
    newest = place.find(PUSH)
    left = [folder for folder in (*found, newest) if folder.exists()]
    assert left == [found[3], newest]


def test_offline_takes_what_is_there(place: Place) -> None:
    assert place.find(CHANGE, offline=True) == place.cache / "trivy" / "changes"
    trusted = place.find(PUSH)
    assert place.find(PUSH, offline=True) == trusted
    assert place.find(CHANGE, offline=True) == trusted
