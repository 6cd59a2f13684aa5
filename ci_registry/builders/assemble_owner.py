"""Turns the users and groups of `--chown` and `USER` into numbers, with the image's own files."""

from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_tree import NodeKind, Tree, TreeError

_MAX_FILE_BYTES = 10 * 1024 * 1024
_MAX_ID = 2**31 - 1


def resolve_owner(text: str, tree: Tree, contents: ContentStore) -> tuple[int, int]:
    """Return uid and gid of `user[:group]`, each a name or a number.

    A number alone is uid and gid; a name alone takes its primary group.

    Raises:
        TreeError: the image does not know the name. (BuildKit would silently use 0.)
    """
    user, _, group = text.partition(":")
    uid = _number(user)
    gid = uid
    if uid is None:
        entry = _entry(tree, contents, "/etc/passwd", user)
        uid, gid = _field(entry, 2, "/etc/passwd"), _field(entry, 3, "/etc/passwd")
    if group:
        gid = _number(group)
        if gid is None:
            gid = _field(_entry(tree, contents, "/etc/group", group), 2, "/etc/group")
    return uid, uid if gid is None else gid


def _number(text: str) -> int | None:
    if text == "root":
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID:
        return int(text)
    return None


def _entry(tree: Tree, contents: ContentStore, path: str, name: str) -> list[str]:
    node = tree.get(tree.resolve(path))
    if not name or node is None or node.kind != NodeKind.FILE:
        raise TreeError(f"{name!r} is unknown: the image has no {path}; use a number")
    text = contents.read(node, max_bytes=_MAX_FILE_BYTES).decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if fields[0] == name:
            return fields
    raise TreeError(f"{name!r} is unknown: it is not in {path} of the image; use a number")


def _field(entry: list[str], index: int, path: str) -> int:
    number = _number(entry[index]) if index < len(entry) else None
    if number is None:
        raise TreeError(f"the line of {entry[0]!r} in {path} of the image is malformed")
    return number
