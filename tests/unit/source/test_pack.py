import tarfile
from pathlib import Path

import pytest

from ci_registry.builders.context import pack_context
from ci_registry.errors import SetupError
from ci_registry.source.pack import pack_entries
from ci_registry.source.walk import ContextEntry, EntryType


def test_tar_holds_what_the_ignore_file_leaves_with_modes_and_links(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM scratch\n")
    (context / ".dockerignore").write_text("secret*\n")
    (context / "secret.txt").write_text("no")
    (context / "sub" / "tool").write_text("run")
    (context / "sub" / "tool").chmod(0o755)
    (context / "link").symlink_to("sub/tool")

    pack_context(context, context / "Dockerfile", tmp_path / "context.tar")

    with tarfile.open(tmp_path / "context.tar") as tar:
        members = {member.name: member for member in tar}
    assert set(members) == {"Dockerfile", ".dockerignore", "sub", "sub/tool", "link"}
    assert members["sub/tool"].mode == 0o755
    assert members["link"].linkname == "sub/tool"
    assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, 0)}


def test_file_that_changed_meanwhile_is_named(tmp_path: Path) -> None:
    (tmp_path / "grown").write_text("longer now")
    entry = ContextEntry(path=b"grown", type=EntryType.FILE, mode=0o644, size_bytes=1)

    with pytest.raises(SetupError, match="grown"):
        pack_entries(tmp_path, (entry,), tmp_path / "out.tar")
