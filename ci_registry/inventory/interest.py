"""Knows by its path which file of an image says something about packages, and how much of it to keep."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from ci_registry.inventory.apk import condense_apk
from ci_registry.inventory.composer import composer_names
from ci_registry.inventory.conda import conda_names
from ci_registry.inventory.egg import sift_egg
from ci_registry.inventory.jar import ARCHIVES, LARGEST_BYTES, sift_jar
from ci_registry.inventory.limits import KIB, MIB
from ci_registry.inventory.owned_paths import may_hold_packages
from ci_registry.inventory.rpm import LOG_ENDING, RPM_FILES, condense_log, condense_rpm
from ci_registry.inventory.ruby import gem_head


class Reader(StrEnum):
    """Who reads a file."""

    OS_RELEASE = "os-release"
    DPKG_STATUS = "dpkg-status"
    DPKG_FILES = "dpkg-files"
    PYTHON = "python"
    NODE = "node"
    SBOM = "sbom"
    JAVA = "java"
    RUBY = "ruby"
    COMPOSER = "composer"
    DOTNET = "dotnet"
    CONDA = "conda"
    APK = "apk"
    RPM = "rpm"
    GOLANG = "golang"
    RUST = "rust"
    NOBODY = "nobody"
    """A package database that we can't read: its presence is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """Why a file is of interest."""

    reader: Reader
    ecosystem: str = ""
    """The purl type of the packages that it holds."""
    limit_bytes: int = 0
    """Largest content that is kept; 0: only its presence matters."""
    condense: Callable[[bytes], bytes] = bytes
    """Drops what the reader does not need, to save memory; an `IntegrityError` names the file as unread."""
    sift: Callable[[Iterator[bytes], int], bytes] | None = None
    """Takes what the reader needs out of the pieces of a file of any size (second argument, in bytes),
    instead of `condense`; `limit_bytes` bounds the file. It need not take all pieces. An
    `UnreadableError` names the file as unread."""
    what: str = ""
    """For people: the kind of database."""


def _headers_only(data: bytes) -> bytes:
    """Cut the long description off a METADATA file."""
    ends = [at for at in (data.find(b"\n\n"), data.find(b"\r\n\r\n")) if at >= 0]
    return data[: min(ends) + 1] if ends else data


def _owning_lines(data: bytes) -> bytes:
    """Keep the lines of a dpkg file list that can own a language package."""
    return b"\n".join(line for line in data.splitlines() if may_hold_packages(line))


_OS_RELEASE = Interest(reader=Reader.OS_RELEASE, limit_bytes=64 * KIB)
_STATUS = Interest(reader=Reader.DPKG_STATUS, ecosystem="deb", limit_bytes=64 * MIB)
_FILES = Interest(
    reader=Reader.DPKG_FILES, ecosystem="deb", limit_bytes=64 * MIB, condense=_owning_lines
)
_APK = Interest(reader=Reader.APK, ecosystem="apk", limit_bytes=64 * MIB, condense=condense_apk)
_RPM = Interest(reader=Reader.RPM, ecosystem="rpm", limit_bytes=192 * MIB, condense=condense_rpm)
_RPM_LOG = Interest(
    reader=Reader.RPM, ecosystem="rpm", limit_bytes=192 * MIB, condense=condense_log
)
_PYTHON = Interest(
    reader=Reader.PYTHON, ecosystem="pypi", limit_bytes=4 * MIB, condense=_headers_only
)
_SBOM = Interest(reader=Reader.SBOM, ecosystem="generic", limit_bytes=4 * MIB)
_RECORD = Interest(reader=Reader.PYTHON, ecosystem="pypi")
"""Its presence says that a package is there, in case the metadata is not."""
_NODE = Interest(reader=Reader.NODE, ecosystem="npm", limit_bytes=4 * MIB)

_JAVA = Interest(reader=Reader.JAVA, ecosystem="maven", limit_bytes=LARGEST_BYTES, sift=sift_jar)
_EGG = Interest(reader=Reader.PYTHON, ecosystem="pypi", limit_bytes=LARGEST_BYTES, sift=sift_egg)
_GEM = Interest(reader=Reader.RUBY, ecosystem="gem", limit_bytes=4 * MIB, condense=gem_head)
_COMPOSER = Interest(
    reader=Reader.COMPOSER, ecosystem="composer", limit_bytes=64 * MIB, condense=composer_names
)
_NUGET = Interest(reader=Reader.DOTNET, ecosystem="nuget", limit_bytes=16 * MIB)
_CONDA = Interest(
    reader=Reader.CONDA, ecosystem="conda", limit_bytes=64 * MIB, condense=conda_names
)


def _unread(ecosystem: str, what: str) -> Interest:
    return Interest(reader=Reader.NOBODY, ecosystem=ecosystem, what=what)


_BUNDLED = _unread("gem", "Ruby gem in a checkout of Bundler")
_ALPM = _unread("alpm", "pacman database")
_NIX = _unread("nix", "Nix store database")
_OPKG = _unread("opkg", "opkg database")
_BITNAMI = _unread("bitnami", "Bitnami component list")
_PNP = _unread("npm", "Yarn Plug'n'Play map")
GO_BINARY = Interest(reader=Reader.GOLANG, ecosystem="golang")
RUST_BINARY = Interest(reader=Reader.RUST, ecosystem="cargo")
"""Programs are known by their content, see `programs.py`."""


