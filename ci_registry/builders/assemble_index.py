"""Puts the entries of tar archives into a tree: layers of base images, and archives for `ADD`."""

from dataclasses import dataclass, field

from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_tree import (
    InLayer,
    InlineBytes,
    Node,
    NodeKind,
    Parts,
    Tree,
    TreeError,
    directory,
)
from ci_registry.errors import IntegrityError
from ci_registry.inventory.tar_stream import Header, Kind, TarStream, parse_number
from ci_registry.oci.digest import Digest, Hasher

MAX_DEPTH = 256
WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_RESERVED = ".wh..wh."
_USER_FILES = frozenset({"etc/passwd", "etc/group"})
_MAX_USER_FILE_BYTES = 1024 * 1024
_XATTR = b"SCHILY.xattr."
_KINDS = {
    Kind.FILE: NodeKind.FILE,
    Kind.DIRECTORY: NodeKind.DIRECTORY,
    Kind.SYMLINK: NodeKind.LINK,
    Kind.DEVICE: NodeKind.SPECIAL,
}
_DIRECTORY_MODE = 0o755


@dataclass(slots=True)
class _LayerEntries:
    """The entries of one layer, sorted out."""

    whiteouts: list[Parts] = field(default_factory=list)
    opaque: list[Parts] = field(default_factory=list)
    nodes: list[tuple[Parts, Node | Parts]] = field(default_factory=list)
    """A node, or the name of what a hard link links to."""


def apply_layer(tree: Tree, contents: ContentStore, digest: Digest, diff_id: Digest) -> None:
    """Apply one layer of a base image, whiteouts first: they concern lower layers only.

    Raises:
        IntegrityError: the layer is damaged, or its diff id is another.
        TreeError: an entry can't be where it says.
    """
    hasher = Hasher(diff_id.algorithm)
    entries = _read_entries(contents.tar_stream(digest, hasher), digest)
    if hasher.digest != diff_id:
        raise IntegrityError(f"layer {digest.short} has diff id {hasher.digest}, not {diff_id}")
    for parts in entries.opaque:
        hidden = tree.get(tree.resolve(parts))
        if hidden is not None:
            hidden.children.clear()
    for parts in entries.whiteouts:
        parent = tree.get(tree.resolve(parts[:-1]))
        if parent is not None:
            parent.children.pop(parts[-1], None)
    for parts, node in entries.nodes:
        put_entry(tree, parts, node)


def _read_entries(stream: TarStream, digest: Digest) -> _LayerEntries:
    entries = _LayerEntries()
    ordinal = -1
    while (header := stream.next_entry()) is not None:
        ordinal += 1
        parts = entry_parts(header)
        if not parts:
            continue
        name = parts[-1]
        if name == _OPAQUE:
            entries.opaque.append(parts[:-1])
        elif name.startswith(_RESERVED):
            continue  # left behind by aufs
        elif name.startswith(WHITEOUT):
            entries.whiteouts.append((*parts[:-1], name.removeprefix(WHITEOUT)))
        elif header.kind is Kind.HARD_LINK:
            entries.nodes.append((parts, tuple(header.link.split("/"))))
        else:
            node = node_of(stream, header)
            if node.kind == NodeKind.FILE:
                small = header.path in _USER_FILES and header.size_bytes <= _MAX_USER_FILE_BYTES
                node.content = InlineBytes(stream.content()) if small else InLayer(digest, ordinal)
            entries.nodes.append((parts, node))
    return entries


def entry_parts(header: Header) -> Parts:
    """Return the parts of an entry's path; empty for the root.

    Raises:
        IntegrityError: it is nested too deep.
    """
    parts = tuple(header.path.split("/")) if header.path else ()
    if len(parts) > MAX_DEPTH:
        raise IntegrityError(f"an entry is nested deeper than {MAX_DEPTH}: {header.path[:80]!r}")
    return parts


def node_of(stream: TarStream, header: Header) -> Node:
    """Return the node of the current entry of `stream`, without content; not for hard links.

    Raises:
        IntegrityError: mode, owner or device is no number, or the file is sparse.
    """
    if header.sparse:
        raise IntegrityError(f"{header.path!r} is a sparse file, which is not supported")
    block, pax = stream.block, stream.pax
    device = None
    if header.kind is Kind.DEVICE:
        major, minor = parse_number(block[329:337], "major"), parse_number(block[337:345], "minor")
        device = (block[156:157], major, minor)
    return Node(
        kind=_KINDS[header.kind],
        mode=parse_number(block[100:108], "mode") & 0o7777,
        uid=_owner(pax, b"uid", block[108:116]),
        gid=_owner(pax, b"gid", block[116:124]),
        size_bytes=header.size_bytes if header.kind is Kind.FILE else 0,
        link=header.link if header.kind is Kind.SYMLINK else "",
        xattrs={
            key.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
            for key, value in pax.items()
            if key.startswith(_XATTR)
        },
        device=device,
    )


def _owner(pax: dict[bytes, bytes], key: bytes, block: bytes) -> int:
    value = pax.get(key)
    if not value:
        return parse_number(block, key.decode())
    if not value.isdigit() or len(value) > 10:
        raise IntegrityError(f"tar: malformed {key.decode()} in a pax header")
    return int(value)


def put_entry(tree: Tree, parts: Parts, node: Node | Parts) -> None:
    """Put one entry where an unpacker would: links above it followed, a directory merged.

    Raises:
        TreeError: its parent is no directory, or a hard link leads nowhere.
    """
    parent = tree.resolve(parts[:-1])
    tree.make_directories(parent, _DIRECTORY_MODE, (0, 0))
    where = (*parent, parts[-1])
    if isinstance(node, tuple):
        linked = tree.get((*tree.resolve(node[:-1]), node[-1]))
        if linked is None or linked.is_directory:
            raise TreeError(f"a hard link leads nowhere: {'/'.join(parts)} to {'/'.join(node)}")
        tree.put(where, linked)
        return
    existing = tree.get(where)
    if not node.is_directory:
        tree.put(where, node)
        return
    if existing is None or not existing.is_directory:
        tree.put(where, directory())
    tree.set_metadata(where, node)
