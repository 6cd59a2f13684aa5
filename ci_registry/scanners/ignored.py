"""Finds files in a project that would tell a scanner to keep quiet, were they applied."""

import os
from pathlib import Path

MAX_FOLDERS = 20_000
_NAMES = frozenset(
    {
        "trivy.yaml",
        ".grype.yaml",
        ".grype.yml",
        "grype.yaml",
        "osv-scanner.toml",
        ".snyk",
    }
)


def ignored_files(project: Path) -> tuple[str, ...]:
    """Return the paths, relative to `project`, of `.trivyignore*`, `trivy.yaml`, `.grype.yaml` and the like.

    None of them is applied: who can change them could hide findings. The report says so. `.git`
    and what can't be listed is passed over, and so is everything past 20,000 folders.
    """
    found: list[str] = []
    for count, (parent, folders, names) in enumerate(os.walk(project)):
        if count >= MAX_FOLDERS:
            break
        folders[:] = sorted(set(folders) - {".git"})
        found += [
            str(Path(parent, name).relative_to(project))
            for name in names
            if name in _NAMES or name.startswith(".trivyignore")
        ]
    return tuple(sorted(found))
