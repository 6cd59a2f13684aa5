"""Writes layers that depend on nothing but their content: sorted pax tar, fixed times, fixed gzip."""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ci_registry.builders.assemble_content import ContentStore
from ci_registry.builders.assemble_tree import Node, NodeKind, Parts
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout

_GZIP_LEVEL = 6
_BLOCK = 512
_TYPES = {
    NodeKind.FILE: tarfile.REGTYPE,
    NodeKind.DIRECTORY: tarfile.DIRTYPE,
    NodeKind.LINK: tarfile.SYMTYPE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenLayer:
    """A layer in a layout."""

    descriptor: Descriptor
    diff_id: Digest


def write_layer(
    layout: Layout,
    changes: tuple[tuple[Parts, Node], ...],
    contents: ContentStore,
    *,
    mtime: int,
) -> WrittenLayer:
    """Write the changes of a tree as one gzip layer.

    The diff id depends on the changes and `mtime` only. The digest of the compressed blob also
    depends on the zlib that Python was built with.
    """
    contents.prepare(node for _, node in changes)
    hasher = Hasher()

    def compressed() -> Iterator[bytes]:
        # The header that zlib writes has no time and no name.
        compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        for piece in _tar(changes, contents, mtime):
            hasher.update(piece)
            if data := compressor.compress(piece):
                yield data
        yield compressor.flush()

    descriptor = layout.write_blob(compressed(), media_types.OCI_LAYER_GZIP)
    return WrittenLayer(descriptor=descriptor, diff_id=hasher.digest)


def _tar(
    changes: tuple[tuple[Parts, Node], ...], contents: ContentStore, mtime: int
) -> Iterator[bytes]:
    first_names: dict[int, str] = {}
    for parts, node in changes:
        name = "/".join(parts)
        first = first_names.setdefault(id(node), name) if node.kind == NodeKind.FILE else name
        info = _header(name, node, mtime)
        if first != name:
            info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if info.size:
            yield from contents.open(node)
            yield bytes(-info.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _header(name: str, node: Node, mtime: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{name}/" if node.is_directory else name)
    info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, mtime
    info.size = node.size_bytes if node.kind == NodeKind.FILE else 0
    info.linkname = node.link
    if node.device is not None:
        info.type, info.devmajor, info.devminor = node.device
    else:
        info.type = _TYPES[node.kind]
    info.pax_headers = dict(sorted(node.xattrs.items()))
    return info
