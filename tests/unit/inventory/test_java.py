"""Java archives give their Maven packages, nested ones too, and what has no coordinates is named."""

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_registry.findings import Inventory
from ci_registry.inventory.jar import DEPTH, archives_of, parse_manifest, parse_properties, sift_jar
from ci_registry.inventory.java import read_java
from ci_registry.inventory.reading import ImageFile, Reading, UnreadableError
from tests.support.archives import classes, manifest, pom, zip_of
from tests.support.images import Files, ImageSpec, debian_layer, make_layout
from tests.support.inspection import inspect_layout

LOG4J: dict[str, bytes | str] = pom("org.apache.logging.log4j", "log4j-core", "2.14.1") | classes(
    "org/apache/logging"
)
NETTY: dict[str, bytes | str] = pom("io.netty", "netty-common", "4.1.1.Final") | classes(
    "io/netty/util"
)
PLAIN = classes("com/acme/tool")


def reading(data: bytes, path: str = "app/x.jar") -> Reading:
    content = sift_jar(iter((data,)), len(data))
    return read_java([ImageFile(path=path, real=path, content=content, layer=0, diff_id="d")])


def names(found: Reading) -> list[tuple[str, str, str]]:
    return [(p.name, p.version, p.path) for p in found.packages]


def reasons(found: Reading) -> list[str]:
    return [record.reason for record in found.unread]


def inventory(tmp_path: Path, *layers: Files) -> Inventory:
    made = make_layout(tmp_path / "layout", ImageSpec(layers=layers))
    return inspect_layout(made.layout).platforms[0].inventory


# --- coordinates


def test_a_package_is_named_by_its_pom_properties() -> None:
    found = reading(zip_of(LOG4J), "app/lib/log4j-core-2.14.1.jar")
    (package,) = found.packages
    assert package.name == "org.apache.logging.log4j:log4j-core"
    assert package.purl == "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"
    assert (package.ecosystem, package.layer) == ("maven", "d")
    assert found.unread == ()


@pytest.mark.parametrize("stored", [True, False])
def test_archives_inside_are_read_however_they_are_packed(stored: bool) -> None:
    war = zip_of(
        {
            "WEB-INF/lib/log4j-core-2.14.1.jar": zip_of(LOG4J),
            "WEB-INF/classes/com/acme/A.class": b"x",
        },
        stored=stored,
    )
    found = reading(zip_of({"front.war": war}, stored=stored), "srv/shop.ear")
    inside = "srv/shop.ear!/front.war!/WEB-INF/lib/log4j-core-2.14.1.jar"
    assert names(found) == [("org.apache.logging.log4j:log4j-core", "2.14.1", inside)]
    assert found.unread == ()


def test_a_spring_boot_program_with_a_script_in_front_is_read() -> None:
    jar = zip_of(
        {"BOOT-INF/lib/netty-common-4.1.1.Final.jar": zip_of(NETTY)}
        | classes("org/springframework/boot/loader", "BOOT-INF/classes/com/acme")
    )
    found = reading(b"#!/bin/bash\nexec java -jar $0\n" + jar, "app.jar")
    assert [name for name, _, _ in names(found)] == ["io.netty:netty-common"]
    assert found.unread == ()


def test_a_shaded_archive_gives_every_library_that_has_a_pom() -> None:
    own = pom("com.acme", "tool", "1.0") | classes("com/acme/tool")
    found = reading(zip_of(LOG4J | NETTY | own), "app/tool-1.0-shaded.jar")
    assert [name for name, _, _ in names(found)] == [
        "org.apache.logging.log4j:log4j-core",
        "io.netty:netty-common",
        "com.acme:tool",
    ]
    assert found.unread == ()


def test_classes_of_no_named_library_in_a_merged_archive_are_a_gap() -> None:
    found = reading(zip_of(LOG4J | NETTY | classes("io/ktor/http", "kotlin")), "app/all.jar")
    assert len(found.packages) == 2
    assert reasons(found) == [
        "libraries in one archive: no pom.properties for its classes in io/ktor, kotlin"
    ]


def test_a_renamed_archive_with_one_pom_is_that_library() -> None:
    found = reading(zip_of(pom("dev.acme", "tool", "1.0") | classes("acme/tool")), "app/app.jar")
    assert names(found) == [("dev.acme:tool", "1.0", "app/app.jar")]
    assert found.unread == ()


