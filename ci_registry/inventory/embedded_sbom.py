"""Reads CycloneDX files (`*.cdx.json`) that packages carry to name what they vendored, as pip does."""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, read_each
from ci_registry.strict import as_list, as_object, as_text, parse_json

_TYPE = re.compile(r"[a-z][a-z0-9.+-]*")
_MOST_COMPONENTS = 20_000


def read_embedded_sboms(files: Sequence[ImageFile]) -> Reading:
    """Return the components that have a purl with a version; the others are not packages."""
    return read_each("generic", files, _components)


def _components(file: ImageFile) -> Iterator[Package]:
    what = "CycloneDX file"
    data = as_object(parse_json(file.content, what=what, strict=False), what=what)
    waiting = as_list(data.get("components", []), what=f"{what}: components")[::-1]
    seen = 0
    while waiting:
        component = as_object(waiting.pop(), what=f"{what}: component")
        waiting += as_list(component.get("components", []), what=f"{what}: components")[::-1]
        seen += 1
        if seen > _MOST_COMPONENTS:
            raise IntegrityError(f"{what}: more than {_MOST_COMPONENTS} components")
        purl = as_text(component.get("purl") or "", what=f"{what}: purl")
        if purl and (package := _package(purl, file)) is not None:
            yield package


def _package(purl: str, file: ImageFile) -> Package | None:
    """Return the package that a purl names, None for one without version."""
    scheme, _, rest = purl.partition(":")
    path, at, version = rest.partition("?")[0].partition("#")[0].rpartition("@")
    kind, _, name = path.lstrip("/").partition("/")
    if scheme == "pkg" and not at:
        return None
    name, version = unquote(name), unquote(version)
    is_fine = scheme == "pkg" and _TYPE.fullmatch(kind) and (name + version).isprintable()
    if not is_fine or not name or not version or len(name + version) > 600:
        raise IntegrityError(f"CycloneDX file: malformed purl {purl[:100]!r}")
    part = name.lower().replace("_", "-") if kind == "pypi" else name
    encoded = "/".join(purl_part(piece) for piece in part.split("/"))
    return Package(
        ecosystem=kind,
        name=name,
        version=version,
        purl=f"pkg:{kind}/{encoded}@{purl_part(version)}",
        layer=file.diff_id,
        path=printable(file.path),
    )
