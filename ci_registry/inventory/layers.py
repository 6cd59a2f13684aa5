"""Lays the layers of an image over each other, as a container runtime does, without writing a file.

Whiteouts hide what lower layers put there, never what their own layer brings (image-spec `layer.md`).
A path that leads through a symbolic link of a lower layer is written behind the link, as containerd does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ci_registry.errors import IntegrityError
from ci_registry.inventory.interest import Interest, folder_may_matter, interest_in
from ci_registry.inventory.layer import Entry, Layer
from ci_registry.inventory.tar_stream import Kind

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40
"""Linux gives up after as many symbolic links."""


@dataclass(slots=True)
class Node:
    """A file or device of the image as it finally is."""

    entry: Entry
    """The tar entry that holds its content; under another path for a hard link."""
    origin: int
    """Number of the layer that holds the content."""
    layer: int
    """Number of the layer that put it at this path."""


@dataclass(slots=True)
class Link:
    """A symbolic link of the image."""

    target: str
    layer: int


@dataclass(slots=True)
class Folder:
    """A folder of the image."""

    layer: int
    children: "dict[str, Folder | Node | Link]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A file of interest, where it finally is."""

    path: str
    """Where it was found, which may lead through a symbolic link."""
    real: str
    """Without any link."""
    interest: Interest
    node: Node


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class ImageTree:
    """The merged file system of an image."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Lay `layers` over each other, the lowest first.

        Raises:
            IntegrityError: a hard link leads nowhere, or a whiteout is malformed.
        """
        self._root = Folder(-1)
        for number, layer in enumerate(layers):
            self._hide(layer)
            for entry in layer.entries:
                self._add(entry, number, layer)

    def find(self, path: str) -> Node | None:
        """Return the file at `path`, symbolic links followed inside the image; None when absent."""
        found = self._walk(_split(path), follow=True)[1]
        return found if isinstance(found, Node) and found.entry.kind is Kind.FILE else None

    def resolve(self, path: str) -> str:
        """Return the real path behind `path`; unchanged when it is absent."""
        parts, node = self._walk(_split(path), follow=True)
        return "/".join(parts) if node is not None else path

    def names_in(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in a folder, symbolic links followed; empty when absent."""
        folder = self._walk(_split(path), follow=True)[1]
        return tuple(sorted(folder.children)) if isinstance(folder, Folder) else ()

    def below(self, path: str = "") -> Iterator[tuple[str, Node | Link]]:
        """Yield files and symbolic links below a folder (links in `path` are followed), devices left out.

        The paths are relative to the folder, in no particular order.
        """
        start = self._walk(_split(path), follow=True)[1]
        waiting = [("", start)] if isinstance(start, Folder) else []
        while waiting:
            prefix, folder = waiting.pop()
            for name, child in folder.children.items():
                if isinstance(child, Folder):
                    waiting.append((f"{prefix}{name}/", child))
                elif isinstance(child, Link) or child.entry.kind is Kind.FILE:
                    yield prefix + name, child

    def _hide(self, layer: Layer) -> None:
        for entry in layer.entries:
            folder_path, _, name = entry.path.rpartition("/")
            if not name.startswith(_WHITEOUT):
                continue
            folder = self._walk(_split(folder_path), follow=True)[1]
            if not isinstance(folder, Folder):
                continue  # nothing to hide there
            if name == _OPAQUE:
                folder.children.clear()
            elif not name.startswith(_WHITEOUT * 2):
                hidden = name.removeprefix(_WHITEOUT)
                if hidden in ("", ".", ".."):
                    raise IntegrityError(f"layer {layer.digest}: malformed whiteout {entry.path!r}")
                folder.children.pop(hidden, None)

    def _add(self, entry: Entry, number: int, layer: Layer) -> None:
        folder_path, _, name = entry.path.rpartition("/")
        if not name or name.startswith(_WHITEOUT):
            return
        folder = self._folder_at(_split(folder_path), number)
        old = folder.children.get(name)
        if entry.kind is Kind.DIRECTORY:
            if not isinstance(old, Folder):
                folder.children[name] = Folder(number)
        elif entry.kind is Kind.SYMLINK:
            folder.children[name] = Link(entry.link, number)
        elif entry.kind is Kind.HARD_LINK:
            folder.children[name] = self._linked(entry, number, layer)
        else:
            folder.children[name] = Node(entry, number, number)

    def _linked(self, entry: Entry, number: int, layer: Layer) -> Node | Link:
        target = self._walk(_split(entry.link), follow=False)[1]
        if isinstance(target, Node):
            return Node(target.entry, target.origin, number)
        if isinstance(target, Link):
            return Link(target.target, number)
        raise IntegrityError(
            f"layer {layer.digest}: the hard link {entry.path!r} leads to {entry.link!r},"
            " which is no file of the image"
        )

    def _folder_at(self, parts: list[str], number: int) -> Folder:
        """Return the folder that an entry is written to, made where it is missing."""
        folder = self._root
        for at, part in enumerate(parts):
            child = folder.children.get(part)
            if isinstance(child, Link):
                real = self._walk(parts[: at + 1], follow=True)[0]
                folder = self._made(real, number)
            elif isinstance(child, Folder):
                folder = child
            else:
                made = Folder(number)
                folder.children[part] = made
                folder = made
        return folder

    def _made(self, parts: list[str], number: int) -> Folder:
        """Return the folder at a real path, replacing what is no folder."""
        folder = self._root
        for part in parts:
            child = folder.children.get(part)
            if not isinstance(child, Folder):
                child = folder.children[part] = Folder(number)
            folder = child
        return folder

    def _walk(
        self, parts: list[str], *, follow: bool
    ) -> "tuple[list[str], Folder | Node | Link | None]":
        """Return (real path, what is there or None); links inside are followed, the last if `follow`."""
        trail: list[tuple[str, Folder]] = []
        folder, links = self._root, 0
        left = parts[::-1]
        while left:
            part = left.pop()
            if part == "..":
                folder = trail.pop()[1] if trail else self._root
                continue
            child = folder.children.get(part)
            if isinstance(child, Link) and (left or follow):
                links += 1
                if links > _MOST_LINKS:
                    return parts, None
                if child.target.startswith("/"):
                    trail, folder = [], self._root
                left.extend(_split(child.target)[::-1])
            elif isinstance(child, Folder):
                trail.append((part, folder))
                folder = child
            else:
                real = [name for name, _ in trail]
                rest = [p for p in left[::-1] if p != ".."]
                return [*real, part, *rest], None if left else child
        return [name for name, _ in trail], folder


def files_of_interest(tree: ImageTree) -> tuple[tuple[Found, ...], int]:
    """Return the files of interest, sorted by path, and the number of all files.

    A file that only a symbolic link gives a telling name is found under that name.
    """
    found, links, count = [], [], 0
    for path, node in tree.below():
        if isinstance(node, Link):
            links.append(path)
            continue
        count += 1
        interest = interest_in(path) or node.entry.program
        if interest is not None:
            found.append(Found(path, path, interest, node))
    known = {item.real for item in found}
    for path in sorted(links):
        for item in _behind_link(tree, path):
            if item.real not in known:
                known.add(item.real)
                found.append(item)
    found.sort(key=lambda item: item.path)
    return tuple(found), count


def _behind_link(tree: ImageTree, path: str) -> Iterator[Found]:
    interest = interest_in(path)
    if interest is not None and (node := tree.find(path)) is not None:
        yield Found(path, tree.resolve(path), interest, node)
    if not folder_may_matter(path):
        return
    real = tree.resolve(path)
    for inside, child in tree.below(path):
        interest = interest_in(f"{path}/{inside}")
        if interest is not None and isinstance(child, Node):
            yield Found(f"{path}/{inside}", f"{real}/{inside}", interest, child)


def missing_content(found: Sequence[Found]) -> dict[int, frozenset[str]]:
    """Return the entries (paths by layer number) whose content turns out to be needed after all.

    That is so for hard links, and behind symbolic links, when the name in the archive told nothing.
    """
    wanted: dict[int, set[str]] = {}
    for item in found:
        entry = item.node.entry
        if item.interest.limit_bytes and entry.content is None and not entry.problem:
            wanted.setdefault(item.node.origin, set()).add(entry.path)
    return {number: frozenset(paths) for number, paths in wanted.items()}