_PACKAGE_MANAGER = re.compile(
    r"(?:^|/)yarn-v\d[^/]*/package\.json$|/corepack/(?:v\d+/)?(?:npm|pnpm|yarn)/[^/]+/package\.json$"
)
"""Where Node images and corepack put package managers: outside of any `node_modules`."""


def _status(path: str) -> Interest | None:
    if path.endswith("opkg/status"):
        return _OPKG
    return _STATUS if path.endswith("dpkg/status") else None


def _metadata(path: str) -> Interest | None:
    return _PYTHON if path.endswith(".dist-info/METADATA") else None


def _pkg_info(path: str) -> Interest | None:
    return _PYTHON if path.endswith((".egg-info/PKG-INFO", "EGG-INFO/PKG-INFO")) else None


def _package_json(path: str) -> Interest | None:
    if path.startswith("node_modules/") or "/node_modules/" in path:
        return _NODE
    return _NODE if _PACKAGE_MANAGER.search(path) else None


def _ending(ending: str, interest: Interest) -> Callable[[str], Interest | None]:
    return lambda path: interest if path.endswith(ending) else None


def _rpm_database(path: str) -> Interest | None:
    if path.rsplit("/", 2)[-2:-1] != ["rpm"]:
        return None
    return _RPM_LOG if path.endswith(LOG_ENDING) else _RPM


def _desc(path: str) -> Interest | None:
    return _ALPM if "lib/pacman/local/" in path else None


_BY_NAME: dict[str, Callable[[str], Interest | None]] = {
    "status": _status,
    "METADATA": _metadata,
    "RECORD": _ending(".dist-info/RECORD", _RECORD),
    "PKG-INFO": _pkg_info,
    "package.json": _package_json,
    "os-release": _ending("os-release", _OS_RELEASE),
    "installed": _ending("apk/db/installed", _APK),
    "installed.json": _ending("composer/installed.json", _COMPOSER),
    "desc": _desc,
    "db.sqlite": _ending("nix/var/nix/db/db.sqlite", _NIX),
    ".pnp.cjs": _ending(".pnp.cjs", _PNP),
    ".pnp.data.json": _ending(".pnp.data.json", _PNP),
    **dict.fromkeys(RPM_FILES, _rpm_database),
}


def _gemspec(path: str) -> Interest | None:
    """Bundler keeps gems from git as checkouts, whose specification is a program: nobody reads those."""
    checkout = path.partition("/bundler/gems/")[2]
    if checkout.count("/") == 1:
        return _BUNDLED
    return _GEM if "/specifications/" in path else None


def _json(path: str) -> Interest | None:
    if path.endswith(".deps.json"):
        return _NUGET
    if path.endswith(".cdx.json"):
        return _SBOM
    return _CONDA if path.rsplit("/", 2)[-2:-1] == ["conda-meta"] else None


def _bitnami(path: str) -> Interest | None:
    return _BITNAMI if path.startswith("opt/bitnami/") else None


def _dpkg_files(path: str) -> Interest | None:
    folder = path.rsplit("/", 3)
    named = len(folder) >= 3 and folder[-3:-1] == ["dpkg", "info"]
    return _FILES if named or "/dpkg/status.d/" in path else None


_BY_EXTENSION: dict[str, Callable[[str], Interest | None]] = {
    "gemspec": _gemspec,
    "json": _json,
    "list": _dpkg_files,
    "md5sums": _dpkg_files,
    "egg-info": _ending(".egg-info", _PYTHON),
    "egg": _ending(".egg", _EGG),
    "spdx": _bitnami,
    **{ending[1:]: _ending(ending, _JAVA) for ending in ARCHIVES},
    **{ending[1:].upper(): _ending(ending.upper(), _JAVA) for ending in ARCHIVES},
}


_LINKED_FOLDERS = frozenset(
    {"node_modules", "dpkg", "info", "status.d", "rpm", "apk", "db", "conda-meta", "specifications"}
    | {"composer", "local"}
)


def folder_may_matter(path: str) -> bool:
    """Whether files in the folder at `path` can be of interest because of the folder's name."""
    parts = path.rsplit("/", 2)
    if parts[-1] in _LINKED_FOLDERS or parts[-1].endswith((".dist-info", ".egg-info")):
        return True
    above = parts[-3].rpartition("/")[2] if len(parts) == 3 and parts[-2][:1] == "@" else ""
    return "node_modules" in (above, *parts[-2:-1])


def link_may_lead_to(path: str) -> bool:
    """Whether a symbolic link often gives this file a telling name: Debian's Node packages, pnpm's store.

    Such small files are kept at once, so that their layer need not be read a second time.
    """
    return path.endswith("/package.json")


def interest_in(path: str) -> Interest | None:
    """Return why the file at `path` (relative to the root) is of interest, None when it is not."""
    name = path[path.rfind("/") + 1 :]
    judge = _BY_NAME.get(name)
    if judge is None:
        judge = _BY_EXTENSION.get(name[name.rfind(".") + 1 :])
    found = judge(path) if judge is not None else None
    if found is None and "/dpkg/status.d/" in path:
        return _STATUS
    return found
