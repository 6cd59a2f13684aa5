"""Opens the contents of tree nodes; those in base layers are unpacked first, one pass a layer."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ci_registry.builders.assemble_tree import Content, HostFile, InLayer, InlineBytes, Node
from ci_registry.errors import SetupError, StorageError
from ci_registry.files import storage_error
from ci_registry.inventory.inflate import inflate
from ci_registry.inventory.limits import DEFAULT_LIMITS
from ci_registry.inventory.tar_stream import TarStream
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, Hasher
from ci_registry.oci.manifest import Descriptor
from ci_registry.registry.layout import Layout

_PIECE_BYTES = 1 << 20


class ContentStore:
    """Where contents of one build lie: base layers in a layout, unpacked files in a scratch folder."""

    def __init__(self, layout: Layout, folder: Path, check: Callable[[], None]) -> None:
        """`check` is called between pieces and raises to stop."""
        self.layout = layout
        self._folder = folder
        self._check = check
        self._layers: dict[Digest, Descriptor] = {}
        self._spooled = 0

    def add_layer(self, descriptor: Descriptor) -> None:
        """Make a layer known; its blob is in the layout."""
        self._layers[descriptor.digest] = descriptor

    def tar_stream(self, digest: Digest, hasher: Hasher | None = None) -> TarStream:
        """Open a known layer as a stream of entries; `hasher` gets the plain tar."""
        return TarStream(self._inflated(digest, hasher), DEFAULT_LIMITS)

    def _inflated(self, digest: Digest, hasher: Hasher | None) -> Iterator[bytes]:
        compression = media_types.LAYER_COMPRESSION[self._layers[digest].media_type]
        for piece in inflate(self.layout.open(digest), compression, limits=DEFAULT_LIMITS):
            self._check()
            if hasher is not None:
                hasher.update(piece)
            yield piece

    def spool(self, pieces: Iterable[bytes]) -> HostFile:
        """Write pieces to a new scratch file."""
        path = self._folder / f"spool-{self._spooled}"
        self._spooled += 1
        _write(path, pieces)
        return HostFile(path)

    def prepare(self, nodes: Iterable[Node]) -> None:
        """Unpack what lies in base layers, so that `open` can give it in any order."""
        wanted: dict[Digest, set[int]] = {}
        for node in nodes:
            if isinstance(node.content, InLayer) and not self._path(node.content).exists():
                wanted.setdefault(node.content.layer, set()).add(node.content.ordinal)
        for digest, ordinals in wanted.items():
            self._unpack(digest, ordinals)

    def _unpack(self, digest: Digest, ordinals: set[int]) -> None:
        stream = self.tar_stream(digest)
        for number in range(max(ordinals) + 1):
            stream.next_entry()
            if number in ordinals:
                _write(self._path(InLayer(digest, number)), stream.pieces())

    def _path(self, content: InLayer) -> Path:
        return self._folder / f"{content.layer.hex[:32]}-{content.ordinal}"

    def open(self, node: Node) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            SetupError: a file of the context changed its size or vanished since it was listed.
        """
        size_bytes = 0
        for piece in self._pieces(node.content):
            self._check()
            size_bytes += len(piece)
            yield piece
        if size_bytes != node.size_bytes:
            raise SetupError(
                f"a file changed while it was read: {_name(node.content)} has {size_bytes} bytes, "
                f"not {node.size_bytes}",
                hint="nothing may write into the context during a build",
            )

    def _pieces(self, content: Content | None) -> Iterator[bytes]:
        if isinstance(content, InlineBytes):
            yield content.data
        elif isinstance(content, InLayer):
            yield from _read(self._path(content))
        elif isinstance(content, HostFile):
            try:
                yield from _read(content.path)
            except StorageError as error:
                raise SetupError(
                    error.message, hint="nothing may write into the context during a build"
                ) from error

    def read(self, node: Node, *, max_bytes: int) -> bytes:
        """Return the content of a small file of the image.

        Raises:
            SetupError: it is larger than `max_bytes`.
        """
        if node.size_bytes > max_bytes:
            raise SetupError(f"a file is larger than the {max_bytes} bytes allowed for it")
        self.prepare((node,))
        return b"".join(self.open(node))


def _name(content: Content | None) -> str:
    return str(content.path) if isinstance(content, HostFile) else "a file of a base image"


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_error(error, path, "write") from error
