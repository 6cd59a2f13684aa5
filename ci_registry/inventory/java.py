"""Draws Maven packages out of Java archives, and names the archives whose coordinates nobody knows.

Coordinates are taken from `pom.properties` and from what a build tool wrote on purpose. They are never
guessed from a bundle name or a title: advisories are found by exact coordinates, so a wrong guess would
look like a clean library.
"""

import re
from collections.abc import Iterator, Sequence

from ci_registry.findings import Package, UnreadDatabase
from ci_registry.inventory.jar import Archive, archives_of, are_coordinates
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, unread

_FILE_NAME = re.compile(r"(?P<artifact>[A-Za-z0-9._-]*[^-])-(?P<version>\d\S*)")
_NEBULA = re.compile(r"(?P<group>[^#;]+)#(?P<artifact>[^#;]+);(?P<version>[^#;]+)")
_RUNTIME = "Java Platform API Specification"
_MOST_RECORDS = 50
_WORDS = re.compile(r"[._-]")
_ANYBODY = frozenset(
    {"com", "dev", "io", "java", "javax", "net", "org", "apache", "google", "github"}
)
"""Folders of classes that tell no library."""
_SPRING = "org/springframework"
_KNOWN_GROUPS = (
    (r"spring-boot(-.+)?", "org.springframework.boot", _SPRING),
    (r"spring-security-.+", "org.springframework.security", _SPRING),
    (r"spring-session-.+", "org.springframework.session", _SPRING),
    (r"spring-integration-.+", "org.springframework.integration", _SPRING),
    (r"spring-kafka(-test)?", "org.springframework.kafka", _SPRING),
    (r"spring-(amqp|rabbit(-.+)?)", "org.springframework.amqp", _SPRING),
    (
        r"spring-(aop|aspects|beans|context(-support|-indexer)?|core|expression|instrument|jcl)",
        "org.springframework",
        _SPRING,
    ),
    (
        r"spring-(jdbc|jms|messaging|orm|oxm|r2dbc|test|tx|web|webflux|webmvc|websocket)",
        "org.springframework",
        _SPRING,
    ),
    (r"tomcat-embed-(core|el|jasper|websocket)", "org.apache.tomcat.embed", "org/apache"),
    (r"reactor-core", "io.projectreactor", "reactor/core"),
    (r"reactor-netty(-.+)?", "io.projectreactor.netty", "reactor/netty"),
    (r"kotlin-(stdlib(-.+)?|reflect)", "org.jetbrains.kotlin", "kotlin"),
)
"""Libraries that are built without `pom.properties`: file name, groupId, and where their classes are."""


def read_java(files: Sequence[ImageFile]) -> Reading:
    """Return the packages of Java archives and of those in them.

    A package in a nested archive has the path `outer.war!/WEB-INF/lib/inner.jar`.
    """
    packages: list[Package] = []
    problems: list[UnreadDatabase] = []
    for file in files:
        if file.problem:
            problems.append(unread("maven", file, file.problem))
            continue
        for archive in archives_of(file.content):
            packages += (
                _package(file, archive, found) for found in _all_coordinates(file, archive)
            )
            problems += _problems(file, archive)
    return Reading(packages=tuple(dict.fromkeys(packages)), unread=_limited(problems))


def _path(file: ImageFile, archive: Archive) -> str:
    return printable(f"{file.path}!/{archive.path}" if archive.path else file.path)


def _package(file: ImageFile, archive: Archive, coordinates: tuple[str, str, str]) -> Package:
    group, artifact, version = coordinates
    return Package(
        ecosystem="maven",
        name=f"{group}:{artifact}",
        version=version,
        purl=f"pkg:maven/{purl_part(group)}/{purl_part(artifact)}@{purl_part(version)}",
        layer=file.diff_id,
        path=_path(file, archive),
    )


def _all_coordinates(file: ImageFile, archive: Archive) -> Iterator[tuple[str, str, str]]:
    yield from ((group, artifact, version) for group, artifact, version in archive.coordinates)
    if not _has_own(file, archive) and (own := _own(file, archive)) is not None:
        yield own


def _stem(file: ImageFile, archive: Archive) -> str:
    name = (archive.path or file.path).rpartition("/")[2]
    return name.rpartition(".")[0]


def _has_own(file: ImageFile, archive: Archive) -> bool:
    """Whether a `pom.properties` is the archive's own, going by the name of its file."""
    stem = _stem(file, archive)
    return any(
        stem == artifact or stem.startswith(f"{artifact}-")
        for _, artifact, _ in archive.coordinates
    )


def _own(file: ImageFile, archive: Archive) -> tuple[str, str, str] | None:
    """Return the coordinates of the archive itself from what a build tool wrote; None without."""
    for found in (_jenkins(archive), _nebula(archive), _by_file_name(file, archive)):
        if found is not None and are_coordinates(*found):
            return found
    return None


