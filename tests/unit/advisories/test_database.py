"""The folder of OSV records."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.ecosystems import Query
from ci_registry.errors import IntegrityError, StorageError
from tests.support.advisories import record, write_osv_folder

DEMO = Query(ecosystem="PyPI", name="demo-tool")


def test_records_are_found_by_ecosystem_and_normal_name(tmp_path: Path) -> None:
    folder = write_osv_folder(
        tmp_path, record("PYSEC-1", name="Demo_Tool"), record("GHSA-1", "npm", "demo-tool")
    )
    found = open_osv_folder(folder).lookup((DEMO,))
    assert [a.id for a in found[DEMO.key]] == ["PYSEC-1"]


def test_facts_name_what_is_listed_and_there(tmp_path: Path) -> None:
    folder = write_osv_folder(
        tmp_path,
        record("PYSEC-1"),
        record("DEBIAN-1", "Debian:12", "a"),
        record("GO-1", "Go", "a"),
        ecosystems=["PyPI", "Debian", "npm"],
    )
    facts = open_osv_folder(folder, location="db").facts()
    assert facts.database.ecosystems == ("Debian:12", "PyPI")
    assert facts.database.built_at == datetime(2026, 6, 1, tzinfo=UTC)
    assert facts.database.location == "db"
    assert facts.database.digest.startswith("sha256:")
    assert facts.notes == (
        "database.json lists npm, but there is no record of it",
        "records of Go are there, but database.json does not list them",
    )


def test_records_that_are_not_listed_are_still_used(tmp_path: Path) -> None:
    folder = write_osv_folder(tmp_path, record("GO-1", "Go", "a"), ecosystems=["PyPI"])
    query = Query(ecosystem="Go", name="a")
    assert open_osv_folder(folder).lookup((query,))[query.key]


@pytest.mark.parametrize("made", [False, True])
def test_missing_or_empty_folder_is_absent(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "db"
    if made:
        write_osv_folder(folder)
    facts = open_osv_folder(folder).facts()
    assert not facts.present
    assert facts.database.ecosystems == ()


def test_without_database_json_the_age_is_unknown_and_nothing_is_complete(tmp_path: Path) -> None:
    write_osv_folder(tmp_path, record("PYSEC-1"))
    (tmp_path / "database.json").unlink()
    facts = open_osv_folder(tmp_path).facts()
    assert facts.present
    assert facts.database.built_at is None
    assert facts.database.ecosystems == ()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"built": "2026-06-01T00:00:00Z"}',
        '{"ecosystems": ["PyPI"], "built": "yesterday"}',
        '{"ecosystems": ["PyPI"], "built": "2026-06-01T00:00:00"}',
        '{"ecosystems": "PyPI"}',
    ],
)
def test_malformed_database_json_is_an_error(tmp_path: Path, text: str) -> None:
    write_osv_folder(tmp_path, record("PYSEC-1"))
    (tmp_path / "database.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"database\.json"):
        open_osv_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": "X", "affected": [{"package": 1}]}'])
def test_malformed_record_of_any_package_is_an_error_that_names_it(
    tmp_path: Path, text: str
) -> None:
    write_osv_folder(tmp_path, record("PYSEC-1"))
    (tmp_path / "records" / "bad.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"bad\.json"):
        open_osv_folder(tmp_path)


def test_archives_are_read(tmp_path: Path) -> None:
    write_osv_folder(tmp_path)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(record("PYSEC-1", name="demo-tool")))
    database = open_osv_folder(tmp_path)
    assert [a.id for a in database.lookup((DEMO,))[DEMO.key]] == ["PYSEC-1"]


def test_cut_archive_is_an_error(tmp_path: Path) -> None:
    write_osv_folder(tmp_path)
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(record("PYSEC-1")))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match=r"all\.zip"):
        open_osv_folder(tmp_path)


def test_damaged_member_is_an_error(tmp_path: Path) -> None:
    write_osv_folder(tmp_path)
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(record("PYSEC-1")))
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"PYSEC-1\.json"):
        open_osv_folder(tmp_path)


def test_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_osv_folder(tmp_path, record("PYSEC-1"))
    real = __import__("os").scandir

    def scandir(path: str) -> object:
        if str(path).endswith("records"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(StorageError, match="cannot list"):
        open_osv_folder(tmp_path)


def test_digest_changes_with_the_data(tmp_path: Path) -> None:
    write_osv_folder(tmp_path, record("PYSEC-1"))
    before = open_osv_folder(tmp_path).facts().database.digest
    assert open_osv_folder(tmp_path).facts().database.digest == before
    write_osv_folder(tmp_path, record("PYSEC-1", versions=["7"]))
    assert open_osv_folder(tmp_path).facts().database.digest != before
