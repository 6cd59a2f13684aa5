"""How people name places."""

from pathlib import Path

import pytest

from ci_registry.errors import UsageError
from ci_registry.oci.digest import digest_of
from ci_registry.registry.place import Place, PlaceKind, parse_place

DIGEST = digest_of(b"x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("image", "with:colon"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind", "path", "target"),
    [
        ("oci:new", PlaceKind.LAYOUT, "new", ("", None)),
        ("oci:new:v1", PlaceKind.LAYOUT, "new", ("v1", None)),
        (f"oci:new@{DIGEST}", PlaceKind.LAYOUT, "new", ("", DIGEST)),
        (f"oci:new:v1@{DIGEST}", PlaceKind.LAYOUT, "new", ("v1", DIGEST)),
        ("oci:with:colon", PlaceKind.LAYOUT, "with:colon", ("", None)),
        ("oci:with:colon:v1", PlaceKind.LAYOUT, "with:colon", ("v1", None)),
        ("oci:image:team/app:v1", PlaceKind.LAYOUT, "image", ("team/app:v1", None)),
        ("oci:a:b/c", PlaceKind.LAYOUT, "a:b/c", ("", None)),
        ("oci-archive:x.tar", PlaceKind.OCI_ARCHIVE, "x.tar", ("", None)),
        ("oci-archive:x.tar:1.0", PlaceKind.OCI_ARCHIVE, "x.tar", ("1.0", None)),
        ("docker-archive:x.tar:1.0", PlaceKind.DOCKER_ARCHIVE, "x.tar", ("1.0", None)),
        ("image", PlaceKind.LAYOUT, "image", ("", None)),
        ("./image", PlaceKind.LAYOUT, "image", ("", None)),
        ("with:colon", PlaceKind.LAYOUT, "with:colon", ("", None)),
    ],
)
def test_files_and_folders(
    folder: Path, text: str, kind: PlaceKind, path: str, target: tuple[str, str | None]
) -> None:
    place = parse_place(text, folder=folder)
    assert (place.kind, place.path) == (kind, folder / path)
    assert (place.tag, place.digest) == target


@pytest.mark.parametrize("prefix", ["", "docker://"])
def test_references(folder: Path, prefix: str) -> None:
    place = parse_place(f"{prefix}ghcr.io/acme/api:v1@{DIGEST}", folder=folder)
    assert place.kind is PlaceKind.REGISTRY
    assert place.reference is not None
    assert (place.reference.name, place.tag, place.digest) == ("ghcr.io/acme/api", "v1", DIGEST)
    assert place.target == DIGEST
    assert str(place) == f"ghcr.io/acme/api:v1@{DIGEST}"


def test_an_absolute_path_of_a_layout_needs_no_prefix(folder: Path) -> None:
    assert parse_place(str(folder / "image"), folder=Path("/")).path == folder / "image"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ghcr.io/acme/api:" + "a" * 129, "is not a tag"),
        ("ghcr.io/acme/..", "is not a repository"),
        ("ghcr.io/../etc/passwd", "is not a repository"),
        ("ghcr.io/acme/api@sha256:12", "is not a sha256 digest"),
        ("./empty", "no OCI layout folder"),
        ("./absent", "no OCI layout folder"),
        ("oci:", "names no file or folder"),
        ("oci::v1", "names no file or folder"),
        ("", "is not a repository"),
        ("a" * 5000, "longer than 255 characters"),
        ("docker:ghcr.io/a/b", "not a"),
        ("empty", "empty is here, but is no OCI layout folder"),
        ("dir:image", "dir: is no kind of place"),
        ("docker-daemon:app:v1", "docker-daemon: is no kind of place"),
        ("https://ghcr.io/acme/api", "https:// is no kind of place"),
        ("dokcer://ghcr.io/acme/api", "dokcer:// is no kind of place"),
    ],
)
def test_what_names_nothing_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_place(text, folder=folder)


def test_a_name_of_docker_hub_that_is_in_the_folder_too_can_be_written_out(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_place("empty", folder=folder)
    assert "docker://empty" in caught.value.hint
    assert parse_place("docker://empty", folder=folder).name == "docker.io/library/empty"
    assert parse_place("other", folder=folder).name == "docker.io/library/other"


def test_a_place_is_shown_as_it_is_named() -> None:
    place = Place(kind=PlaceKind.OCI_ARCHIVE, path=Path("x.tar"), tag="v1")
    assert str(place) == "oci-archive:x.tar:v1"
