"""Reads which modules a Go program was built of, from the build information in it."""

import re
from collections.abc import Iterator, Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread
from ci_registry.strict import as_list, as_text, parse_json

_RELEASE = re.compile(r"go(\d+\.\d+(?:\.\d+)?)(?:(rc|beta)(\d+))?(?=[ +-]|$)")
_NAME = re.compile(r"[^\s@]{1,500}")
_VERSION = re.compile(r"\S{1,200}")
_MOST_MODULES = 20_000
_WHAT = "Go build information"
_NO_MODULES = "built without information about its modules: only its standard library is known"
_ALONE = re.compile(r"^path\t(?:cmd/|command-line-arguments$)", re.MULTILINE)
"""Go's own tools, and single files: these need not have any module."""
DEVEL = "(devel)"
"""Go's word for the version of a module that was built from a work tree."""


def read_golang(files: Sequence[ImageFile]) -> Reading:
    """Return the main module, its dependencies and the standard library of each program.

    A main module without a version has the version `(devel)`: what is known about it can't be decided.
    """
    packages: list[Package] = []
    problems = []
    for file in files:
        try:
            go_version, about = _texts(file)
            modules = list(_modules(about))
        except IntegrityError as error:
            problems.append(unread("golang", file, error.message))
            continue
        found = [("stdlib", _standard_library(go_version)), *modules]
        packages += [_package(name, version, file) for name, version in found]
        if not modules and not _ALONE.search(about):
            problems.append(unread("golang", file, _NO_MODULES))
    return Reading(packages=tuple(dict.fromkeys(packages)), unread=tuple(problems))


def _texts(file: ImageFile) -> tuple[str, str]:
    if file.problem:
        raise IntegrityError(file.problem)
    texts = as_list(parse_json(file.content, what=_WHAT, max_bytes=16 << 20), what=_WHAT)
    go_version, about = (as_text(text, what=_WHAT) for text in texts)
    return go_version, about


def _modules(about: str) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of the main module and of its dependencies."""
    count, last = 0, ("", "")
    for line in about.split("\n"):
        word, *fields = line.split("\t")
        if word not in ("mod", "dep", "=>"):
            continue
        count += 1
        if count > _MOST_MODULES:
            raise IntegrityError(f"{_WHAT}: more than {_MOST_MODULES} modules")
        if word == "=>":
            last = _replaced(last, fields)
            continue
        if last[0]:
            yield last
        last = _module(fields)
    if last[0]:
        yield last


def _standard_library(go_version: str) -> str:
    """Return the version of the standard library as advisories write it; `go1.22rc1` is `1.22.0-rc.1`."""
    match = _RELEASE.match(go_version)
    if match is None:
        return "-".join(go_version.split()) or DEVEL
    release, word, number = match.groups()
    if not word:
        return release
    return f"{release if release.count('.') == 2 else release + '.0'}-{word}.{number}"


def _module(fields: Sequence[str]) -> tuple[str, str]:
    """Return (path, version); programs of old Go versions have entries without a path."""
    name, version = [*fields, "", ""][:2]
    if not name:
        return "", ""
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise IntegrityError(f"{_WHAT}: malformed module {name[:80]!r}")
    version = version or DEVEL
    if not _VERSION.fullmatch(version) or not version.isprintable():
        raise IntegrityError(f"{_WHAT}: {name}: malformed version {version[:80]!r}")
    return name, version


def _replaced(original: tuple[str, str], fields: Sequence[str]) -> tuple[str, str]:
    """Return what stands in for a module; of a folder on disk nobody knows what it holds."""
    name, version = _module(fields)
    return (name, version) if name and version != DEVEL else (original[0], DEVEL)


def _package(name: str, version: str, file: ImageFile) -> Package:
    encoded = "/".join(purl_part(part) for part in name.lower().split("/"))
    return Package(
        ecosystem="golang",
        name=name,
        version=version,
        purl=f"pkg:golang/{encoded}@{purl_part(version)}",
        layer=file.diff_id,
        path=printable(file.path),
    )
