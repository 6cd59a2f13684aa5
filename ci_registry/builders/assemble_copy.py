"""`COPY` and `ADD` of local files between trees, with BuildKit's rules for paths, links, modes and owners."""

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ci_registry.builders.assemble_archive import Archives
from ci_registry.builders.assemble_tree import (
    Node,
    NodeKind,
    Parts,
    Tree,
    TreeError,
    join_parts,
    split_path,
)
from ci_registry.dockerfile.glob import GlobError, compile_glob, has_wildcard

_DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRules:
    """What the flags of one instruction say."""

    owner: tuple[int, int] | None = None
    """`--chown`; None: as in the source."""
    mode: int | None = None
    """`--chmod`, octal: files and directories; None: as in the source."""
    link: bool = False
    """`--link`."""
    excluded: Callable[[str], bool] = field(default=lambda _path: False)
    """`--exclude`: whether a path below a copied directory is left out."""
    archives: Archives | None = None
    """`ADD` unpacks archives with it."""


def copy_pattern(
    source: Tree, pattern: str, target: Tree, destination: str, rules: CopyRules
) -> int:
    """Copy what `pattern` matches and return how many sources that were.

    A source that is a link is followed; links inside a copied directory stay links. A directory's
    contents are copied, not the directory. Into an existing directory, or to a destination that ends
    in `/`, a file keeps its name. Links in `destination` are followed within `target`.

    Args:
        source: where the pattern is looked up; nothing outside is reached.
        pattern: a path, or wildcards as in Go's `filepath.Match`.
        target: what is changed.
        destination: absolute; a trailing slash counts.
        rules: from the flags.

    Raises:
        TreeError: a source is missing, or a directory and a file are in each other's way.
    """
    count = 0
    for parts in matches(source, pattern):
        count += 1
        copy_one(source, parts, target, destination, rules)
    return count


def matches(source: Tree, pattern: str) -> Iterator[Parts]:
    """Yield the sources that a pattern names, links not yet followed in the last name.

    A pattern without wildcards is yielded whether it exists or not; a matched directory is not
    searched any further.
    """
    parts = split_path(pattern)
    first = next((n for n, part in enumerate(parts) if has_wildcard(part)), None)
    if first is None:
        yield parts
        return
    try:
        expression = compile_glob("/".join(parts[first:]))
    except GlobError as error:
        raise TreeError(str(error)) from error
    folder = source.resolve(parts[:first])
    if source.get(folder) is None:
        raise TreeError(f"{join_parts(parts[:first])} does not exist")
    found: Parts | None = None
    for candidate in source.walk(folder):
        if found is not None and candidate[: len(found)] == found:
            continue
        if expression.fullmatch("/".join(candidate[len(folder) :])):
            found = candidate
            yield candidate


def copy_one(source: Tree, parts: Parts, target: Tree, destination: str, rules: CopyRules) -> None:
    """Copy one source, its wildcards already resolved; see `copy_pattern`."""
    real = source.resolve(parts)
    node = source.get(real)
    if node is None:
        raise TreeError(f"{join_parts(parts)} does not exist")
    if rules.link:
        _check_no_link(target, destination)
    if (
        rules.archives is not None
        and node.kind == NodeKind.FILE
        and rules.archives.is_archive(node)
    ):
        _unpack(rules.archives, node, target, destination, rules)
        return
    is_folder = destination.endswith(("/", "/."))
    made_mode = _DIRECTORY_MODE if rules.mode is None else rules.mode & 0o777
    owner = rules.owner or (0, 0)
    ensured = destination if is_folder else posixpath.dirname(destination)
    target.make_directories(target.resolve(ensured), made_mode, owner)
    where = target.resolve(destination)
    existing = target.get(where)
    if not node.is_directory and existing is not None and existing.is_directory:
        if not parts:
            raise TreeError("the root can't be copied as a file")
        where = (*where, parts[-1])
    target.make_directories(where if node.is_directory else where[:-1], made_mode, owner)
    _Copier(target, rules).copy(node, where, "")


def _check_no_link(target: Tree, destination: str) -> None:
    plain = split_path(destination)
    if target.resolve(destination) != plain:
        raise TreeError(
            f"--link to {destination}, where the image has a link on the way, would replace that link"
        )


def _unpack(
    archives: Archives, node: Node, target: Tree, destination: str, rules: CopyRules
) -> None:
    if rules.mode is not None:
        raise TreeError("--chmod has no effect on an archive that is unpacked: leave it out")
    where = target.resolve(destination)
    target.make_directories(where, _DIRECTORY_MODE, rules.owner or (0, 0))
    archives.unpack(node, target.below(where), rules.owner)


class _Copier:
    """Copies one source; two names of one file stay two names of one file."""

    def __init__(self, target: Tree, rules: CopyRules) -> None:
        self._target = target
        self._rules = rules
        self._copies: dict[int, tuple[Node, Node]] = {}

    def copy(self, node: Node, where: Parts, inside: str) -> None:
        """Copy `node` to exactly `where`; `inside` is its path below the source."""
        existing = self._target.get(where)
        if node.is_directory:
            if existing is not None and not existing.is_directory:
                raise TreeError(f"cannot copy a directory to {join_parts(where)}, which is none")
            if inside:
                self._put_directory(node, where)
            self._copy_children(node, where, inside)
            return
        if existing is not None and existing.is_directory:
            raise TreeError(f"cannot replace the directory {join_parts(where)} by a file")
        self._target.put(where, self._copied(node))

    def _put_directory(self, node: Node, where: Parts) -> None:
        copied = self._copied(node)
        if self._target.get(where) is None:
            self._target.put(where, copied)
        else:
            self._target.set_metadata(where, copied)

    def _copy_children(self, node: Node, where: Parts, inside: str) -> None:
        for name, child in sorted(node.children.items()):
            path = f"{inside}/{name}" if inside else name
            if not self._rules.excluded(path):
                self.copy(child, (*where, name), path)
            elif child.is_directory:
                self._copy_kept(child, (*where, name), path, ())

    def _copy_kept(
        self, node: Node, where: Parts, inside: str, above: tuple[tuple[Node, Parts], ...]
    ) -> None:
        """Copy what an exception to `--exclude` takes back in, below an excluded directory.

        The excluded directories on the way, `above` and `node`, are made once there is something.
        """
        on_the_way = (*above, (node, where))
        for name, child in sorted(node.children.items()):
            path = f"{inside}/{name}"
            if not self._rules.excluded(path):
                for parent, parts in on_the_way:
                    if self._target.get(parts) is None:
                        self._target.put(parts, self._copied(parent))
                self.copy(child, (*where, name), path)
            elif child.is_directory:
                self._copy_kept(child, (*where, name), path, on_the_way)

    def _copied(self, node: Node) -> Node:
        known = self._copies.get(id(node))
        if known is not None and not node.is_directory:
            return known[1]
        uid, gid = self._rules.owner or (node.uid, node.gid)
        mode = node.mode
        if self._rules.mode is not None and node.kind != NodeKind.LINK:
            mode = self._rules.mode
        copied = replace(node, uid=uid, gid=gid, mode=mode, children={})
        self._copies[id(node)] = (
            node,
            copied,
        )  # the node stays alive, so that its id stays its own
        return copied
