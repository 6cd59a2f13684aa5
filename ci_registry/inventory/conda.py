"""Reads the packages of conda environments from the records in `conda-meta`."""

import json
import re
from collections.abc import Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.limits import MIB
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread
from ci_registry.strict import as_object, parse_json

LARGEST_BYTES = 64 * MIB
"""Records hold the list of all files of their package."""
_KEYS = ("name", "version", "build", "subdir")
_WORD = re.compile(r"[\w.+!~-]{1,200}", re.ASCII)


def conda_names(data: bytes) -> bytes:
    """Return what names the package alone.

    Raises:
        IntegrityError: it is no JSON object.
    """
    what = "conda record"
    value = parse_json(data, what=what, max_bytes=LARGEST_BYTES, strict=False)
    entry = as_object(value, what=what)
    return json.dumps({key: entry.get(key) for key in _KEYS}).encode()


def read_conda(files: Sequence[ImageFile]) -> Reading:
    """Return the packages; those of Python are found a second time, by their own metadata."""
    packages, problems = [], []
    for file in files:
        try:
            packages.append(_package(file))
        except IntegrityError as error:
            problems.append(unread("conda", file, error.message))
    return Reading(packages=tuple(packages), unread=tuple(problems))


def _package(file: ImageFile) -> Package:
    if file.problem:
        raise IntegrityError(file.problem)
    what = "conda record"
    entry = as_object(parse_json(file.content, what=what), what=what)
    words = [entry.get(key) or "" for key in _KEYS]
    if not all(isinstance(word, str) and (not word or _WORD.fullmatch(word)) for word in words):
        raise IntegrityError(f"{what}: malformed name, version or build")
    name, version, build, subdir = map(str, words)
    if not name or not version:
        raise IntegrityError(f"{what}: no {'version' if name else 'name'} in it")
    qualifiers = {"build": build, "subdir": subdir}
    query = "&".join(f"{key}={purl_part(value)}" for key, value in qualifiers.items() if value)
    return Package(
        ecosystem="conda",
        name=name,
        version=version,
        purl=f"pkg:conda/{purl_part(name)}@{purl_part(version)}" + (f"?{query}" if query else ""),
        layer=file.diff_id,
        path=printable(file.path),
    )
