"""The compiled database: the same answers as the folder, the same bytes each time, damage always noticed."""

import json
import shutil
import sqlite3
import zipfile
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.advisories import compiled_file
from ci_registry.advisories.build import BuildRequest, build_database
from ci_registry.advisories.compile import pack_record
from ci_registry.advisories.compiled import CompiledDatabase, is_compiled, open_compiled
from ci_registry.advisories.compiled_file import DATABASE_FILE, checksum_of
from ci_registry.advisories.database import open_osv_folder
from ci_registry.advisories.ecosystems import Query
from ci_registry.advisories.source import AdvisorySource
from ci_registry.cache import DiskCache
from ci_registry.errors import CiRegistryError, IntegrityError, StorageError, UsageError
from tests.support.advisories import DATA, record, write_osv_folder
from tests.support.databases import BUILT, build, write_epss, write_kev

DEMO = Query(ecosystem="PyPI", name="demo-tool")


def request(output: Path, *sources: Path, **more: object) -> BuildRequest:
    made = BuildRequest(sources=sources, output=output, now=BUILT + timedelta(hours=1))
    return replace(made, **more)  # type: ignore[arg-type]


def edit(file: Path, *statements: str) -> None:
    """Change a database and give it the checksum that fits."""
    connection = sqlite3.connect(file)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    digest, _, at = checksum_of(file)
    data = bytearray(file.read_bytes())
    data[at : at + len(digest)] = digest.encode()
    file.write_bytes(data)


# --- building and answering


def test_records_are_found_by_ecosystem_and_normal_name(tmp_path: Path) -> None:
    build(
        tmp_path / "db",
        record("PYSEC-1", name="Demo_Tool"),
        record("GHSA-1", "npm", "demo-tool"),
        record("DEB-1", "Debian", "a"),
        record("DEB-2", "Debian:12", "a"),
    )
    database = open_compiled(tmp_path / "db")
    debian = Query(ecosystem="Debian:12", name="a")
    found = database.lookup((DEMO, debian, Query(ecosystem="PyPI", name="other")))
    assert [a.id for a in found[DEMO.key]] == ["PYSEC-1"]
    assert sorted(a.id for a in found[debian.key]) == ["DEB-1", "DEB-2"]
    assert found["PyPI", "other"] == ()


def test_facts_are_those_of_the_folder(tmp_path: Path) -> None:
    build(
        tmp_path / "db",
        record("PYSEC-1"),
        record("DEB-1", "Debian:12", "a"),
        record("GO-1", "Go", "a"),
        ecosystems=("PyPI", "Debian"),
    )
    facts = open_compiled(tmp_path / "db", location="here", notes=("old",)).facts()
    folder = open_osv_folder(tmp_path / "db-osv").facts()
    assert facts.database.ecosystems == folder.database.ecosystems == ("Debian:12", "PyPI")
    assert facts.database.built_at == folder.database.built_at == BUILT
    assert (facts.database.location, facts.notes, facts.present) == ("here", ("old",), True)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    records = [record(f"PYSEC-{n}", name=f"p{n}") for n in range(30)]
    kev = write_kev(tmp_path / "kev.json", "CVE-2026-1")
    first = build(tmp_path / "a", *records, kev=kev)
    second = build(tmp_path / "b", *reversed(records), kev=kev)
    assert (tmp_path / "a" / DATABASE_FILE).read_bytes() == (
        tmp_path / "b" / DATABASE_FILE
    ).read_bytes()
    assert first == second
    assert build(tmp_path / "c", *records).digest != first.digest


def test_nothing_but_the_database_is_left(tmp_path: Path) -> None:
    build(tmp_path / "db")
    assert [path.name for path in (tmp_path / "db").iterdir()] == [DATABASE_FILE]
    assert is_compiled(tmp_path / "db")
    assert is_compiled(tmp_path / "db" / DATABASE_FILE)
    assert not is_compiled(tmp_path / "db-osv")


def test_several_sources_are_as_old_as_the_oldest(tmp_path: Path) -> None:
    one = write_osv_folder(tmp_path / "1", record("PYSEC-1"), ecosystems=["PyPI"])
    two = write_osv_folder(
        tmp_path / "2", record("GO-1", "Go"), built="2026-05-30T00:00:00Z", ecosystems=["Go"]
    )
    info = build_database(request(tmp_path / "db", one, two)).info
    assert info.built_at == datetime(2026, 5, 30, tzinfo=UTC)
    assert info.listed == ("Go", "PyPI")
    assert [(e.name, e.records, e.packages) for e in info.ecosystems] == [
        ("Go", 1, 1),
        ("PyPI", 1, 1),
    ]


