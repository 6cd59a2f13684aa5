"""The file system of a stage in memory: names, modes, owners, links; contents stay where they are."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from ci_registry.oci.digest import Digest

Parts = tuple[str, ...]
"""A path from the root of the tree, one name each."""

MAX_LINKS = 255


class TreeError(ValueError):
    """A path can't be used as asked; the caller adds file and line."""


class NodeKind(StrEnum):
    """What a node is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    SPECIAL = "special"
    """Device or FIFO of a base image: kept, never made."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """Content in a file of the build context or of the scratch folder."""

    path: Path


@dataclass(frozen=True, slots=True)
class InlineBytes:
    """Content at hand."""

    data: bytes


@dataclass(frozen=True, slots=True)
class InLayer:
    """Content of an entry of a base layer."""

    layer: Digest
    ordinal: int
    """Number of the entry in the layer, from 0."""


Content = HostFile | InlineBytes | InLayer


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """One file system object. Two names with the same node are hard links.

    Only directories change in place, by `Tree`; everything else is replaced.
    """

    kind: NodeKind
    mode: int
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    content: Content | None = None
    link: str = ""
    xattrs: Mapping[str, str] = field(default_factory=dict)
    """pax records `SCHILY.xattr.…`."""
    device: tuple[bytes, int, int] | None = None
    """Type flag in a tar header, major and minor number of a special file."""
    children: dict[str, "Node"] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether it has children."""
        return self.kind == NodeKind.DIRECTORY


def directory(mode: int = 0o755, uid: int = 0, gid: int = 0) -> Node:
    """Return a new empty directory."""
    return Node(kind=NodeKind.DIRECTORY, mode=mode, uid=uid, gid=gid)


def split_path(path: str) -> Parts:
    """Return the parts of a path after lexical cleaning; `..` stops at the root."""
    return tuple(part for part in posixpath.normpath("/" + path).split("/") if part)


def join_parts(parts: Iterable[str]) -> str:
    """Return parts as an absolute path, for messages."""
    return "/" + "/".join(parts)


class Tree:
    """A file system with a record of what was written since the last `take_changes`."""

    def __init__(self, root: Node | None = None) -> None:
        self.root = root if root is not None else directory()
        self._changed: set[Parts] = set()
        self._prefix: Parts = ()

    def below(self, parts: Parts) -> "Tree":
        """Return a view with the directory at `parts` as root; changes are recorded here."""
        node = self.get(parts)
        if node is None or not node.is_directory:
            raise TreeError(f"{join_parts(parts)} is not a directory")
        view = Tree(node)
        view._changed = self._changed
        view._prefix = (*self._prefix, *parts)
        return view

    def copied(self) -> "Tree":
        """Return an independent tree with the same content and no changes."""
        return Tree(_copied(self.root))

    def get(self, parts: Parts) -> Node | None:
        """Return the node at exactly these parts; links are not followed."""
        node = self.root
        for part in parts:
            child = node.children.get(part)
            if child is None:
                return None
            node = child
        return node

    def resolve(self, path: str | Parts, *, follow_last: bool = True) -> Parts:
        """Follow the links in a path, clamped at the root; missing names are kept.

        Raises:
            TreeError: too many links, or a name below something that is no directory.
        """
        todo = list(reversed(split_path(path) if isinstance(path, str) else path))
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
                continue
            node = self.get((*done, part))
            if node is None or node.kind != NodeKind.LINK or (not todo and not follow_last):
                if todo and node is not None and not node.is_directory:
                    raise TreeError(f"{join_parts((*done, part))} is not a directory")
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise TreeError(
                    f"too many links in {path if isinstance(path, str) else join_parts(path)}"
                )
            if node.link.startswith("/"):
                done = []
            todo += [p for p in reversed(node.link.split("/")) if p not in ("", ".")]
        return tuple(done)

    def walk(self, parts: Parts) -> Iterator[Parts]:
        """Yield what is below `parts`, parents first, sorted by name within each directory."""
        node = self.get(parts)
        for name in sorted(node.children) if node is not None else ():
            yield (*parts, name)
            yield from self.walk((*parts, name))

    def make_directories(self, parts: Parts, mode: int, owner: tuple[int, int]) -> None:
        """Make the missing directories of a resolved path.

        Raises:
            TreeError: something on the way is no directory.
        """
        for length in range(1, len(parts) + 1):
            node = self.get(parts[:length])
            if node is None:
                self.put(parts[:length], directory(mode, *owner))
            elif not node.is_directory:
                raise TreeError(f"{join_parts(parts[:length])} is not a directory")

    def put(self, parts: Parts, node: Node) -> None:
        """Set what is at a resolved path, replacing what was there; its parent exists."""
        parent = self.get(parts[:-1])
        if parent is None or not parent.is_directory:
            raise TreeError(f"{join_parts(parts[:-1])} is not a directory")
        parent.children[parts[-1]] = node
        self._changed.add((*self._prefix, *parts))

    def set_metadata(self, parts: Parts, source: Node) -> None:
        """Give the directory at `parts` the mode, owner and attributes of `source`."""
        node = self.get(parts)
        if node is None or not node.is_directory:
            raise TreeError(f"{join_parts(parts)} is not a directory")
        node.mode, node.uid, node.gid = source.mode, source.uid, source.gid
        node.xattrs = source.xattrs
        self._changed.add((*self._prefix, *parts))

    def take_changes(self) -> tuple[tuple[Parts, Node], ...]:
        """Return everything written since the last call, with its parents, sorted by path bytes.

        The record is empty afterwards. Parents carry the mode that they have, so that unpacking the
        layer changes nothing about them.
        """
        wanted: set[Parts] = set()
        for parts in self._changed:
            wanted.update(parts[:length] for length in range(1, len(parts) + 1))
        self._changed.clear()
        found = ((parts, self.get(parts)) for parts in wanted)
        changes = [(parts, node) for parts, node in found if node is not None]
        changes.sort(key=lambda change: path_bytes(change[0]))
        return tuple(changes)


def path_bytes(parts: Parts) -> bytes:
    """Return a path as it stands in a tar archive."""
    return "/".join(parts).encode("utf-8", "surrogateescape")


def _copied(node: Node) -> Node:
    if not node.is_directory:
        return node
    return replace(node, children={name: _copied(child) for name, child in node.children.items()})
