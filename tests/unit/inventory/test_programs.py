"""Programs that name their packages are read piece by piece; what can't be read is named."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.findings import Inventory
from ci_registry.inventory import programs
from ci_registry.inventory.golang import read_golang
from ci_registry.inventory.programs import Program, look_into, may_be_of_the_system
from ci_registry.inventory.reading import ImageFile, Reading
from ci_registry.inventory.rust import read_rust
from tests.support.images import Files, ImageSpec, make_layout
from tests.support.inspection import inspect_layout
from tests.support.programs import MODULES, elf, go_program, old_go_program, rust_program

CRATES = {
    "packages": [
        {"name": "app", "version": "0.1.0", "source": "local", "root": True},
        {"name": "serde", "version": "1.0.1", "source": "crates.io"},
        {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
    ]
}
WANTED = [
    "pkg:golang/stdlib@1.22.1",
    "pkg:golang/example.com/acme/app@%28devel%29",
    "pkg:golang/github.com/acme/lib@v1.2.3",
    "pkg:golang/golang.org/x/text@v0.3.7",
]


def pieces(data: bytes, size: int = 256 * 1024) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def looked(data: bytes, size: int = 256 * 1024) -> Program:
    found = look_into(pieces(data, size))
    assert found is not None
    return found


def read(program: Program) -> Reading:
    file = ImageFile(
        path="usr/bin/app",
        real="usr/bin/app",
        content=program.content,
        layer=0,
        diff_id="sha256:0",
        problem=program.problem,
    )
    return {"golang": read_golang, "rust": read_rust}[program.interest.reader]([file])


def purls(data: bytes, size: int = 256 * 1024) -> list[str]:
    return [package.purl for package in read(looked(data, size)).packages]


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


# --- Go


def test_a_go_program_names_its_modules_replaced_ones_and_its_standard_library() -> None:
    assert purls(go_program()) == WANTED


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_program_of_an_older_go_names_the_same(order: str) -> None:
    assert purls(old_go_program(order=order)) == ["pkg:golang/stdlib@1.17.2", *WANTED[1:]]


@pytest.mark.parametrize("size", [1, 7, 64, 127, 4096, 5016])
def test_marks_and_texts_may_lie_across_pieces(size: int) -> None:
    assert purls(go_program(), size) == WANTED
    assert len(purls(old_go_program(), size)) == 4


def test_a_program_without_the_note_of_the_linker_is_found_by_its_mark() -> None:
    assert purls(go_program(note=False)) == WANTED


def test_names_keep_their_case_and_purls_do_not() -> None:
    package = read(looked(go_program())).packages[2]
    assert (package.name, package.version) == ("github.com/Acme/Lib", "v1.2.3")
    assert package.path == "usr/bin/app"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("go1.22.1", "1.22.1"),
        ("go1.19", "1.19"),
        ("go1.22rc1", "1.22.0-rc.1"),
        ("go1.21.0 X:boringcrypto", "1.21.0"),
        ("go1.20.5-google", "1.20.5"),
        ("devel go1.23-abcdef Mon", "devel-go1.23-abcdef-Mon"),
    ],
)
def test_the_standard_library_has_the_version_of_go(version: str, wanted: str) -> None:
    assert read(looked(go_program(version=version))).packages[0].version == wanted


def test_a_module_replaced_by_a_folder_has_no_version_that_can_be_compared() -> None:
    modules = "mod\ta.example/x\tv1.0.0\ndep\tb.example/y\tv1.0.0\th1:x\n=>\t../y\t\t\n"
    names = [(p.name, p.version) for p in read(looked(go_program(modules))).packages]
    assert names[1:] == [("a.example/x", "v1.0.0"), ("b.example/y", "(devel)")]


@pytest.mark.parametrize(
    ("modules", "is_gap"),
    [
        ("", True),
        ("path\tgithub.com/x/y\nbuild\t-compiler=gc\n", True),
        ("path\tcmd/go\nbuild\t-compiler=gc\n", False),
        ("path\tcommand-line-arguments\nbuild\t-compiler=gc\n", False),
    ],
)
def test_a_program_built_without_modules_is_a_gap(modules: str, is_gap: bool) -> None:
    reading = read(looked(go_program(modules)))
    assert [p.name for p in reading.packages] == ["stdlib"]
    assert [u.reason for u in reading.unread] == [
        "built without information about its modules: only its standard library is known"
    ] * is_gap


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ("dep\ta b\tv1\n", "malformed module"),
        ("dep\ta\tv 1\n", "malformed version"),
        ("dep\t" + "x" * 600 + "\tv1\n", "malformed module"),
        ("dep\ta\tv1\n" * 20_001, "more than 20000"),
    ],
)
def test_damaged_module_information_is_named(modules: str, reason: str) -> None:
    reading = read(looked(go_program("path\tx/y\n" + modules)))
    assert reason in reading.unread[0].reason


def test_entries_without_a_path_are_left_out() -> None:
    names = [
        p.name for p in read(looked(go_program("dep\t\tDevel\ndep\ta.b/c\tv1.0.0\n"))).packages
    ]
    assert names == ["stdlib", "a.b/c"]


def test_a_go_program_whose_information_was_taken_out_is_a_gap() -> None:
    program = looked(elf(bytes(5000)))
    assert "without readable build information" in program.problem
    assert read(program).unread[0].kind == "golang"


@pytest.mark.parametrize("at", [32, 33])
def test_a_length_that_leads_out_of_the_program_is_a_gap(at: int) -> None:
    data = bytearray(go_program(behind=0))
    mark = data.index(b"\xff Go buildinf:")
    data[mark + at : mark + at + 5] = b"\xff\xff\xff\xff\x7f"
    assert "without readable" in looked(bytes(data)).problem


def test_addresses_that_lead_nowhere_are_a_gap() -> None:
    data = bytearray(old_go_program())
    mark = data.index(b"\xff Go buildinf:")
    data[mark + 16 : mark + 24] = struct.pack("<Q", 2**64 - 1)
    assert "without readable" in looked(bytes(data)).problem


def test_a_program_that_only_mentions_the_mark_is_no_go_program() -> None:
    assert look_into(pieces(elf(b"abc\xff Go buildinf:" + bytes(5000), note=False))) is None


def test_a_large_program_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "WINDOW_BYTES", 64 * 1024)
    data = go_program(in_front=600_000, behind=900_000)
    assert purls(data, 10_000) == WANTED
    assert dict(looked(data, 10_000).sums).keys() == {"md5", "sha1", "sha256"}
    old = old_go_program() + bytes(500_000)
    assert len(purls(old, 10_000)) == 4
    far = looked(rust_program(CRATES) + bytes(0), 1000)
    assert far.problem == ""


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/bin/a", True),
        ("bin/a", True),
        ("usr/local/bin/a", False),
        ("a", False),
        ("app/a", False),
    ],
)
def test_checksums_are_taken_where_os_packages_put_programs(path: str, wanted: bool) -> None:
    assert may_be_of_the_system(path) is wanted
    found = look_into(pieces(go_program()), with_sums=wanted)
    assert found is not None
    assert bool(found.sums) is wanted


# --- Rust


def test_an_audited_rust_program_names_the_crates_in_it() -> None:
    assert purls(rust_program(CRATES)) == ["pkg:cargo/app@0.1.0", "pkg:cargo/serde@1.0.1"]


@pytest.mark.parametrize("size", [1000, 4096, 100_000])
def test_the_section_may_lie_across_pieces(size: int) -> None:
    assert len(purls(rust_program(CRATES, in_front=9000), size)) == 2


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "cut short"),
        (b"no zlib at all", "damaged"),
        (zlib.compress(b"{}")[:-2], "cut short"),
        (zlib.compress(bytes(64 << 20)), "inflates to more"),
        (zlib.compress(b"[]"), "audit data"),
        (zlib.compress(b"{}"), "audit data"),
        (zlib.compress(b"\xff"), "audit data"),
        (zlib.compress(b'{"packages":[{"name":"a"}]}'), "audit data"),
        (zlib.compress(b'{"packages":[{"name":"a","version":""}]}'), "malformed crate"),
        (zlib.compress(b'{"packages":[' + b"7," * 30_000 + b"7]}"), "crates"),
    ],
)
def test_a_damaged_or_hostile_section_is_named(packed: bytes, reason: str) -> None:
    reading = read(looked(rust_program(None, packed=packed)))
    assert reading.packages == ()
    assert reason in reading.unread[0].reason


def test_a_section_that_has_gone_by_too_long_ago_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "WINDOW_BYTES", 64 * 1024)
    audit = random.Random(1).randbytes(200_000)
    program = looked(rust_program(None, packed=audit), 10_000)
    assert "too large, or too far" in program.problem


# --- in images


def test_a_program_is_found_under_any_name_and_in_every_layer(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"app/server.bin": go_program()}, {"x": rust_program(CRATES)})
    assert {(p.ecosystem, p.path) for p in found.packages} == {
        ("golang", "app/server.bin"),
        ("cargo", "x"),
    }
    assert found.unread == ()


def test_a_program_that_was_overwritten_or_removed_is_not_there(tmp_path: Path) -> None:
    layers: list[Files] = [{"a": go_program(), "b": go_program()}, {"a": "x", ".wh.b": ""}]
    assert inventory(tmp_path, *layers).packages == ()


def test_a_text_about_go_is_no_program(tmp_path: Path) -> None:
    assert inventory(tmp_path, {"doc": go_program()[4:]}).unread == ()


def test_a_program_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (record,) = inventory(tmp_path, {"usr/bin/app": elf(bytes(5000))}).unread
    assert (record.kind, record.path) == ("golang", "usr/bin/app")


@given(st.sampled_from(["go", "old", "rust"]), st.data())
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_give_packages_problems_or_nothing(kind: str, data: st.DataObject) -> None:
    made: dict[str, Callable[[], bytes]] = {
        "go": go_program,
        "old": old_go_program,
        "rust": lambda: rust_program(CRATES),
    }
    whole = bytearray(made[kind]())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 300) | st.integers(4000, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    found = look_into(pieces(bytes(whole), 3000))
    if found is not None:
        reading = read(found)
        assert reading.packages or reading.unread or kind == "rust"


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_text_about_modules_gives_packages_or_problems(raw: bytes) -> None:
    text = raw.decode("latin-1")
    reading = read(looked(go_program(f"mod\t{text}\n{MODULES}")))
    assert reading.packages or reading.unread
