"""Contexts, base images and calls for the `assemble` builder."""

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ci_registry.builders.assemble import Assemble
from ci_registry.builders.interface import BuildRequest
from ci_registry.cancel import Cancel
from ci_registry.oci.platform import Platform
from ci_registry.registry.interface import Repository
from ci_registry.registry.layout import Layout
from ci_registry.results import BuildOutcome
from tests.support.flatten import FlatImage, images_of
from tests.support.images import ImageSpec, make_layout


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of a hand-made layer or archive."""

    name: str
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    data: bytes = b""
    link: str = ""
    pax: Mapping[str, str] = field(default_factory=dict)


def file(
    name: str, data: str | bytes = "", mode: int = 0o644, *, uid: int = 0, gid: int = 0
) -> Item:
    """Return a regular file."""
    raw = data.encode() if isinstance(data, str) else data
    return Item(name=name, data=raw, mode=mode, uid=uid, gid=gid)


def folder(name: str, mode: int = 0o755, *, uid: int = 0, gid: int = 0) -> Item:
    """Return a directory."""
    return Item(name=name, type=tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


def link(name: str, target: str) -> Item:
    """Return a symbolic link."""
    return Item(name=name, type=tarfile.SYMTYPE, mode=0o777, link=target)


def hard_link(name: str, target: Item) -> Item:
    """Return a second name of a file; real archives repeat mode and owner."""
    return replace(target, name=name, type=tarfile.LNKTYPE, link=target.name, data=b"")


def tar(items: Iterable[Item], mode: str = "w") -> bytes:
    """Return an archive; `mode` as for tarfile, for example `w:gz`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.mode, info.uid, info.gid = item.type, item.mode, item.uid, item.gid
            info.linkname, info.size, info.pax_headers = item.link, len(item.data), dict(item.pax)
            archive.addfile(info, io.BytesIO(item.data))
    return buffer.getvalue()


_TOOL = file("usr/bin/tool", "tool", 0o4755)
BASE_LAYERS = (
    tar(
        [
            folder("etc"),
            file("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
            file("etc/group", "root:x:0:\nstaff:x:50:\napp:x:1001:\n"),
            folder("home"),
            folder("home/app", 0o700, uid=1000, gid=1001),
            folder("usr"),
            folder("usr/bin", 0o775),
            folder("usr/lib"),
            _TOOL,
            hard_link("usr/bin/tool2", _TOOL),
            link("usr/bin/sh", "tool"),
            file("usr/lib/old", "old"),
            file("usr/lib/gone", "gone"),
            link("bin", "usr/bin"),
            link("lib64", "/usr/lib"),
            link("data", "var/data"),
            link("abs", "/srv/abs"),
            folder("tmp", 0o1777),
            folder("hidden"),
            file("hidden/x", "x"),
        ]
    ),
    tar(
        [
            folder("usr"),
            folder("usr/lib"),
            file("usr/lib/.wh.gone"),
            file("usr/lib/old", "new", 0o600),
            folder("hidden"),
            file("hidden/.wh..wh..opq"),
            file("hidden/y", "y"),
        ]
    ),
)
"""Merged-usr, odd modes, a user, whiteouts, links that dangle."""

BASE_CONFIG: Mapping[str, object] = {
    "Env": ["PATH=/usr/bin", "KEPT=yes"],
    "Cmd": ["base-cmd"],
    "WorkingDir": "/home/app",
    "Labels": {"base": "1"},
    "ExposedPorts": {"1/tcp": {}},
}


def make_base(layout: Path, **config: object) -> Layout:
    """Write the base image for amd64 and arm64."""
    settings = {**BASE_CONFIG, **config}
    make_layout(
        layout,
        *(
            ImageSpec(layers=BASE_LAYERS, architecture=name, config=settings)
            for name in ("amd64", "arm64")
        ),
    )
    return Layout(layout)


def write_files(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write files below `root`: None is a directory, `a->b` a symbolic link, `a@755` has that mode."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    for spec, content in files.items():
        name, arrow, target = spec.partition("->")
        name, _, mode = name.partition("@")
        path = root / name
        for parent in reversed(path.relative_to(root).parents[:-1]):
            if not (root / parent).exists():
                (root / parent).mkdir()
                (root / parent).chmod(0o755)
        if arrow:
            path.symlink_to(target)
            continue
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(int(mode, 8) if mode else 0o755 if content is None else 0o644)
    return root


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What one build gave."""

    layout: Path
    outcome: BuildOutcome
    images: dict[str, FlatImage]

    @property
    def image(self) -> FlatImage:
        """The only image."""
        (image,) = self.images.values()
        return image


class Lab:
    """Builds contexts below one folder; base images come from layouts by name."""

    def __init__(self, tmp_path: Path, bases: Mapping[str, Layout] | None = None) -> None:
        self.tmp_path = tmp_path
        self.bases = dict(bases or {})
        self.opened: list[str] = []
        self._count = 0

    def open_base(self, name: str) -> tuple[Repository, str]:
        """Open a base by the name in `FROM`."""
        self.opened.append(name)
        layout = self.bases.get(name)
        if layout is None:
            empty = Layout.create(self.tmp_path / "empty")
            return empty, "nothing"
        return layout, layout.root().digest

    @property
    def builder(self) -> Assemble:
        """A builder that reads these bases."""
        return Assemble(open_base=self.open_base, cancel=Cancel())

    def request(
        self, dockerfile: str, files: Mapping[str, str | bytes | None] | None = None, **more: Any
    ) -> BuildRequest:
        """Write a context and return the request for it."""
        self._count += 1
        root = self.tmp_path / f"build-{self._count}"
        context = write_files(root / "context", files or {})
        (context / "Dockerfile").write_text(dockerfile)
        (context / "Dockerfile").chmod(0o644)
        request = BuildRequest(
            image="app",
            context=context,
            dockerfile=context / "Dockerfile",
            layout=root / "layout",
            work=root / "work",
        )
        return replace(request, **more)

    def build(
        self, dockerfile: str, files: Mapping[str, str | bytes | None] | None = None, **more: Any
    ) -> Assembled:
        """Write a context and build it."""
        return self.run(self.request(dockerfile, files, **more))

    def run(self, request: BuildRequest) -> Assembled:
        """Build a request."""
        outcome = self.builder.build(request)
        return Assembled(layout=request.layout, outcome=outcome, images=images_of(request.layout))


AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
