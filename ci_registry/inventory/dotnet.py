"""Reads the libraries of .NET programs, and of the shared runtime, from `*.deps.json`."""

import re
from collections.abc import Iterator, Mapping, Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, read_each
from ci_registry.strict import as_object, as_text, parse_json

LARGEST_BYTES = 16 * MIB
_KINDS = frozenset({"package", "project", "runtimepack"})
_RUNTIME_PACK = "runtimepack."
_NAME = re.compile(r"[\w.-]{1,200}")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,200}")
_IN_USE = ("runtime", "runtimeTargets", "native")
_BOM = b"\xef\xbb\xbf"


def read_dotnet(files: Sequence[ImageFile]) -> Reading:
    """Return the libraries that are there at run time, the program itself and a bundled runtime too."""
    return read_each("nuget", files, _packages)


def _packages(file: ImageFile) -> Iterator[Package]:
    what = printable(file.path.rpartition("/")[2])[:100]
    content = file.content.removeprefix(_BOM)
    value = parse_json(content, what=what, max_bytes=LARGEST_BYTES, strict=False)
    document = as_object(value, what=what)
    target = _target(document, what)
    libraries = as_object(document.get("libraries"), what=f"{what}: libraries")
    for key, entry in libraries.items():
        kind = as_object(entry, what=f"{what}: library").get("type")
        if (
            not isinstance(kind, str)
            or kind.lower() not in _KINDS
            or not _is_used(target, key, what)
        ):
            continue
        name, slash, version = key.removeprefix(_RUNTIME_PACK).partition("/")
        if not slash or not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise IntegrityError(f"{what}: malformed library {key[:100]!r}")
        yield Package(
            ecosystem="nuget",
            name=name,
            version=version,
            purl=f"pkg:nuget/{purl_part(name)}@{purl_part(version)}",
            layer=file.diff_id,
            path=printable(file.path),
        )


def _target(document: Mapping[str, object], what: str) -> Mapping[str, object]:
    """Return the libraries of the platform that the program was published for; empty when not told."""
    runtime = as_object(document.get("runtimeTarget", {}), what=f"{what}: runtimeTarget")
    name = as_text(runtime.get("name", ""), what=f"{what}: runtimeTarget")
    targets = as_object(document.get("targets", {}), what=f"{what}: targets")
    return as_object(targets.get(name, {}), what=f"{what}: target")


def _is_used(target: Mapping[str, object], key: str, what: str) -> bool:
    """Whether a library brings files for run time; one that only helped to build does not."""
    if key not in target:
        return True
    entry = as_object(target[key], what=f"{what}: library")
    return any(entry.get(part) for part in _IN_USE)