def _jenkins(archive: Archive) -> tuple[str, str, str] | None:
    """Read the manifest of a Jenkins plugin."""
    manifest = archive.manifest
    group, version = manifest.get("Group-Id", ""), manifest.get("Plugin-Version", "")
    name = next(
        (
            manifest[key]
            for key in ("Artifact-Id", "Short-Name", "Extension-Name")
            if key in manifest
        ),
        "",
    )
    return (group, name, version.split()[0]) if group and name and version else None


def _nebula(archive: Archive) -> tuple[str, str, str] | None:
    """Read `group#artifact;version`, which a common Gradle plugin writes as title."""
    match = _NEBULA.fullmatch(archive.manifest.get("Implementation-Title", ""))
    return (match["group"], match["artifact"], match["version"]) if match else None


def _by_file_name(file: ImageFile, archive: Archive) -> tuple[str, str, str] | None:
    """Join the file's name with a groupId from the manifest or from our list.

    The version must stand in the manifest too: a file can be called anything.
    """
    match = _FILE_NAME.fullmatch(_stem(file, archive))
    manifest = archive.manifest
    if match is None or not _is_version(manifest, match["version"]):
        return None
    artifact, version = match["artifact"], match["version"]
    group = manifest.get("Implementation-Vendor-Id", "")
    if "." in group and manifest.get("Implementation-Title") == artifact:
        return group, artifact, version
    for pattern, known, root in _KNOWN_GROUPS:
        if re.fullmatch(pattern, artifact):
            is_there = not archive.roots or any(r.startswith(root) for r in archive.roots)
            return (known, artifact, version) if is_there else None
    return None


def _is_version(manifest: dict[str, str], version: str) -> bool:
    """Whether the manifest says the same version, perhaps with a build number behind it."""
    for key in ("Implementation-Version", "Bundle-Version"):
        value = manifest.get(key, "")
        if value == version or value.startswith((f"{version}-", f"{version} ")):
            return True
    return False


def _problems(file: ImageFile, archive: Archive) -> Iterator[UnreadDatabase]:
    path = _path(file, archive)
    for problem in archive.problems:
        yield UnreadDatabase(kind="maven", path=path, reason=problem)
    if _has_own(file, archive) or _own(file, archive) is not None:
        return
    if archive.manifest.get("Specification-Title") == _RUNTIME:
        version = archive.manifest.get("Implementation-Version", "of an unknown version")
        reason = f"a Java runtime ({version}): there is no reader for its vulnerabilities"
        yield UnreadDatabase(kind="generic", path=path, reason=reason)
    elif not archive.coordinates:
        if archive.roots and not archive.holds_archives:
            yield UnreadDatabase(kind="maven", path=path, reason=_nameless(archive))
    elif reason := _unexplained(archive):
        yield UnreadDatabase(kind="maven", path=path, reason=reason)


def _nameless(archive: Archive) -> str:
    title = archive.manifest.get("Implementation-Title", "")
    version = archive.manifest.get("Implementation-Version", "")
    told = f" (it calls itself {title} {version})".replace(" )", ")") if title else ""
    return f"a Java archive without Maven coordinates{told}"


def _unexplained(archive: Archive) -> str:
    """Say which classes belong to none of the libraries that are named; empty when there are none.

    A renamed archive with one `pom.properties` is that library when any of its classes fit.
    """
    strange = [root for root in archive.roots if not _explains(archive, root)]
    if len(archive.coordinates) == 1 and len(strange) < len(archive.roots):
        return ""
    shown = ", ".join(root or "(no package)" for root in strange[:5])
    return (
        f"libraries in one archive: no pom.properties for its classes in {shown}" if shown else ""
    )


def _explains(archive: Archive, root: str) -> bool:
    """Whether the classes in a folder belong to one of the libraries that are named."""
    dotted, words = root.replace("/", "."), set(root.split("/")) - _ANYBODY
    for group, artifact, _ in archive.coordinates:
        if f"{group}.".startswith(f"{dotted}.") or f"{dotted}.".startswith(f"{group}."):
            return True
        if words & set(_WORDS.split(f"{group}.{artifact}")):
            return True
        if group.startswith("commons-") and dotted == "org.apache":
            return True
    return False


def _limited(problems: list[UnreadDatabase]) -> tuple[UnreadDatabase, ...]:
    """Keep fifty records; the last one says how many more there are. A runtime's archives count once."""
    by_reason = {item.reason: item for item in reversed(problems) if item.kind == "generic"}
    kept = [item for item in problems if item.kind != "generic"]
    more = len(kept) - _MOST_RECORDS
    if more > 0:
        last = kept[_MOST_RECORDS - 1]
        reason = f"{last.reason}; {more} more Java archives could not be read"
        kept[_MOST_RECORDS - 1 :] = [UnreadDatabase(kind=last.kind, path=last.path, reason=reason)]
    return (*kept, *by_reason.values())
