"""A trivy database is written as trivy wants it and its age and contents are read back."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci_registry.advisories.bbolt import BoltFile
from ci_registry.advisories.trivy_db import (
    DATABASE_FILE,
    METADATA_FILE,
    TrivyAdvisory,
    TrivyStatus,
    TrivyVulnerability,
    read_trivy_db,
    source_of,
    write_trivy_db,
)
from ci_registry.errors import IncompleteError, IntegrityError
from ci_registry.findings import Severity

UPDATED = datetime(2026, 11, 1, 12, tzinfo=UTC)
RECORDS = (
    TrivyAdvisory(bucket="debian 12", package="zlib", id="CVE-1", status=TrivyStatus.AFFECTED),
    TrivyAdvisory(bucket="debian 12", package="openssl", id="CVE-2", fixed_version="3"),
    TrivyAdvisory(bucket="pip::X", package="Zope_Thing", id="CVE-3", vulnerable_versions=("<1",)),
)


def write(folder: Path, *records: TrivyAdvisory) -> None:
    details = [TrivyVulnerability(id="CVE-1", vendor_severity={"debian": Severity.HIGH})]
    write_trivy_db(folder, records or RECORDS, details, updated_at=UPDATED)


def test_buckets_packages_and_age_are_read_back(tmp_path: Path) -> None:
    write(tmp_path)
    database = read_trivy_db(tmp_path)
    assert database.updated_at == UPDATED
    assert database.next_update is not None
    assert database.next_update > UPDATED
    assert database.buckets == ("debian 12", "pip::X")
    assert database.packages_in("debian 12") == ("openssl", "zlib")
    assert database.packages_in("debian 13") == ()
    assert database.buckets_for("pip") == ("pip::X",)


def test_python_names_are_stored_as_trivy_asks_for_them(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_trivy_db(tmp_path).packages_in("pip::X") == ("zope-thing",)


def test_every_bucket_has_a_data_source_and_statuses_are_numbers(tmp_path: Path) -> None:
    write(tmp_path)
    with BoltFile(tmp_path / DATABASE_FILE) as file:
        sources = {key: json.loads(value or b"") for key, value in file.items(b"data-source")}
        advisory = dict(file.items(b"debian 12", b"zlib"))[b"CVE-1"]
        details = dict(file.items(b"vulnerability"))[b"CVE-1"]
    assert sources[b"debian 12"]["ID"] == "debian"
    assert sources[b"pip::X"] == {"ID": "osv", "Name": "X", "URL": "https://osv.dev"}
    assert json.loads(advisory or b"") == {"Status": 2}
    assert json.loads(details or b"") == {"Severity": "UNKNOWN", "VendorSeverity": {"debian": 3}}


def test_the_order_of_records_does_not_change_a_byte(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", *RECORDS[::-1])
    assert (tmp_path / "a" / DATABASE_FILE).read_bytes() == (
        tmp_path / "b" / DATABASE_FILE
    ).read_bytes()


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [("alma 9", "alma"), ("ubuntu 22.04", "ubuntu"), ("alpine 3.20", "alpine"), ("wolfi", "wolfi")],
)
def test_sources_are_named_in_trivys_words(bucket: str, expected: str) -> None:
    assert source_of(bucket).id == expected


def test_an_absent_database_is_incomplete_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no trivy database"):
        read_trivy_db(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"Version": 1, "UpdatedAt": "2026-11-01T00:00:00Z"},
        {"Version": 2},
        {"Version": 2, "UpdatedAt": "yesterday"},
        {"Version": 2, "UpdatedAt": "2026-11-01T00:00:00"},
    ],
    ids=["schema", "undated", "malformed", "no zone"],
)
def test_metadata_that_tells_no_age_is_refused(tmp_path: Path, metadata: object) -> None:
    write(tmp_path)
    (tmp_path / METADATA_FILE).write_text(json.dumps(metadata))
    with pytest.raises(IntegrityError, match=r"metadata\.json"):
        read_trivy_db(tmp_path)


def test_times_of_go_with_nanoseconds_are_read(tmp_path: Path) -> None:
    write(tmp_path)
    metadata = {"Version": 2, "UpdatedAt": "2026-11-01T06:13:40.123456789Z"}
    (tmp_path / METADATA_FILE).write_text(json.dumps(metadata))
    assert read_trivy_db(tmp_path).updated_at.date() == UPDATED.date()
