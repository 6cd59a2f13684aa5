"""How the programs that are compared are told what to do."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Argv = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One program; images on disk are OCI layouts with the tag v1. None: it has no such thing."""

    name: str
    copy: Callable[[str, str], Argv] | None = None
    copy_all: Callable[[str, str, int], Argv] | None = None
    """Source and target repository, both called `app`, and how many tags v1, v2, … there are."""
    list_tags: Callable[[str], Argv] | None = None
    pull: Callable[[str, Path, bool], Argv] | None = None
    push: Callable[[Path, str, bool], Argv] | None = None
    """Source, target, and whether the registry speaks plain HTTP."""


OURS = "ci-registry"
DEEP = "… --deep"
CRANE = "crane"
CRANE_16 = "crane -j 16"


def tools(ca_file: Path) -> tuple[Tool, ...]:
    """Return ours first, then the others."""
    return (
        _ours(OURS, ca_file),
        _ours("… --no-referrers", ca_file, "--no-referrers"),
        Tool(name=DEEP, copy_all=_ours("", ca_file, "--deep").copy_all),
        _library(ca_file),
        _crane(),
        Tool(name=CRANE_16, copy_all=lambda s, t, _: ("crane", "cp", "-a", "-j", "16", s, t)),
        _oras(),
        _skopeo(),
    )


def _ours(name: str, ca_file: Path, *flags: str) -> Tool:
    own = (sys.executable, "-m", "ci_registry")
    quiet = ("--network-ca-file", str(ca_file), "-q")
    copy = (*own, "copy", *quiet, *flags)
    return Tool(
        name=name,
        copy=lambda source, target: (*copy, source, target),
        copy_all=lambda source, target, _: (*copy, "--all-tags", source, target),
        list_tags=lambda repository: (*own, "ls", *quiet, repository),
        pull=lambda ref, to, _: (*copy, ref, f"oci:{to}:v1"),
        push=lambda path, ref, _: (*copy, f"oci:{path}:v1", ref),
    )


def _library(ca_file: Path) -> Tool:
    driver = (sys.executable, "-m", "benchmarks.copy_driver", "--ca-file", str(ca_file))
    return Tool(
        name="… its library",
        copy=lambda source, target: (*driver, "copy", source, target),
        list_tags=lambda repository: (*driver, "list", repository),
        pull=lambda ref, to, _: (*driver, "copy", ref, f"oci:{to}:v1"),
        push=lambda path, ref, _: (*driver, "copy", f"oci:{path}:v1", ref),
    )


def _crane() -> Tool:
    return Tool(
        name=CRANE,
        copy=lambda source, target: ("crane", "cp", source, target),
        copy_all=lambda source, target, _: ("crane", "cp", "-a", source, target),
        list_tags=lambda repository: ("crane", "ls", repository),
        pull=lambda ref, to, _: ("crane", "pull", "--format", "oci", ref, str(to)),
        push=lambda path, ref, _: ("crane", "push", str(path), ref),
    )


def _oras() -> Tool:
    cp = ("oras", "cp", "--no-tty")
    both = ("--from-plain-http", "--to-plain-http")

    def copy_all(source: str, target: str, tags: int) -> Argv:
        """One process per tag: oras copies no repository."""
        loop = (
            f'for n in $(seq {tags}); do {" ".join((*cp, *both))} "$0:v$n" "$1:v$n" || exit 1; done'
        )
        return ("sh", "-c", loop, source, target)

    return Tool(
        name="oras",
        copy=lambda source, target: (*cp, *both, source, target),
        copy_all=copy_all,
        list_tags=lambda repository: ("oras", "repo", "tags", "--plain-http", repository),
        pull=lambda ref, to, plain: (
            *(*cp, *(["--from-plain-http"] if plain else [])),
            *(ref, "--to-oci-layout", f"{to}:v1"),
        ),
        push=lambda path, ref, plain: (
            *(*cp, *(["--to-plain-http"] if plain else [])),
            *("--from-oci-layout", f"{path}:v1", ref),
        ),
    )


def _skopeo() -> Tool:
    start = ("skopeo", "--insecure-policy")
    both = ("--src-tls-verify=false", "--dest-tls-verify=false")
    return Tool(
        name="skopeo",
        copy=lambda source, target: (
            *(*start, "copy", "-q", "--all", "--preserve-digests", *both),
            *(f"docker://{source}", f"docker://{target}"),
        ),
        copy_all=lambda source, target, _: (
            *(*start, "sync", "--all", "--src", "docker", "--dest", "docker", *both),
            *(source, target.removesuffix("/app")),
        ),
        list_tags=lambda repository: (
            *(*start, "list-tags", "--tls-verify=false", f"docker://{repository}"),
        ),
        pull=lambda ref, to, plain: (
            *(*start, "copy", "-q", *(["--src-tls-verify=false"] if plain else [])),
            *(f"docker://{ref}", f"oci:{to}:v1"),
        ),
        push=lambda path, ref, plain: (
            *(*start, "copy", "-q", *(["--dest-tls-verify=false"] if plain else [])),
            *(f"oci:{path}:v1", f"docker://{ref}"),
        ),
    )
