"""`assemble` gives the files and settings that BuildKit and buildah give."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ci_registry.builders.interface import BuildRequest
from tests.support.assembling import Lab, file, folder, hard_link, link, make_base, tar
from tests.support.distribution import running_distribution
from tests.support.docker import Dockerd
from tests.support.flatten import Flat, FlatImage, images_of
from tests.support.peers import peer_environment

FILES: Mapping[str, str | bytes | None] = {
    "a.txt": "A",
    "b.txt@755": "B",
    "c.md": "C",
    "odd@640": "odd",
    "suid@4755": "suid",
    "dir/one": "1",
    "dir/two@600": "2",
    "dir/sub@2750": None,
    "dir/sub/three": "3",
    "dir/sub/link->../one": None,
    "dir/sub/abs->/etc/passwd": None,
    "empty@711": None,
    "to-dir->dir": None,
    "to-file->a.txt": None,
    "climbs->../../../a.txt": None,
    "logs/x.log": "x",
    "logs/keep.log": "keep",
    "[x].txt": "brackets",
    "space name": "space",
    "é.txt": "accent",
    ".dockerignore": "logs/*\n!logs/keep.log\nDockerfile\n",
    "plain.tar": tar(
        [
            folder("t", 0o750, uid=7, gid=8),
            file("t/f", "f", 0o640, uid=7, gid=8),
            hard_link("t/h", file("t/f", "f", 0o640, uid=7, gid=8)),
            link("t/l", "f"),
            link("t/out", "/etc/passwd"),
            file("implied/g", "g", uid=9),
        ]
    ),
    "t.tar.gz": tar([file("gz", "gz")], "w:gz"),
    "t.tar.bz2": tar([file("bz2", "bz2")], "w:bz2"),
    "t.tar.xz": tar([file("xz", "xz")], "w:xz"),
    "over.tar": tar([file("home/app/x", "x"), folder("tmp", 0o700), file("bin", "no link now")]),
    "no-tar.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xc8\xe4\x02\x00\x7a\x7a\x6f\xed\x03\x00\x00\x00",
}

CASES = {
    "whole context": "FROM scratch\nCOPY . /\n",
    "context into folder": "FROM scratch\nWORKDIR /app\nCOPY . .\n",
    "file to file and to folder": """\
FROM scratch
COPY a.txt /x/y/z
COPY a.txt b.txt /many/
COPY a.txt /many
COPY ["space name", "/spaces/"]
COPY é.txt /
""",
    "directories": """\
FROM scratch
COPY dir /made
COPY dir /made
COPY dir/ /slash/
COPY dir/sub /made/other/deeper
COPY empty /e
COPY dir /made/.
""",
    "links as sources": """\
FROM scratch
COPY to-dir /d
COPY to-file /f
COPY to-file /g/
COPY climbs /c
COPY to-dir/sub/link /l
COPY ../../a.txt /clamped
COPY dir/../a.txt /cleaned
""",
    "wildcards": """\
FROM scratch
COPY *.txt /w/
COPY d*/o* /v/
COPY dir/[^o]* /u/
COPY nothing*here /n/
COPY [[]x].txt /t/
COPY ?.md /s
""",
    "modes and owners": """\
FROM scratch
COPY --chmod=750 dir /d
COPY --chmod=4711 a.txt /new/folder/f
COPY --chown=3:4 dir /e
COPY --chown=55 --chmod=0600 a.txt suid /f/
COPY --chown=5:6 suid /g
""",
    "heredocs": """\
FROM scratch
ARG who=world
ENV quoted='a"b'
COPY <<EOF <<-'RAW' /h/
hello $who ${quoted} \\$x "q"
EOF
\t\thello $who
\tRAW
COPY --chmod=755 --chown=1:2 <<EOF /h/script
#!/bin/sh
EOF
""",
    "base with links": """\
FROM BASE
COPY a.txt /bin/
COPY a.txt /bin/b
COPY a.txt /lib64/c
COPY a.txt /bin/sh
COPY b.txt /data/d
COPY b.txt /data
COPY c.md /abs
COPY a.txt relative
COPY dir ./
""",
    "owners by name": """\
FROM BASE
COPY --chown=app a.txt /n/a
COPY --chown=app:staff a.txt /n/b
COPY --chown=root a.txt /n/c
COPY --chown=7:staff dir /n/d
USER app
WORKDIR /work/dir
COPY a.txt .
WORKDIR /home/app
WORKDIR ../other
""",
    "existing modes stay": """\
FROM BASE
COPY dir /tmp
COPY dir /home/app
COPY a.txt /usr/bin/tool
COPY a.txt /home/app/
""",
    "stages": """\
ARG V=1
FROM BASE AS first
COPY --chown=3:4 dir /from
ENV IN_FIRST=$V
FROM scratch AS second
COPY --from=first /from /a
COPY --from=first /usr/bin /bin
COPY --from=first /bin/tool /tool
COPY --from=first /home /home
FROM first AS third
ARG V
COPY --from=second /a/one /usr/bin/one-$V
COPY --from=0 /etc/passwd /p
FROM scratch AS never
COPY missing /
FROM third
LABEL v=$IN_FIRST
""",
    "image as source": """\
