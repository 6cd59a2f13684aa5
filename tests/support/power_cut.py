"""Records what the folder store does to files, and shows what a power cut at any moment may leave of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ci_registry.registry_server.catalog import Catalog
from ci_registry.registry_server.file_operations import RealFileOperations

FOLDER = -1
"""Stands for a folder where files have a number."""


class Loss(StrEnum):
    """What is lost of what was not synced; a real disk may lose any part of it."""

    NOTHING = "nothing"
    """The process was killed; the machine went on."""
    ALL = "all"
    CONTENT = "content"
    """Names came through, the bytes behind them did not."""
    NAMES = "names"


@dataclass
class Disk:
    """Files and names, as the process sees them and as they are certain to survive."""

    names: dict[Path, int] = field(default_factory=dict)
    content: dict[int, bytes] = field(default_factory=dict)
    synced_names: dict[Path, int] = field(default_factory=dict)
    synced_content: dict[int, bytes] = field(default_factory=dict)
    database: bytes = b""

    def left_after(self, loss: Loss) -> dict[Path, bytes]:
        """Return the files that are there after a power cut."""
        names = self.names if loss in (Loss.NOTHING, Loss.CONTENT) else self.synced_names
        content = self.content if loss in (Loss.NOTHING, Loss.NAMES) else self.synced_content
        return {
            path: content.get(number, b"")
            for path, number in names.items()
            if number != FOLDER and all(names.get(p) == FOLDER for p in path.parents if p.name)
        }


Event = Callable[[Disk], None]


def _add_folder(path: Path, disk: Disk) -> None:
    disk.names.setdefault(path, FOLDER)


class Recorder(RealFileOperations):
    """Does it, and remembers it; `told` marks an acknowledged request."""

    def __init__(self, folder: Path, *, forget: frozenset[str] = frozenset()) -> None:
        """`forget` names operations (`sync`, `sync_folder`) that are left out, to test the test."""
        super().__init__(durable=False)
        self._folder = folder
        self._forget = forget
        self._numbers: dict[int, tuple[BinaryIO, int]] = {}
        self._by_path: dict[Path, int] = {}
        self._next = 0
        self.events: list[tuple[str, Event]] = []

    def _record(self, name: str, event: Event) -> None:
        if name not in self._forget:
            self.events.append((name, event))

    def _within(self, path: Path) -> Path:
        return path.relative_to(self._folder)

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        if not path.is_relative_to(self._folder):
            return
        inside = self._within(path)
        for part in (*reversed(inside.parents), inside):
            if part.name:
                self._record("make_folder", partial(_add_folder, part))

    def open(self, path: Path, *, new: bool) -> BinaryIO:
        file = super().open(path, new=new)
        inside = self._within(path)
        if new:
            number, self._next = self._next, self._next + 1
            self._by_path[inside] = number

            def create(disk: Disk) -> None:
                disk.names[inside] = number
                disk.content[number] = b""

            self._record("create", create)
        self._numbers[id(file)] = (file, self._by_path[inside])
        return file

    def _number(self, file: BinaryIO) -> int:
        return self._numbers[id(file)][1]

    def write(self, file: BinaryIO, data: bytes) -> None:
        super().write(file, data)
        number = self._number(file)

        def write(disk: Disk) -> None:
            disk.content[number] += data

        self._record("write", write)

    def truncate(self, file: BinaryIO, size_bytes: int) -> None:
        super().truncate(file, size_bytes)
        number = self._number(file)

        def truncate(disk: Disk) -> None:
            disk.content[number] = disk.content[number][:size_bytes]

        self._record("truncate", truncate)

    def sync(self, file: BinaryIO) -> None:
        number = self._number(file)

        def sync(disk: Disk) -> None:
            disk.synced_content[number] = disk.content[number]

        self._record("sync", sync)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        old, new = self._within(source), self._within(target)
        self._by_path[new] = self._by_path.pop(old)

        def rename(disk: Disk) -> None:
            disk.names[new] = disk.names.pop(old)

        self._record("rename", rename)

    def remove(self, path: Path) -> None:
        super().remove(path)
        inside = self._within(path)
        self._by_path.pop(inside, None)

        def remove(disk: Disk) -> None:
            disk.names.pop(inside, None)

        self._record("remove", remove)

    def sync_folder(self, path: Path) -> None:
        if not path.is_relative_to(self._folder):
            return
        inside = self._within(path)

        def sync_folder(disk: Disk) -> None:
            for name in {*disk.names, *disk.synced_names}:
                if name.parent != inside:
                    continue
                if name in disk.names:
                    disk.synced_names[name] = disk.names[name]
                else:
                    del disk.synced_names[name]

        self._record("sync_folder", sync_folder)

    def told(self, number: int) -> None:
        """Mark that request `number` was acknowledged."""
        self._record(f"told {number}", lambda _disk: None)

    def watch_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Record the database after each commit; SQLite syncs it itself (`synchronous=FULL`)."""

        def watched(name: str) -> None:
            original = getattr(Catalog, name)

            def method(catalog: Catalog, *args: Any, **kwargs: Any) -> Any:
                result = original(catalog, *args, **kwargs)
                content = catalog._db.serialize()

                def commit(disk: Disk) -> None:
                    disk.database = content

                self._record("database", commit)
                return result

            monkeypatch.setattr(Catalog, name, method)

        for name in ("__init__", "_write", "collect"):
            watched(name)

    def moments(self) -> Iterator[tuple[int, str, Disk]]:
        """Yield (requests acknowledged, last operation, disk) after each operation, from the first on."""
        disk, acknowledged = Disk(), 0
        for name, event in self.events:
            event(disk)
            if name.startswith("told "):
                acknowledged = int(name.removeprefix("told ")) + 1
            yield acknowledged, name, disk
