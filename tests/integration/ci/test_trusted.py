"""The deciding files come from the trusted ref, read with the real git."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ci_registry.cancel import Cancel
from ci_registry.ci.context import CiContext, EventKind, Provider
from ci_registry.ci.git import Git, web_address
from ci_registry.ci.local import local_context
from ci_registry.ci.trusted import trusted_source
from ci_registry.errors import SetupError
from ci_registry.process import ProcessRunner

PUSH = CiContext(
    provider=Provider.GITHUB, event=EventKind.PUSH, branch="feature", default_branch="main"
)


def git(folder: Path, *argv: str) -> str:
    command = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com", *argv)
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository whose main says strict and whose feature branch says loose."""
    folder = tmp_path / "origin"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "policy.yml").write_text("strict\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    git(folder, "checkout", "-qb", "feature")
    (folder / "policy.yml").write_text("loose\n")
    git(folder, "commit", "-qam", "two")
    return folder


def clone(origin: Path, target: Path, *argv: str) -> Git:
    git(origin.parent, "clone", "-q", *argv, f"file://{origin}", str(target))
    runner = ProcessRunner(cancel=Cancel())
    import os

    return Git(run=runner, env=dict(os.environ), folder=target)


def test_push_to_a_branch_is_judged_by_the_default_branch(origin: Path, tmp_path: Path) -> None:
    checkout = clone(origin, tmp_path / "work", "--branch", "feature")

    source = trusted_source(replace(PUSH, commit=checkout.commit()), checkout)

    assert (source.label, source.read("policy.yml")) == ("main", b"strict\n")
    assert source.read("absent.yml") is None


def test_shallow_clone_fetches_the_trusted_ref_once(origin: Path, tmp_path: Path) -> None:
    checkout = clone(
        origin, tmp_path / "work", "--branch", "feature", "--depth=1", "--single-branch"
    )

    source = trusted_source(replace(PUSH, commit=checkout.commit()), checkout)

    assert source.read("policy.yml") == b"strict\n"


def test_protected_ref_decides_itself_from_the_commit_not_from_the_work_tree(
    origin: Path, tmp_path: Path
) -> None:
    checkout = clone(origin, tmp_path / "work", "--branch", "feature")
    (checkout.folder / "policy.yml").write_text("edited by an earlier step\n")

    source = trusted_source(replace(PUSH, commit=checkout.commit(), is_protected=True), checkout)

    assert source.read("policy.yml") == b"loose\n"


def test_unreadable_trusted_ref_stops_a_push(origin: Path, tmp_path: Path) -> None:
    checkout = clone(
        origin, tmp_path / "work", "--branch", "feature", "--depth=1", "--single-branch"
    )
    context = replace(PUSH, commit=checkout.commit(), default_branch="gone")

    with pytest.raises(SetupError) as caught:
        trusted_source(context, checkout)

    assert "fetch-depth: 0" in caught.value.hint


def test_unreadable_trusted_ref_leaves_a_change_request_untrusted(
    origin: Path, tmp_path: Path
) -> None:
    checkout = clone(
        origin, tmp_path / "work", "--branch", "feature", "--depth=1", "--single-branch"
    )
    context = replace(
        PUSH, event=EventKind.CHANGE_REQUEST, base_branch="gone", commit=checkout.commit()
    )

    source = trusted_source(context, checkout)

    assert (source.label, source.read("policy.yml")) == ("untrusted", b"loose\n")
    assert "nothing is pushed" in source.note


def test_named_ref_wins(origin: Path, tmp_path: Path) -> None:
    checkout = clone(origin, tmp_path / "work", "--branch", "feature")

    source = trusted_source(replace(PUSH, commit=checkout.commit()), checkout, policy_ref="feature")

    assert source.read("policy.yml") == b"loose\n"


def test_laptop_uses_the_checkout_and_knows_its_facts(origin: Path, tmp_path: Path) -> None:
    checkout = clone(origin, tmp_path / "work")
    (checkout.folder / "policy.yml").write_text("edited\n")

    context = local_context(checkout)
    source = trusted_source(context, checkout)

    assert context.is_dirty
    assert (context.default_branch, context.commit) == ("feature", checkout.commit())
    assert (source.label, source.read("policy.yml")) == ("checkout", b"edited\n")


def test_outside_git_nothing_is_known(tmp_path: Path) -> None:
    context = local_context(Git(run=ProcessRunner(cancel=Cancel()), env={}, folder=tmp_path))

    assert (context.commit, context.branch) == ("", "")
    assert context.notes


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://user:token@gitlab.example/acme/api.git", "https://gitlab.example/acme/api"),
        ("git@github.com:acme/api.git", "https://github.com/acme/api"),
        ("ssh://git@host.example:2222/acme/api", "https://host.example/acme/api"),
        ("/srv/git/api", ""),
    ],
)
def test_web_address_never_holds_credentials(remote: str, expected: str) -> None:
    assert web_address(remote) == expected


def test_a_repository_inside_the_tree_does_not_decide(origin: Path, tmp_path: Path) -> None:
    """A change can commit the files of a bare repository; git would take them for the real one."""
    inner = origin / "services" / "api"
    shutil.copytree(origin / ".git", inner)
    git(inner, "--git-dir", ".", "config", "core.bare", "false")
    git(inner, "--git-dir", ".", "config", "core.worktree", ".")
    git(inner, "--git-dir", ".", "update-ref", "refs/remotes/origin/main", "feature")
    git(origin, "add", "-f", "services")
    git(origin, "commit", "-qm", "three")
    checkout = clone(origin, tmp_path / "work", "--branch", "feature")
    inside = replace(checkout, folder=checkout.folder / "services" / "api")
    assert git(inside.folder, "rev-parse", "--absolute-git-dir") == str(inside.folder)
    git(checkout.folder, "fetch", "-q", "origin", "main")

    source = trusted_source(replace(PUSH, commit=checkout.commit()), inside)

    assert source.commit == checkout.commit("refs/remotes/origin/main")
    assert (inside.prefix, source.read("policy.yml")) == ("services/api/", None)
    assert source.read("../../policy.yml") == b"strict\n"
