"""Files that would tell a scanner to keep quiet."""

from pathlib import Path

from ci_registry.scanners.ignored import ignored_files


def test_files_are_found_anywhere_but_in_git(tmp_path: Path) -> None:
    for name in (
        ".trivyignore",
        "a/.trivyignore.yaml",
        "a/b/trivy.yaml",
        ".grype.yaml",
        ".git/.trivyignore",
        "a/README",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert ignored_files(tmp_path) == (
        ".grype.yaml",
        ".trivyignore",
        "a/.trivyignore.yaml",
        "a/b/trivy.yaml",
    )


def test_project_without_any_has_none(tmp_path: Path) -> None:
    assert ignored_files(tmp_path) == ()
    assert ignored_files(tmp_path / "missing") == ()