def test_an_archive_with_only_the_pom_of_another_library_is_a_gap() -> None:
    jar = zip_of(pom("cglib", "cglib", "3.2") | classes("com/google/inject"))
    found = reading(jar, "usr/share/java/guice.jar")
    assert [name for name, _, _ in names(found)] == ["cglib:cglib"]
    assert "com/google" in reasons(found)[0]


@pytest.mark.parametrize(
    ("files", "path", "expected"),
    [
        (
            manifest(Implementation_Title="spring-core", Implementation_Version="5.3.20")
            | classes("org/springframework/core"),
            "lib/spring-core-5.3.20.jar",
            ("org.springframework:spring-core", "5.3.20"),
        ),
        (
            manifest(Implementation_Title="Spring Boot", Implementation_Version="2.7.0"),
            "lib/spring-boot-starter-web-2.7.0.jar",
            ("org.springframework.boot:spring-boot-starter-web", "2.7.0"),
        ),
        (
            manifest(Implementation_Version="1.9.0-release-358(1.9.0)") | classes("kotlin/text"),
            "lib/kotlin-stdlib-1.9.0.jar",
            ("org.jetbrains.kotlin:kotlin-stdlib", "1.9.0"),
        ),
        (
            manifest(Implementation_Title="io.micrometer#micrometer-core;1.9.0")
            | classes("io/micrometer/core"),
            "lib/m.jar",
            ("io.micrometer:micrometer-core", "1.9.0"),
        ),
        (
            manifest(
                Implementation_Vendor_Id="org.hibernate",
                Implementation_Title="hibernate-core",
                Implementation_Version="5.6.9.Final",
            )
            | classes("org/hibernate"),
            "lib/hibernate-core-5.6.9.Final.jar",
            ("org.hibernate:hibernate-core", "5.6.9.Final"),
        ),
        (
            manifest(
                Group_Id="org.jenkins-ci.plugins",
                Short_Name="git",
                Plugin_Version="4.1 (private-x)",
            ),
            "plugins/git.jpi",
            ("org.jenkins-ci.plugins:git", "4.1"),
        ),
    ],
)
def test_what_a_build_tool_wrote_names_an_archive_too(
    files: dict[str, bytes | str], path: str, expected: tuple[str, str]
) -> None:
    found = reading(zip_of(files), path)
    assert [(p.name, p.version) for p in found.packages] == [expected]
    assert found.unread == ()


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (PLAIN, "lib/tool-1.0.jar"),
        (manifest(Bundle_SymbolicName="com.acme.tool", Bundle_Version="1.0") | PLAIN, "tool-1.0.jar"),
        (manifest(Implementation_Version="5.3.21") | classes("org/springframework"), "spring-core-5.3.20.jar"),
        (manifest(Implementation_Version="5.3.20") | classes("com/evil"), "spring-core-5.3.20.jar"),
        (manifest(Implementation_Version="1.0", Implementation_Vendor_Id="Acme Inc") | PLAIN, "tool-1.0.jar"),
    ],
)  # fmt: skip
def test_an_archive_without_proven_coordinates_is_a_gap_and_never_guessed(
    files: dict[str, bytes | str], path: str
) -> None:
    found = reading(zip_of(files), path)
    assert found.packages == ()
    assert [(u.kind, u.path) for u in found.unread] == [("maven", path)]
    assert reasons(found)[0].startswith("a Java archive without Maven coordinates")


@pytest.mark.parametrize("files", [{}, {"config/a.xml": "x"}, {"module-info.class": b"x"}])
def test_an_archive_without_code_is_no_gap(files: dict[str, bytes | str]) -> None:
    assert reading(zip_of(files)) == Reading()


def test_an_empty_file_is_no_archive_and_no_gap() -> None:
    assert reading(b"") == Reading()


