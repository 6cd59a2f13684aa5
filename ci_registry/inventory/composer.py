"""Reads what PHP's Composer has installed: `vendor/composer/installed.json` of Composer 1 and 2."""

import json
import re
from collections.abc import Iterator, Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, read_each
from ci_registry.strict import as_list, as_object, parse_json

_WHAT = "installed.json"
_NAME = re.compile(r"[a-z0-9]+([_.-]+[a-z0-9]+)*/[a-z0-9]+([_.-]+[a-z0-9]+)*", re.IGNORECASE)
_LONGEST = 300
LARGEST_BYTES = 64 * MIB


def composer_names(data: bytes) -> bytes:
    """Return the names and versions alone.

    Raises:
        IntegrityError: it is no list of installed packages.
    """
    value = parse_json(data, what=_WHAT, max_bytes=LARGEST_BYTES, strict=False)
    if isinstance(value, dict):
        value = value.get("packages")
    items = [as_object(item, what=f"{_WHAT}: package") for item in as_list(value, what=_WHAT)]
    kept = [{key: item.get(key) for key in ("name", "version")} for item in items]
    return json.dumps(kept, separators=(",", ":")).encode()


def read_composer(files: Sequence[ImageFile]) -> Reading:
    """Return the packages, those for development too: what is installed can be run."""
    return read_each("composer", files, _packages)


def _packages(file: ImageFile) -> Iterator[Package]:
    items = as_list(
        parse_json(file.content, what=_WHAT, max_bytes=LARGEST_BYTES, strict=False), what=_WHAT
    )
    for item in items:
        entry = as_object(item, what=f"{_WHAT}: package")
        name, version = entry.get("name"), entry.get("version")
        if not isinstance(name, str) or not isinstance(version, str):
            raise IntegrityError(f"{_WHAT}: a package without name or version")
        is_fine = version.isprintable() and 0 < len(version) <= _LONGEST
        if len(name) > _LONGEST or not _NAME.fullmatch(name) or not is_fine:
            raise IntegrityError(f"{_WHAT}: malformed name or version {name[:100]!r}")
        vendor, _, short = name.lower().partition("/")
        yield Package(
            ecosystem="composer",
            name=name,
            version=version,
            purl=f"pkg:composer/{purl_part(vendor)}/{purl_part(short)}@{purl_part(version)}",
            layer=file.diff_id,
            path=printable(file.path),
        )
