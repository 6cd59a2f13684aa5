"""One version of a layout's `index.json`, parsed once and found by tag and digest."""

import json
from collections.abc import Iterable

from ci_registry.errors import IntegrityError
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, parse_descriptor
from ci_registry.registry.layout_entries import tag_of
from ci_registry.strict import as_list, as_object, parse_json

MAX_INDEX_BYTES = 64 * 1024 * 1024
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutIndex:
    """The entries in the bytes of an `index.json`, as they are there and parsed; never changed."""

    def __init__(
        self, raw: bytes, entries: list[dict[str, object]], descriptors: tuple[Descriptor, ...]
    ) -> None:
        """Use `parse_index` or `changed`."""
        self.raw = raw
        self._entries = entries
        self.descriptors = descriptors
        self.by_digest: dict[Digest, Descriptor] = {}
        self.by_tag: dict[str, dict[Digest, Descriptor]] = {}
        """Several digests: the tag is ambiguous."""
        for descriptor in descriptors:
            self.by_digest.setdefault(descriptor.digest, descriptor)
            self.by_tag.setdefault(tag_of(descriptor), {})[descriptor.digest] = descriptor

    @property
    def entries(self) -> list[dict[str, object]]:
        """The entries as they are in the file; the list may be changed, its members may not."""
        return list(self._entries)

    def changed(self, entries: list[dict[str, object]], *, where: str) -> "LayoutIndex":
        """Return the index with other entries; those that stay are not parsed again."""
        known = {
            id(entry): parsed for entry, parsed in zip(self._entries, self.descriptors, strict=True)
        }
        descriptors = tuple(
            known.get(id(entry)) or parse_descriptor(entry, what=where) for entry in entries
        )
        return LayoutIndex(index_bytes(entries), entries, descriptors)


def index_bytes(entries: Iterable[dict[str, object]]) -> bytes:
    """Return the bytes of an `index.json`, one entry a line."""
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    head = f'{{\n "schemaVersion": 2,\n "mediaType": "{media_types.OCI_INDEX}",\n "manifests": ['
    return f"{head}\n  {lines}\n ]\n}}\n".encode() if lines else f"{head}]\n}}\n".encode()


EMPTY_INDEX = LayoutIndex(index_bytes(()), [], ())


def check_marker(marker: bytes, *, where: str) -> None:
    """Check the file `oci-layout` of a layout.

    Raises:
        IntegrityError: it is of a version that we do not know.
    """
    document = parse_json(marker, what="oci-layout", max_bytes=4096)
    version = as_object(document, what="oci-layout").get("imageLayoutVersion")
    if version != "1.0.0":
        raise IntegrityError(f"{where}: OCI layout version {version!r}, expected '1.0.0'")


def parse_index(raw: bytes, *, where: str) -> LayoutIndex:
    """Parse the bytes of an `index.json`.

    Raises:
        IntegrityError: they are none.
    """
    what = f"{where}/index.json"
    index = as_object(parse_json(raw, what=what, max_bytes=MAX_INDEX_BYTES), what=what)
    listed = as_list(index.get("manifests") or [], what=what)
    entries = [as_object(entry, what=what) for entry in listed]
    return LayoutIndex(raw, entries, tuple(parse_descriptor(entry, what=what) for entry in entries))