def test_a_java_runtime_is_one_gap_of_its_own() -> None:
    jar = zip_of(
        manifest(Specification_Title="Java Platform API Specification", Implementation_Version="17")
        | classes("java/lang")
    )
    content = sift_jar(iter((jar,)), len(jar))
    found = read_java(
        [
            ImageFile(path=path, real=path, content=content, layer=0, diff_id="d")
            for path in ("opt/java/lib/a.jar", "opt/java/lib/b.jar")
        ]
    )
    assert [(u.kind, u.path) for u in found.unread] == [("generic", "opt/java/lib/a.jar")]
    assert "a Java runtime (17)" in reasons(found)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("groupId=a.b\nartifactId=c\nversion=1", ["a.b", "c", "1"]),
        ("#x\r\n groupId = a.b \r\nartifactId:c\r\nversion 1.0\\:x", None),
        ("groupId: a.b\nartifactId: c\nversion: 1.0+x", ["a.b", "c", "1.0+x"]),
        ("groupId=a\nartifactId=c\nversion=${project.version}", None),
        ("groupId=\nartifactId=c\nversion=1", None),
        ("groupId=a\nartifactId=b\nversion=1\nversion=2", ["a", "b", "2"]),
        ("\xff\x00", None),
    ],
)
def test_pom_properties_are_read_as_properties(text: str, expected: list[str] | None) -> None:
    assert parse_properties(text.encode()) == expected


def test_an_unfinished_pom_is_named() -> None:
    files: dict[str, bytes | str] = {
        "META-INF/maven/a/b/pom.properties": "groupId=a\nartifactId=b\nversion=${v}"
    }
    found = reading(zip_of(files | PLAIN))
    assert "META-INF/maven/a/b/pom.properties" in reasons(found)[0]


def test_a_manifest_is_unfolded_and_ends_at_its_main_section() -> None:
    text = b"Implementation-Title: a\r\n b\r\nGroup-Id: g\r\n\r\nName: x\r\nShort-Name: no\r\n"
    assert parse_manifest(text) == {"Implementation-Title": "ab", "Group-Id": "g"}


# --- in images


def test_jars_of_a_debian_package_have_it_as_owner(tmp_path: Path) -> None:
    base = debian_layer(("libjackson", "2.14", "")) | {
        "var/lib/dpkg/info/libjackson.list": "/usr/share/java/log4j-core.jar\n/usr/share/java/x.jar\n",
        "usr/share/java/log4j-core.jar": zip_of(LOG4J),
        "usr/share/java/x.jar": zip_of({"y.jar": zip_of(PLAIN)}),
        "usr/share/java/log4j.jar->log4j-core.jar": None,
    }
    found = inventory(tmp_path, base, {"opt/log4j-core.jar": zip_of(LOG4J)})
    java = [(p.path, p.owner) for p in found.packages if p.ecosystem == "maven"]
    assert java == [("opt/log4j-core.jar", ""), ("usr/share/java/log4j-core.jar", "libjackson")]
    assert found.unread == ()


def test_a_jar_behind_a_link_of_another_name_is_read(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"app/data.bin": zip_of(LOG4J), "app/a.jar->data.bin": None})
    assert [p.path for p in found.packages] == ["app/a.jar"]


def test_a_jar_that_a_later_layer_replaces_counts_as_the_new_one(tmp_path: Path) -> None:
    newer = pom("org.apache.logging.log4j", "log4j-core", "2.17.1")
    found = inventory(tmp_path, {"a.jar": zip_of(LOG4J)}, {"a.jar": zip_of(newer)})
    assert [p.version for p in found.packages] == ["2.17.1"]


# --- hostile archives


def test_a_damaged_archive_inside_is_named_and_the_others_are_read() -> None:
    war = zip_of({"WEB-INF/lib/bad.jar": b"garbage", "WEB-INF/lib/good.jar": zip_of(LOG4J)})
    found = reading(war, "a.war")
    assert len(found.packages) == 1
    assert [(u.path, u.reason) for u in found.unread] == [
        ("a.war!/WEB-INF/lib/bad.jar", "not a zip archive")
    ]


def test_a_name_that_leads_out_of_the_archive_is_only_a_name() -> None:
    found = reading(zip_of({"../../../etc/evil\x1b.jar": zip_of(LOG4J)}), "a.jar")
    assert names(found)[0][2] == "a.jar!/../../../etc/evil\\x1b.jar"


@pytest.mark.parametrize("stored", [True, False])
def test_nesting_ends_at_a_depth_that_is_named(stored: bool) -> None:
    data = zip_of(LOG4J)
    for _ in range(DEPTH):
        data = zip_of({"a.jar": data}, stored=stored)
    assert len(reading(data).packages) == 1
    deeper = reading(zip_of({"a.jar": data}, stored=stored))
    assert deeper.packages == ()
    assert reasons(deeper) == [f"nested more than {DEPTH} deep"]