def test_archive_needs_a_time_and_a_promise(tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("PYSEC-1.json", json.dumps(record("PYSEC-1")))
    with pytest.raises(
        UsageError, match=r"nobody says when the data in .*all\.zip was made"
    ) as one:
        build_database(request(tmp_path / "db", archive))
    assert "--built-at" in one.value.hint
    with pytest.raises(UsageError, match="which ecosystems are complete"):
        build_database(request(tmp_path / "db", archive, built_at=BUILT))
    build_database(request(tmp_path / "db", archive, built_at=BUILT, ecosystems=("PyPI",)))
    assert open_compiled(tmp_path / "db").facts().database.ecosystems == ("PyPI",)


@pytest.mark.parametrize(
    ("records", "changes", "message"),
    [
        ([record("PYSEC-1")], {"ecosystems": ("npm",)}, "npm is promised to be complete"),
        ([record("PYSEC-1")], {"built_at": BUILT + timedelta(days=1)}, "in the future"),
        ([], {}, "holds no OSV record"),
        ([{"id": "X", "affected": []}], {}, "modified"),
        ([record("X", events=[{"fixed": "1"}])], {}, "X.json.*without an introduced event"),
    ],
)
def test_what_cannot_be_right_is_refused_and_leaves_nothing(
    tmp_path: Path, records: list[dict[str, object]], changes: dict[str, object], message: str
) -> None:
    source = write_osv_folder(tmp_path / "osv", *records, ecosystems=["PyPI"])
    with pytest.raises(CiRegistryError, match=message):
        build_database(request(tmp_path / "db", source, **changes))
    assert not (tmp_path / "db").exists() or list((tmp_path / "db").iterdir()) == []


def test_of_two_records_with_one_id_the_later_counts(tmp_path: Path) -> None:
    later = {**record("PYSEC-1", name="new"), "modified": "2026-03-01T00:00:00Z"}
    old = write_osv_folder(tmp_path / "1", record("PYSEC-1", name="old"), ecosystems=["PyPI"])
    new = write_osv_folder(tmp_path / "2", later, ecosystems=["PyPI"])
    queries = tuple(Query(ecosystem="PyPI", name=name) for name in ("old", "new"))
    for sources in ((old, new), (new, old)):
        build_database(request(tmp_path / "db", *sources))
        found = open_compiled(tmp_path / "db").lookup(queries)
        assert [len(found[query.key]) for query in queries] == [0, 1]
    other = write_osv_folder(tmp_path / "3", record("PYSEC-1", name="x"), ecosystems=["PyPI"])
    with pytest.raises(IntegrityError, match="both PYSEC-1, modified at the same time, and differ"):
        build_database(request(tmp_path / "db", old, other))


def test_failed_build_leaves_the_last_database(tmp_path: Path) -> None:
    before = build(tmp_path / "db")
    with pytest.raises(IntegrityError):
        build(tmp_path / "db", record("X", events=[{"fixed": "1"}]))
    assert open_compiled(tmp_path / "db").info == before


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data beside the project")
def test_real_records_answer_as_the_folder_does(tmp_path: Path) -> None:
    listed = ("PyPI", "Go", "AlmaLinux:9")
    made = request(tmp_path / "db", DATA / "osv", built_at=BUILT, ecosystems=listed)
    build_database(made)
    database, folder = open_compiled(tmp_path / "db"), open_osv_folder(DATA / "osv")
    names = sqlite3.connect(tmp_path / "db" / DATABASE_FILE).execute(
        "SELECT ecosystem, name FROM packages"
    )
    queries = tuple(Query(ecosystem=ecosystem, name=name) for ecosystem, name in names)
    assert len(queries) > 300
    mine, theirs = database.lookup(queries), folder.lookup(queries)
    for key, records in theirs.items():
        found = {a.id: a for a in mine[key]}
        assert found == {a.id: replace(a, details=found[a.id].details) for a in records}
        assert all(found[a.id].title.strip() == a.title.strip() for a in records)


def test_stored_record_keeps_the_first_line_of_the_details_for_its_title() -> None:
    def stored(**more: object) -> dict[str, object]:
        found: dict[str, object] = json.loads(zlib.decompress(pack_record({"id": "X", **more})))
        return found

    assert stored(summary="s", details="one\ntwo", references=[1]) == {"id": "X", "summary": "s"}
    assert stored(details="\none\ntwo") == {"id": "X", "details": "one"}


# --- known exploited ones and scores


def test_lists_have_their_own_age_and_answer_by_id(tmp_path: Path) -> None:
    day = BUILT - timedelta(days=3)
    kev = write_kev(tmp_path / "kev.json", "CVE-2026-1", released=day)
    epss = write_epss(tmp_path / "epss.csv", {"CVE-2026-1": 0.5, "CVE-2026-2": 0.25})
    info = build(tmp_path / "db", kev=kev, epss=epss)
    database = open_compiled(tmp_path / "db")
    assert (info.kev_at, info.kev_count, info.epss_at, info.epss_count) == (day, 1, BUILT, 2)
    assert [(item.name, item.built_at) for item in database.lists()] == [
        ("kev", day),
        ("epss", BUILT),
    ]
    found = database.exploitation(("CVE-2026-1", "CVE-2026-2", "CVE-2026-3"))
    assert {name: (e.known_exploited, e.epss) for name, e in found.items()} == {
        "CVE-2026-1": (True, 0.5),
        "CVE-2026-2": (False, 0.25),
    }


def test_database_without_lists_has_none(tmp_path: Path) -> None:
    build(tmp_path / "db")
    database = open_compiled(tmp_path / "db")
    assert database.lists() == ()
    assert database.exploitation(("CVE-2026-1",)) == {}


# --- damage


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("pristine") / "db"
    build(folder, *(record(f"PYSEC-{n}", name=f"p{n}") for n in range(20)))
    return (folder / DATABASE_FILE).read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_noticed(
    pristine: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(pristine) - 1))
    changed = bytearray(pristine)
    changed[at] ^= data.draw(st.integers(1, 255))
    file = tmp_path_factory.mktemp("changed") / DATABASE_FILE
    file.write_bytes(changed)
    with pytest.raises(IntegrityError):
        open_compiled(file)