FROM scratch
COPY --from=BASE /usr /usr
COPY --from=BASE /bin /bin
COPY --from=BASE /hidden /hidden
COPY --from=BASE /home/*/ /h
""",
    "archives": """\
FROM BASE
ADD plain.tar /p/
ADD --chown=11:12 plain.tar /q
ADD t.tar.gz t.tar.bz2 t.tar.xz /all/
ADD a.txt /bin/added
ADD no-tar.gz /n/
COPY t.tar.gz /kept/
""",
    "archive over existing": "FROM BASE\nADD over.tar /\n",
    "excludes": """\
FROM scratch
COPY --exclude=*.md --exclude=dir/sub . /x
COPY --exclude=two --exclude=sub dir /y
COPY --exclude=sub --exclude=!sub/three dir /z
""",
    "settings": """\
FROM BASE
ARG A=1 B
ARG C="two words"
ENV X=$A Y="$C" Z='$A' PATH=/new:$PATH
ENV OLD the whole $A rest
LABEL l=$X "quoted key"="v $Y" base=2
EXPOSE 80 90-92/udp $A
VOLUME /v1 ["/json"]
VOLUME ["/v2", "/v 3"]
USER app:staff
WORKDIR rel
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://x
SHELL ["/bin/bash", "-c"]
CMD run it
ENTRYPOINT ["/e", "$A"]
ONBUILD COPY a b
""",
    "entrypoint resets the base's cmd": 'FROM BASE\nENTRYPOINT ["/e"]\n',
    "cmd survives entrypoint": 'FROM BASE\nCMD ["a"]\nENTRYPOINT b\n',
    "child entrypoint resets the parent's cmd": 'FROM BASE AS p\nCMD ["a"]\nFROM p\nENTRYPOINT ["b"]\n',
    "empty cmd": "FROM BASE\nCMD []\n",
    "healthcheck none": "FROM BASE\nHEALTHCHECK NONE\n",
    "backtick escape": "# escape=`\nFROM scratch\nCOPY a.txt `\n  /x\nENV P=c:\\dir Q=`$A\n",
    "onbuild of a parent stage": "FROM scratch AS p\nONBUILD COPY a.txt /t\nFROM p\nCOPY b.txt /u\n",
}  # fmt: skip

BUILDAH_CASES = (
    "context into folder",
    "file to file and to folder",
    "directories",
    "links as sources",
    "image as source",
    "owners by name",
)
"""What buildah 1.28 does alike; elsewhere it follows fewer links and applies --chmod and --chown to less."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The base image in a registry and in a layout."""

    reference: str
    lab: Lab


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("assemble")
    base = make_base(root / "base")
    with running_distribution(root) as host:
        reference = f"{host}/base:1"
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false",
             f"oci:{base.path}", f"docker://{reference}"],
            check=True,
            env=peer_environment(),
        )  # fmt: skip
        yield Site(reference=reference, lab=Lab(root, {reference: base}))


def buildx(request: BuildRequest, daemon: Dockerd, layout: Path) -> FlatImage:
    subprocess.run(
        ["docker", "buildx", "build", "--quiet", "--provenance=false", "--platform=linux/amd64",
         f"--output=type=oci,dest={layout},tar=false", f"--file={request.dockerfile}",
         str(request.context)],
        check=True,
        env=daemon.env,
        timeout=100,
    )  # fmt: skip
    return images_of(layout)["linux/amd64"]


def settings_of(image: FlatImage) -> dict[str, Any]:
    config = image.config
    found = {k: v for k, v in config["config"].items() if v and k != "ArgsEscaped"}
    return found | {k: config.get(k) for k in ("architecture", "os", "author")}


def different(ours: Mapping[str, Flat], theirs: Mapping[str, Flat]) -> dict[str, object]:
    names = sorted({*ours, *theirs})
    pairs = {name: (ours.get(name), theirs.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@pytest.mark.peer("skopeo", "docker-registry", "docker")
@pytest.mark.parametrize("case", CASES)
def test_result_is_that_of_buildkit(case: str, site: Site, dockerd: Dockerd) -> None:
    request = site.lab.request(CASES[case].replace("BASE", site.reference), FILES)
    theirs = buildx(request, dockerd, request.work.parent / "buildx")
    ours = site.lab.run(request).image
    assert different(ours.files, theirs.files) == {}
    assert settings_of(ours) == settings_of(theirs)


@pytest.mark.peer("skopeo", "docker-registry", "buildah")
@pytest.mark.parametrize("case", BUILDAH_CASES)
def test_files_are_those_of_buildah(case: str, site: Site) -> None:
    request = site.lab.request(CASES[case].replace("BASE", site.reference), FILES)
    root = request.work.parent
    storage = ["--storage-driver=vfs", f"--root={root}/storage", f"--runroot={root}/run"]
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    subprocess.run(
        ["buildah", *storage, "bud", "--quiet", "--tls-verify=false", "--layers=false", "--tag=x",
         f"--file={request.dockerfile}", str(request.context)],
        check=True, env=env, capture_output=True, timeout=100,
    )  # fmt: skip
    subprocess.run(
        ["buildah", *storage, "push", "--quiet", "x", f"oci:{root}/buildah:x"],
        check=True, env=env, capture_output=True, timeout=100,
    )  # fmt: skip
    theirs = images_of(root / "buildah")["linux/amd64"]
    ours = site.lab.run(request).image
    assert different(without_special_bits(ours), without_special_bits(theirs)) == {}


def without_special_bits(image: FlatImage) -> dict[str, Flat]:
    """buildah drops setuid and setgid of files of the context."""
    return {n: replace(f, mode=f.mode & 0o777) for n, f in image.files.items()}
