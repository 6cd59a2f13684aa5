"""Reads installed Python packages from their metadata: wheels and eggs."""

from collections.abc import Sequence

from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread


def read_python(all_files: Sequence[ImageFile]) -> Reading:
    """Return the packages of `METADATA`, `PKG-INFO` and single-file `.egg-info` files.

    A `RECORD` without `METADATA` beside it is a package of which we know nothing.
    """
    records = [file for file in all_files if file.path.endswith("/RECORD")]
    files = [file for file in all_files if not file.path.endswith("/RECORD")]
    described = {file.real.rpartition("/")[0] for file in files}
    packages = []
    problems = [
        unread("pypi", record, "an installed package without METADATA")
        for record in records
        if record.real.rpartition("/")[0] not in described
    ]
    for file in files:
        name, version = _headers(file.content)
        problem = file.problem or _problem_of(name, version)
        if problem:
            problems.append(unread("pypi", file, problem))
            continue
        packages.append(
            Package(
                ecosystem="pypi",
                name=name,
                version=version,
                purl=f"pkg:pypi/{purl_part(name.lower().replace('_', '-'))}@{purl_part(version)}",
                layer=file.diff_id,
                path=printable(file.path),
            )
        )
    return Reading(packages=tuple(packages), unread=tuple(problems))


def _headers(content: bytes) -> tuple[str, str]:
    """Return name and version: the first such headers, before the first empty line."""
    name = version = ""
    for line in content.decode("utf-8", "replace").splitlines():
        if not line.strip():
            break
        key, _, value = line.partition(":")
        if key.lower() == "name":
            name = name or value.strip()
        elif key.lower() == "version":
            version = version or value.strip()
    return name, version


def _problem_of(name: str, version: str) -> str:
    if not name or not version:
        return f"no {'name' if not name else 'version'} in the metadata"
    if not name.isprintable() or not version.isprintable() or len(name + version) > 400:
        return "malformed name or version in the metadata"
    return ""
