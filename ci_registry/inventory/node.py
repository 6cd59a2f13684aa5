"""Reads installed Node packages: every `package.json` with name and version inside `node_modules`.

Copies that a package has vendored deeper inside count too, as for trivy and syft. Folders deeper inside
also hold test fixtures that are damaged on purpose, so only the folders directly in `node_modules`, where
a package manager puts packages, are reported when they can't be read.
"""

import re
from collections.abc import Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread
from ci_registry.strict import parse_json

_NAME = re.compile(r"(?:@[^/@\s]+/)?[^/@\s]+")
_INSTALLED = re.compile(r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json")
_BOM = b"\xef\xbb\xbf"


def read_node(files: Sequence[ImageFile]) -> Reading:
    """Return the packages; a file without name or version is no package from a registry."""
    packages, problems = [], []
    for file in files:
        try:
            found = _name_and_version(file)
        except IntegrityError as error:
            if _INSTALLED.fullmatch(file.path):
                problems.append(unread("npm", file, error.message))
            continue
        if found is None:
            continue
        name, version = found
        packages.append(
            Package(
                ecosystem="npm",
                name=name,
                version=version,
                purl=f"pkg:npm/{'/'.join(purl_part(p) for p in name.split('/'))}@{purl_part(version)}",
                layer=file.diff_id,
                path=printable(file.path),
            )
        )
    return Reading(packages=tuple(packages), unread=tuple(problems))


def _name_and_version(file: ImageFile) -> tuple[str, str] | None:
    if file.problem:
        raise IntegrityError(file.problem)
    data = parse_json(file.content.removeprefix(_BOM), what="package.json", strict=False)
    if not isinstance(data, dict):
        raise IntegrityError("package.json: not a JSON object")
    name, version = data.get("name"), data.get("version")
    if name is None or version is None:
        return None
    if not isinstance(name, str) or not isinstance(version, str):
        raise IntegrityError("package.json: name or version is not a string")
    if not name or not version:
        return None
    printable_text = (name + version).isprintable()
    if len(name + version) > 512 or not _NAME.fullmatch(name) or not printable_text:
        raise IntegrityError("package.json: malformed name or version")
    return name, version.strip().removeprefix("v")
