"""Reads installed Ruby gems, the default ones too, from the specifications that RubyGems writes."""

import re
from collections.abc import Sequence

from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread

_NEW = re.compile(r"Gem::Specification\.new\b[^|\n]*\|[ \t]*(\w+)[ \t]*\|")
_STRING = r"""[ \t]*=[ \t]*(?:"([^"\n]*)"|'([^'\n]*)')"""
_VERSION = r"""[ \t]*=[ \t]*(?:Gem::Version\.new[ \t]*\(?[ \t]*)?(?:"([^"\n]*)"|'([^'\n]*)')"""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,199}", re.ASCII)
_RELEASE = re.compile(r"\d[0-9A-Za-z.-]{0,99}", re.ASCII)
_HEAD_BYTES = 64 * 1024


def gem_head(data: bytes) -> bytes:
    """Return the part of a specification that can name the gem: long lists of files follow it."""
    return data[:_HEAD_BYTES]


def read_ruby(files: Sequence[ImageFile]) -> Reading:
    """Return the gems; one whose specification computes its name or version is named as unread."""
    packages, problems = [], []
    for file in files:
        name, version = _name_and_version(file.content.decode("utf-8", "replace"))
        problem = file.problem
        if not problem and not (_NAME.fullmatch(name) and _RELEASE.fullmatch(version)):
            problem = (
                f"no plain {'version' if _NAME.fullmatch(name) else 'name'} in the specification"
            )
        if problem:
            problems.append(unread("gem", file, problem))
            continue
        packages.append(
            Package(
                ecosystem="gem",
                name=name,
                version=version,
                purl=f"pkg:gem/{purl_part(name)}@{purl_part(version)}",
                layer=file.diff_id,
                path=printable(file.path),
            )
        )
    return Reading(packages=tuple(packages), unread=tuple(problems))


def _name_and_version(text: str) -> tuple[str, str]:
    """Return the first plain name and version that are assigned in the block."""
    start = _NEW.search(text)
    if start is None:
        return "", ""
    variable, body = re.escape(start[1]), text[start.end() :]
    found = [
        re.search(rf"^[ \t]*{variable}\.{key}{value}", body, re.MULTILINE)
        for key, value in (("name", _STRING), ("version", _VERSION))
    ]
    name, version = ((match[1] or match[2] or "").strip() if match else "" for match in found)
    return name, version
