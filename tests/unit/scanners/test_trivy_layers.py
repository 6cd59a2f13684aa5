"""What trivy found in layers is kept only after runs that went well, and used only by the same program."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.cache import DiskCache
from ci_registry.errors import IntegrityError, ToolError
from ci_registry.oci.digest import Digest
from ci_registry.process import Command, Completed
from ci_registry.registry.proven import ProvenBlobs, identity_of
from ci_registry.scanners import trivy_layers
from ci_registry.scanners.interface import ImageView
from ci_registry.scanners.one_image import OneImage
from ci_registry.scanners.trivy import TrivyScanner
from ci_registry.scanners.trivy_layers import KeptResults, LayerResults, place_results
from tests.support.trivy_cases import GOLDEN, make_database, scanner_for, view_of

NEW_RESULTS = b"what trivy wrote"


@dataclass
class Trivy:
    """Stands for trivy: writes a report and its results of layers."""

    report: bytes = b""
    stderr: str = ""
    exit_code: int = 0
    commands: list[Command] = field(default_factory=list)
    found: list[bytes | None] = field(default_factory=list)

    def __call__(
        self, command: Command, *, on_stderr_line: Callable[[str], None] | None = None
    ) -> Completed:
        self.commands.append(command)
        argv = command.argv
        if "--output" in argv:
            Path(argv[argv.index("--output") + 1]).write_bytes(self.report)
            results = Path(argv[argv.index("--cache-dir") + 1]) / "fanal" / "fanal.db"
            self.found.append(results.read_bytes() if results.exists() else None)
            results.parent.mkdir(exist_ok=True)
            results.write_bytes(NEW_RESULTS)
        for line in self.stderr.splitlines():
            if on_stderr_line is not None:
                on_stderr_line(line)
        return Completed(
            argv=argv,
            exit_code=self.exit_code,
            stdout=b"Version: 0.76.0\n",
            stderr=self.stderr.encode(),
            duration_s=0.1,
        )


@pytest.fixture(autouse=True)
def every_layer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trivy_layers, "SMALLEST_LAYER_BYTES", 0)


class Scene:
    """A cache, a program, a database and one image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = DiskCache(folder=folder / "cache", max_bytes=1 << 20)
        self.program = folder / "trivy"
        self.program.write_text("program one")
        self.database = make_database(folder / "database")
        self.trivy = Trivy(report=(GOLDEN / "findings" / "report.json").read_bytes())
        self._count = 0

    def view(self) -> ImageView:
        self._count += 1
        folder = self.folder / f"run-{self._count}"
        folder.mkdir()
        return view_of(folder, "findings")

    def scanner(self, **more: object) -> TrivyScanner:
        values: dict[str, Any] = {
            "run": self.trivy,
            "program": self.program,
            "cache": self.cache,
        }
        return scanner_for(self.database, **(values | more))

    def kept(self) -> list[Path]:
        return sorted((self.cache.folder / "trivy-layers").glob("*"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_second_run_begins_with_what_the_first_found(scene: Scene) -> None:
    for _ in range(2):
        scene.scanner().scan(scene.view())
    assert scene.trivy.found == [None, NEW_RESULTS]
    argv = scene.trivy.commands[0].argv
    assert argv[argv.index("--cache-backend") + 1] == "fs"


def test_without_a_cache_nothing_is_kept(scene: Scene) -> None:
    scene.scanner(cache=None).scan(scene.view())
    argv = scene.trivy.commands[0].argv
    assert argv[argv.index("--cache-backend") + 1] == "memory"
    assert scene.kept() == []


def test_results_are_not_written_again_when_every_layer_is_known(scene: Scene) -> None:
    scene.scanner().scan(scene.view())
    before = scene.kept()[0].stat().st_ino
    scene.scanner().scan(scene.view())
    assert scene.kept()[0].stat().st_ino == before


def test_another_program_begins_with_nothing(scene: Scene) -> None:
    scene.scanner().scan(scene.view())
    scene.program.write_text("program two")
    scene.scanner().scan(scene.view())
    assert scene.trivy.found == [None, None]


def test_trees_of_other_trust_share_nothing(scene: Scene) -> None:
    scene.scanner().scan(scene.view())
    other = DiskCache(folder=scene.folder / "changes", max_bytes=1 << 20)
    scene.scanner(cache=other).scan(scene.view())
    assert scene.trivy.found == [None, None]


@pytest.mark.parametrize(
    ("stderr", "exit_code", "kept"),
    [
        ("", 0, 1),
        ("t\tINFO\tDetected OS\n", 0, 1),
        ("t\tWARN\tUsing severities from other vendors for some vulnerabilities. Read x\n", 0, 1),
        ("t\tWARN\tFailed to parse a package\tfile=x\n", 0, 0),
        ("t\tWARN\t[dpkg] Invalid version\tpackage=odd\n", 0, 0),
        ("t\tERROR\tUnable to read a layer\n", 0, 0),
        ("", 1, 0),
    ],
)
def test_results_are_kept_only_after_a_run_without_trouble(
    scene: Scene, stderr: str, exit_code: int, kept: int
) -> None:
    scene.trivy.stderr, scene.trivy.exit_code = stderr, exit_code
    scene.scanner().scan(scene.view())
    assert len(scene.kept()) == kept


def test_half_a_report_keeps_nothing(scene: Scene) -> None:
    scene.trivy.report = scene.trivy.report[:100]
    with pytest.raises(ToolError):
        scene.scanner().scan(scene.view())
    assert scene.kept() == []


def test_a_swapped_layer_is_refused_although_results_are_kept(scene: Scene) -> None:
    scene.scanner().scan(scene.view())
    view = scene.view()
    layer = max((view.layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    layer.write_bytes(layer.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        scene.scanner().scan(view)
    assert len(scene.trivy.commands) == 1


def test_a_layer_that_changed_after_it_was_hashed_is_refused(scene: Scene) -> None:
    view = scene.view()
    proven = ProvenBlobs()
    layer = max((view.layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    proven.add(Digest(f"sha256:{layer.name}"), identity_of(layer.stat()), layer)
    scene.scanner().scan(replace(view, proven=proven))
    os.utime(layer, ns=(0, layer.stat().st_mtime_ns - 1))
    layer.write_bytes(layer.read_bytes()[:-1] + b"x")
    changed = replace(scene.view(), layout=view.layout, proven=proven)
    with pytest.raises(IntegrityError):
        scene.scanner().scan(changed)
    assert len(scene.trivy.commands) == 1


@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"\0" * 7 + b"\2[]", b"\0" * 7 + b"\4[{}]more"])
def test_damaged_results_are_left_out(scene: Scene, body: bytes) -> None:
    scanner = scene.scanner()
    scanner.scan(scene.view())
    (path,) = scene.kept()
    results = LayerResults(cache=scene.cache, sha256=scanner.probe().sha256)
    scene.cache.put("trivy-layers", results.sha256, body)
    found = results.read()
    assert found is None or not found.diff_ids
    path.write_bytes(path.read_bytes()[:-1])
    assert results.read() is None


def image(*diff_ids: str) -> OneImage:
    return OneImage(config_digest="c", diff_ids=diff_ids, layer_sizes=(1,) * len(diff_ids))


def test_a_large_file_without_this_image_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trivy_layers, "MOST_GROWN_BYTES", 3)
    kept = KeptResults(diff_ids=frozenset({"sha256:a"}), content=b"large")
    assert place_results(kept, image("sha256:b"), tmp_path) is None
    assert place_results(kept, image("sha256:b", "sha256:a"), tmp_path) == kept
    assert (tmp_path / "fanal" / "fanal.db").read_bytes() == b"large"


def test_layers_add_up(tmp_path: Path) -> None:
    results = LayerResults(
        cache=DiskCache(folder=tmp_path / "cache", max_bytes=1 << 20), sha256="s"
    )
    (tmp_path / "fanal").mkdir()
    (tmp_path / "fanal" / "fanal.db").write_bytes(b"one")
    results.keep(None, image("sha256:a"), tmp_path)
    first = results.read()
    assert first == KeptResults(diff_ids=frozenset({"sha256:a"}), content=b"one")
    results.keep(first, image("sha256:a", "sha256:b"), tmp_path)
    second = results.read()
    assert second is not None
    assert second.diff_ids == {"sha256:a", "sha256:b"}


def test_the_version_is_asked_once_per_program(scene: Scene) -> None:
    for _ in range(2):
        assert scene.scanner().probe().version == "0.76.0"
    assert len(scene.trivy.commands) == 1
    scene.program.write_text("program two")
    scene.scanner().probe()
    assert len(scene.trivy.commands) == 2