@pytest.mark.parametrize("keep", [0, 1, 4096, 8192, -1, -4096])
def test_cut_file_is_noticed(pristine: bytes, tmp_path: Path, keep: int) -> None:
    file = tmp_path / DATABASE_FILE
    file.write_bytes(pristine[:keep])
    with pytest.raises(IntegrityError):
        open_compiled(file)


def test_longer_file_is_noticed(pristine: bytes, tmp_path: Path) -> None:
    file = tmp_path / DATABASE_FILE
    file.write_bytes(pristine + bytes(4096))
    with pytest.raises(IntegrityError, match="damaged"):
        open_compiled(file)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 2", "has schema 2, this version reads 1"),
        ("PRAGMA application_id = 1", "is no compiled advisory database"),
        ("CREATE VIEW more AS SELECT 1", "other tables"),
        ("CREATE TRIGGER t AFTER INSERT ON epss BEGIN SELECT 1; END", "other tables"),
        ("DROP TABLE epss", "other tables"),
        ("DELETE FROM meta WHERE key = 'info'", "not valid JSON"),
        ("UPDATE meta SET value = 'x' WHERE key = 'names'", "under other names"),
        ("UPDATE meta SET value = replace(value, '\"schema\": 1', '\"schema\": 3')", "schema 3"),
        ("UPDATE meta SET value = replace(value, '2026-06-01', 'long ago')", "no time"),
        ("UPDATE ecosystems SET records = 'many'", "size"),
    ],
)
def test_what_is_whole_but_not_ours_is_refused(
    pristine: bytes, tmp_path: Path, statement: str, message: str
) -> None:
    file = tmp_path / DATABASE_FILE
    file.write_bytes(pristine)
    edit(file, statement)
    with pytest.raises(IntegrityError, match=message):
        open_compiled(file)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE packages SET records = '1,x'",
        "UPDATE packages SET records = '99'",
        "UPDATE packages SET records = NULL",
        "UPDATE records SET body = x'00'",
        "UPDATE records SET body = substr(body, 1, 20)",
        "UPDATE records SET body = NULL",
    ],
)
def test_damage_inside_is_an_error_and_never_fewer_records(
    pristine: bytes, tmp_path: Path, statement: str
) -> None:
    file = tmp_path / DATABASE_FILE
    file.write_bytes(pristine)
    edit(file, statement)
    database = open_compiled(file)
    with pytest.raises(IntegrityError):
        database.lookup((Query(ecosystem="PyPI", name="p1"),))


def test_record_that_unpacks_to_too_much_is_refused(
    pristine: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci_registry.advisories.compiled.MAX_RECORD_BYTES", 10)
    (tmp_path / DATABASE_FILE).write_bytes(pristine)
    with pytest.raises(IntegrityError, match="too large"):
        open_compiled(tmp_path).lookup((Query(ecosystem="PyPI", name="p1"),))


def test_oversized_file_is_refused_unread(
    pristine: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_file, "MAX_DATABASE_BYTES", 9000)
    (tmp_path / DATABASE_FILE).write_bytes(pristine)
    with pytest.raises(IntegrityError, match="are no advisory database"):
        open_compiled(tmp_path)


def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        open_compiled(tmp_path / "gone.sqlite")


def test_checksum_is_remembered_for_this_very_file_only(pristine: bytes, tmp_path: Path) -> None:
    cache = DiskCache(folder=tmp_path / "cache", max_bytes=1 << 20)
    file = tmp_path / DATABASE_FILE
    file.write_bytes(pristine)
    assert open_compiled(file, cache=cache).info == open_compiled(file, cache=cache).info
    shutil.copy(file, tmp_path / "other.sqlite")
    changed = bytearray(pristine)
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(IntegrityError, match="damaged"):
        open_compiled(file, cache=cache)


def test_database_is_an_advisory_source(tmp_path: Path) -> None:
    build(tmp_path / "db")
    source: AdvisorySource = open_compiled(tmp_path / "db")
    assert isinstance(source, CompiledDatabase)
    assert source.facts().present