def test_an_archive_of_zeros_is_refused_before_it_is_inflated() -> None:
    bomb = zip_of({"a.jar": bytes(40 << 20)})
    with pytest.raises(UnreadableError, match="inflates to a multiple"):
        sift_jar(iter((bomb,)), len(bomb))


def test_an_archive_that_lies_about_its_size_is_cut_off() -> None:
    data = bytearray(zip_of({"a.jar": bytes(4 << 20)}))
    at = data.rindex(b"PK\1\2") + 24
    data[at : at + 4] = (1000).to_bytes(4, "little")
    found = reading(bytes(data))
    assert reasons(found) == ["a.jar: wrong size or checksum"]


def test_many_bombs_in_one_archive_have_one_budget() -> None:
    inner = {f"{n}.jar": zip_of({"b.jar": bytes(8 << 20)}) for n in range(10)}
    with pytest.raises(UnreadableError, match="inflates to a multiple"):
        reading(zip_of(inner))


def test_an_archive_within_itself_ends() -> None:
    data = zip_of({f"{n}.jar": b"" for n in range(50)}, stored=True)
    for _ in range(DEPTH - 1):
        data = zip_of({f"{n}.jar": data for n in range(3)}, stored=True)
    assert reading(data).packages == ()


def test_too_many_archives_in_one_are_refused() -> None:
    data = zip_of({f"{n}.jar": b"x" for n in range(10_100)}, stored=True)
    with pytest.raises(UnreadableError, match="more than 10000 archives"):
        reading(data)


def test_a_gigantic_manifest_and_pom_are_bounded() -> None:
    head = "Implementation-Title: io.acme#tool;1.0\n\n"
    files = PLAIN | {"META-INF/MANIFEST.MF": head + "Name: x\n\n" * 500_000}
    assert [p.name for p in reading(zip_of(files, stored=True)).packages] == ["io.acme:tool"]
    files = PLAIN | {"META-INF/maven/a/b/pom.properties": "#" * 70_000}
    assert "70000 bytes, more than 65536" in reasons(reading(zip_of(files)))[0]


def test_a_hundred_thousand_entries_are_read() -> None:
    data = zip_of({f"org/x/C{n}.class": b"" for n in range(100_000)} | LOG4J, stored=True)
    assert len(reading(data).packages) == 1


def test_a_large_archive_is_not_held_in_memory() -> None:
    data = zip_of({"blob": bytes(48 << 20)} | LOG4J, stored=True)
    tracemalloc.start()
    content = sift_jar((data[at : at + 65536] for at in range(0, len(data), 65536)), len(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(archives_of(content)[0].coordinates) == 1
    assert peak < 20 << 20


def test_more_unread_archives_than_fifty_are_counted() -> None:
    war = zip_of({f"{n}.jar": b"x" for n in range(120)})
    found = reading(war)
    assert len(found.unread) == 50
    assert "70 more Java archives" in reasons(found)[-1]


def test_a_layer_with_a_bad_jar_is_still_verified(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"a.jar": b"PK\5\6" * 100, "b.jar": zip_of(LOG4J)})
    assert len(found.packages) == 1
    assert [(u.kind, u.path) for u in found.unread] == [("maven", "a.jar")]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 900), st.binary(max_size=16), st.integers(0, 60))
def test_any_damage_is_a_reading_or_an_unread_file(at: int, change: bytes, cut: int) -> None:
    data = bytearray(zip_of({"lib/a.jar": zip_of(LOG4J), "lib/b.jar": zip_of(NETTY)} | LOG4J))
    data[at : at + len(change)] = change
    data = data[: len(data) - cut]
    try:
        content = sift_jar(iter((bytes(data),)), len(data))
    except UnreadableError as error:
        assert error.message.isprintable()  # noqa: PT017 - either outcome is fine
        return
    assert all(isinstance(item, dict) for item in json.loads(content))
    for record in read_java(
        [ImageFile(path="a.jar", real="a.jar", content=content, layer=0, diff_id="d")]
    ).unread:
        assert record.reason.isprintable()
