"""Fake programs that are first on PATH: they write down how they were started and give a short answer."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = (
    "trivy",
    "docker",
    "docker-buildx",
    "buildah",
    "git",
    "docker-credential-canary",
)
_PROGRAM = '''\
#!{python} -I
import base64, json, os, shutil, stat, sys
from pathlib import Path

HERE = Path({folder!r})
NAME, ARGUMENTS = Path(sys.argv[0]).name, sys.argv[1:]


def tree(folder):
    """Return path -> [mode, text] of the files and folders below."""
    if not folder or not os.path.isdir(folder):
        return {{}}
    found = {{".": [oct(stat.S_IMODE(os.stat(folder).st_mode)), ""]}}
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = Path(parent, name)
            text = path.read_text(errors="replace") if path.is_file() else ""
            mode = oct(stat.S_IMODE(path.lstat().st_mode))
            found[str(path.relative_to(folder))] = [mode, text[:10000]]
    return found


standard_input = sys.stdin.read() if NAME.startswith("docker-credential") else ""
record = {{
    "program": NAME, "argv": ARGUMENTS, "env": dict(os.environ), "cwd": os.getcwd(),
    "stdin": standard_input,
    "home": tree(os.environ.get("HOME")) if NAME in ("trivy", "buildah") else {{}},
    "here": sorted(os.listdir(".")) if NAME == "trivy" else [],
    "docker_config": tree(os.environ.get("DOCKER_CONFIG")),
    "auth_file": Path(os.environ["REGISTRY_AUTH_FILE"]).read_text()
    if os.environ.get("REGISTRY_AUTH_FILE") else "",
}}
with open(HERE / "seen.jsonl", "a") as file:
    file.write(json.dumps(record) + "\\n")


def option(name):
    return ARGUMENTS[ARGUMENTS.index(name) + 1]


def show(text):
    """Print as BuildKit does what an instruction says."""
    data = base64.b64encode((text + "\\n").encode()).decode()
    vertex = {{"digest": "sha256:1", "name": "[1/1] RUN " + text}}
    for line in ({{"vertexes": [vertex]}}, {{"logs": [{{"vertex": "sha256:1", "data": data}}]}}):
        print(json.dumps(line), file=sys.stderr)


def docker(arguments):
    if arguments[:1] == ["version"]:
        print("github.com/docker/buildx v0.29.1 abc")
    elif arguments[:1] == ["inspect"]:
        print("Name: canary\\nDriver: docker-container\\nPlatforms: linux/amd64")
    elif arguments[:1] == ["build"]:
        output = dict(part.partition("=")[::2] for part in option("--output").split(","))
        shutil.copytree(HERE / "layout", output["dest"], dirs_exist_ok=True)
        Path(option("--metadata-file")).write_text("{{}}")
        show("\\x1b[2J\\x9b31m::error::forged \\u202e\\n::error::forged")
        for name, value in os.environ.items():
            if name.startswith("CIREG_SECRET_"):  # a careless RUN: it prints its secret
                show(value)
    else:
        print("{{}}")


def buildah():
    rest = ARGUMENTS[6:] if "--root" in ARGUMENTS else ARGUMENTS
    if rest[:1] == ["--version"]:
        print("buildah version 1.40.0 (image-spec 1.1.0, runtime-spec 1.2.0)")
    elif rest[:1] == ["from"]:
        print("working-container")
    elif rest[:1] == ["run"]:
        sys.exit("executable file /absent not found in $PATH: no such file or directory")
    elif rest[:1] == ["bud"]:
        Path(option("--iidfile")).write_text("sha256:" + "0" * 64)
        print("\\x1b[2J\\x9b31m::error::forged \\u202e\\n::error::forged", file=sys.stderr)
        for value in ARGUMENTS:  # a careless RUN: it prints its secret
            if value.startswith("id="):
                print(Path(value.partition(",src=")[2]).read_text(), file=sys.stderr)
    elif rest[:1] == ["push"]:
        shutil.copytree(HERE / "layout", rest[-1].partition(":")[2])


if NAME == "trivy" and ARGUMENTS == ["--version"]:
    print("Version: 0.76.0")
elif NAME == "trivy":
    report = {{"SchemaVersion": 2, "Trivy": {{"Version": "0.76.0"}}, "Metadata": {{}}, "Results": []}}
    Path(option("--output")).write_text(json.dumps(report))
elif NAME == "docker":
    docker(ARGUMENTS[1:] if ARGUMENTS[:1] == ["buildx"] else ["other"])
elif NAME == "docker-buildx":
    docker(ARGUMENTS)
elif NAME == "buildah":
    buildah()
elif NAME == "git":
    os.execv({git!r}, [{git!r}, *ARGUMENTS])
else:
    print(json.dumps({{"Username": "puller", "Secret": {pull_password!r}}}))
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The folder with the fake programs and what they wrote down."""

    folder: Path

    def calls(self, program: str = "") -> list[dict[str, Any]]:
        """Return how a program (or any) was started: argv, env, cwd, home, docker_config, stdin."""
        file = self.folder / "seen.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [call for call in found if not program or call["program"] == program]

    def path(self, rest: str) -> str:
        """Return a PATH with these programs first."""
        return f"{self.folder}:{rest}"


def install_programs(
    folder: Path, *names: str, layout: Path | None, pull_password: str
) -> Programs:
    """Install fakes.

    Args:
        folder: gets the programs, and `seen.jsonl` with one line for each start.
        names: some of `NAMES`.
        layout: the OCI layout that the fake builders "build".
        pull_password: what the fake credential helper answers.
    """
    folder.mkdir(parents=True)
    text = _PROGRAM.format(
        python=sys.executable,
        folder=str(folder),
        git=shutil.which("git"),
        pull_password=pull_password,
    )
    for name in names:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    if layout is not None:
        shutil.copytree(layout, folder / "layout")
    return Programs(folder=folder)
