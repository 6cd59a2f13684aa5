"""The embedded scanner and the real trivy find the same in real images, with the same invented advisories.

Each image is scanned twice through the command line; the database of trivy is the one that `db build
--trivy` writes. Every difference is asserted here and explained in `docs/reference/advisories.md`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ci_registry.findings import Inventory, Package
from tests.peers.test_trivy_systems import build_go, layer_of
from tests.support.archives import classes, pom, zip_of
from tests.support.images import Files, ImageSpec, debian_layer, make_layout, tar_of
from tests.support.inspection import inspect_layout
from tests.support.os_databases import APK_RELEASE, apk_database, apk_record
from tests.support.peers import PEERS, go_version
from tests.support.rpm_root import make_rpm_root
from tests.support.scanner_table import Advice, Desk, desk
from tests.support.trivy_cases import node_module, wheel
from tests.support.trivy_runs import trivy

pytestmark = pytest.mark.peer("trivy")
DEBIAN_ROOT = PEERS / "debian-12-root.tar"
GO_PROGRAM = PEERS / "bin" / "referrers-registry"
PYTHON = "usr/lib/python3/dist-packages"
OWNED = f"{PYTHON}/owned_by_debian-1.0.dist-info/METADATA"
SETUP = f"{PYTHON}/owned_by_alpine-1.0.dist-info/METADATA"
Pairs = set[tuple[str, str]]


def metadata(name: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nText\n"


def debian(_folder: Path) -> list[Files | bytes]:
    """A real Debian 12, a Python package that dpkg owns, and Python and Node packages that nobody owns."""
    if not DEBIAN_ROOT.exists():
        pytest.skip("no Debian root in .peers")
    base = DEBIAN_ROOT.read_bytes()
    status = "var/lib/dpkg/status.d/python3-owned"  # beside the real database
    owned: Files = {
        OWNED: metadata("owned-by-debian"),
        status: (
            "Package: python3-owned\nStatus: install ok installed\nArchitecture: all\n"
            "Version: 1.0-1\nDescription: x\n"
        ),
        "var/lib/dpkg/info/python3-owned.list": f"/.\n/{OWNED}\n",
    }
    own: dict[str, bytes | str | None] = {}
    for number in range(12):
        own |= wheel(
            f"wheel{number}", f"{number}.{number + 1}.post1" if number % 2 else f"{number}.0rc2"
        )
        own |= node_module(
            f"module{number}", f"{number}.0.0" if number % 2 else f"{number}.1.0-rc.1"
        )
    return [base, owned, own]


def almalinux(folder: Path) -> list[Files | bytes]:
    """A root that the real rpmbuild and rpm made, with a Python package that rpm owns."""
    root = make_rpm_root(folder)
    files: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            files[str(path.relative_to(root))] = path.read_bytes()
    return [files, wheel("own", "1.0") | wheel("owner", "2.0")]


ALPINE_FILES = {
    "etc/os-release": APK_RELEASE.replace("3.20.3", "3.22.1"),
    "etc/alpine-release": "3.22.1\n",
    "lib/apk/db/installed": apk_database(
        apk_record(
            "py3-owned", "1.0-r0", origin="py3-owned", files={SETUP: metadata("owned-by-alpine")}
        ),
        apk_record("libcrypto3", "3.3.2-r1", origin="openssl"),
        apk_record("libssl3", "3.3.2-r1", origin="openssl"),
        apk_record("musl", "1.2.5_git20240512-r1", origin="musl"),
        apk_record("busybox", "1.36.1-r29", origin="busybox"),
        apk_record("zlib", "1.3.1-r1", origin="zlib"),
    ),
    SETUP: metadata("owned-by-alpine"),
}


def alpine(_folder: Path) -> list[Files | bytes]:
    """The database of apk with origins, a package that owns a Python one, and wheels."""
    return [ALPINE_FILES, wheel("own", "1.0") | wheel("owner", "2.0")]


def golang(folder: Path) -> list[Files | bytes]:
    """Programs that the real linker made: a small one, and a registry with many modules."""
    if go_version() is None or not GO_PROGRAM.exists():
        pytest.skip("no Go on PATH")
    programs = {"srv/app": build_go(folder / "go"), "srv/server": GO_PROGRAM.read_bytes()}
    return [layer_of({**ALPINE_FILES, **programs})]


def java(_folder: Path) -> list[Files | bytes]:
    """Archives, also nested ones, that name themselves."""
    log4j = zip_of(pom("org.apache", "log4j-core", "2.14.1") | classes("org/apache/log"))
    netty = zip_of(pom("io.netty", "netty-common", "4.1.1.Final") | classes("io/netty"))
    tool = zip_of(pom("com.acme", "tool", "1.0-beta-2") | classes("com/acme"))
    jars = {
        "app/log4j-core-2.14.1.jar": log4j,
        "app/shop.war": zip_of({"WEB-INF/lib/netty.jar": netty, "WEB-INF/lib/tool.jar": tool}),
        "app/other.jar": zip_of(pom("com.acme", "other", "1.0") | classes("com/acme/o")),
    }
    return [tar_of({**ALPINE_FILES, **jars})]


Make = Callable[[Path], list[Files | bytes]]
IMAGES: dict[str, Make] = {
    "debian": debian,
    "almalinux": almalinux,
    "alpine": alpine,
    "go": golang,
    "java": java,
}
_ECOSYSTEMS = {"pypi": "PyPI", "npm": "npm", "golang": "Go", "maven": "Maven"}
_SYSTEMS = {"debian": "Debian:12", "almalinux": "AlmaLinux:9", "alpine": "Alpine:v3.22"}
_LATE = {"deb": "99:1", "rpm": "99:1-1.el9", "apk": "99999-r0", "maven": "99999"}


def ecosystem(package: Package, inventory: Inventory) -> str:
    if package.ecosystem in _ECOSYSTEMS:
        return _ECOSYSTEMS[package.ecosystem]
    assert inventory.distribution is not None
    return _SYSTEMS[inventory.distribution.id]


def looked_up(package: Package) -> str:
    """Return the name that advisories know a package by."""
    is_source = package.ecosystem in ("deb", "apk")
    return (package.source_name if is_source else "") or package.name


def invent(inventory: Inventory) -> list[Advice]:
    """Return an advisory for each name: in turn it affects, is fixed in this version, or comes later.

    Trivy's database of a distribution has no first affected version, so there none comes later.
    """
    names = {(ecosystem(p, inventory), looked_up(p)): p for p in inventory.packages}
    advice = []
    for number, ((kind, name), package) in enumerate(sorted(names.items(), key=lambda i: i[0])):
        version = package.source_version or package.version
        if version == "(devel)":
            continue  # asked about below
        late = _LATE.get(package.ecosystem, "99999.0.0")
        plain = version.removeprefix("v") if kind == "Go" else version
        ways = [("0", late), ("0", plain)]
        if kind in _ECOSYSTEMS.values():
            ways.append((late, ""))
        introduced, end = ways[number % len(ways)]
        identity = f"CVE-2026-{90000 + number}"
        made = Advice(ecosystem=kind, package=name, id=identity, fixed=end, introduced=introduced)
        advice.append(made)
    return advice


def pairs(at: Desk, *, without: str = "") -> Pairs:
    return {(name, advisory) for name, _, advisory in at.findings(without=without)}


class Both:
    """An image, its inventory, and what both scanners found in it."""

    def __init__(self, folder: Path, layers: list[Files | bytes]) -> None:
        layout = make_layout(folder / "layout", ImageSpec(layers=layers, level=1)).layout
        self.inventory = inspect_layout(layout).platforms[0].inventory
        self.advice = invent(self.inventory)
        self.osv, self.trivy = (desk(folder / n, n, self.advice) for n in ("osv", "trivy"))
        formats = ("--report-formats", "cyclonedx,spdx")
        self.exit_codes = [at.scan(layout, *formats).exit_code for at in (self.osv, self.trivy)]

    @property
    def owned(self) -> set[str]:
        """Names of language packages that an OS package brought."""
        return {p.name for p in self.inventory.packages if p.owner}

    @property
    def in_versions(self) -> set[str]:
        """Names that are there in several versions: an advisory is only fixed in one of them."""
        named: dict[str, set[str]] = {}
        for package in self.inventory.packages:
            named.setdefault(looked_up(package), set()).add(package.version)
        return {name for name, versions in named.items() if len(versions) > 1}

    @property
    def third_party(self) -> set[str]:
        """Names of OS packages that another vendor made."""
        return {p.name for p in self.inventory.packages if p.third_party}

    @staticmethod
    def gaps(at: Desk) -> set[str]:
        (image,) = at.project.result()["images"]
        return {gap["gap"]["gap"] for gap in image["decision"]["gaps"]}


@pytest.fixture(name="both", scope="module", params=IMAGES)
def _both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp(str(request.param))
    (folder / "work").mkdir()
    return Both(folder, IMAGES[str(request.param)](folder / "work"))


def test_both_find_the_same(both: Both) -> None:
    """But trivy leaves out what another vendor made; ours is a finding, and both say it is a gap."""
    ours, theirs = pairs(both.osv), pairs(both.trivy)
    assert theirs <= ours
    assert {name for name, _ in ours - theirs} <= both.third_party
    assert len(theirs) >= len(both.advice) // 4


def test_what_is_found_is_affected_and_nothing_affected_is_left_out(both: Both) -> None:
    affecting = {a.id for a in both.advice if a.introduced == "0" and a.fixed.startswith("99")}
    found = {advisory for _, advisory in pairs(both.osv)}
    fixed = {a.id for a in both.advice if a.introduced == "0"} - affecting
    later = {a.id for a in both.advice if a.introduced != "0"}
    assert affecting - found <= {a.id for a in both.advice if a.package in both.owned}
    assert not found & later
    assert {a.package for a in both.advice if a.id in found & fixed} <= both.in_versions


def test_verdict_and_gaps_are_the_same(both: Both) -> None:
    assert both.exit_codes[0] == both.exit_codes[1]
    assert both.gaps(both.osv) == both.gaps(both.trivy)


def raw(found: Iterable[dict[str, str]]) -> Pairs:
    return {(item["PkgName"], item["VulnerabilityID"]) for item in found}


@pytest.mark.parametrize("ending", ["cdx.json", "spdx.json"])
def test_trivy_finds_the_same_in_our_sbom(both: Both, ending: str, tmp_path: Path) -> None:
    """But it reports Python packages that an OS package owns too, and reads no RPM of AlmaLinux.

    It wants its own name of that distribution, `alma`, as name and in each purl.
    """
    (sbom,) = both.osv.project.reports.glob(f"sbom-*.{ending}")
    cache = both.trivy.project.base / "advisories-trivy"
    found = raw(trivy(cache, tmp_path / "work", "sbom", str(sbom)))
    ours = pairs(both.trivy, without="rpm")
    assert ours <= found
    assert {name for name, _ in found - ours} <= both.owned


@pytest.mark.parametrize("ending", ["cdx.json", "spdx.json"])
def test_we_find_the_same_in_our_sbom(both: Both, ending: str) -> None:
    before = pairs(both.osv)
    (sbom,) = both.osv.project.reports.glob(f"sbom-*.{ending}")
    kept = both.osv.project.write(f"kept.{ending}", sbom.read_bytes())
    folder = ("--report-dir", f"again-{ending}")
    both.osv.project.run("scan", "--from-sbom", str(kept), *both.osv.options, *folder)
    again = both.osv.project.result(both.osv.project.folder / folder[1])
    (image,) = again["images"]
    found = {(f["package"]["name"], f["id"]) for s in image["scans"] for f in s["findings"]}
    assert found == before


ODD = debian_layer(("libssl3", "3.0.11-1", "openssl"), ("odd", "not:a:version", ""))
ABOUT_ODD = (
    Advice(ecosystem="Debian:12", package="odd", id="CVE-2026-91000", fixed="9"),
    Advice(ecosystem="PyPI", package="strange", id="CVE-2026-91001", fixed="9"),
)


@pytest.mark.parametrize("scanner", ["osv", "trivy"])
def test_versions_that_nobody_can_compare_are_undecided_for_both(
    tmp_path: Path, scanner: str
) -> None:
    layers = [ODD, wheel("strange", "one.two")]
    layout = make_layout(tmp_path / "layout", ImageSpec(layers=layers)).layout
    at = desk(tmp_path / "desk", scanner, ABOUT_ODD)
    assert at.scan(layout).exit_code == 5
    assert "undecided" in Both.gaps(at)
    assert at.findings() == (
        set()
        if scanner == "trivy"
        else {
            ("odd", "not:a:version", "CVE-2026-91000"),
            ("strange", "one.two", "CVE-2026-91001"),
        }
    )


def test_first_affected_version_of_a_distribution_is_unknown_to_trivy(tmp_path: Path) -> None:
    """So it reports a package that is older; ours does not."""
    advice = Advice(ecosystem="Debian:12", package="openssl", id="CVE-2026-91002", introduced="9")
    layout = make_layout(
        tmp_path / "layout", ImageSpec(layers=[debian_layer(("libssl3", "3.0.11-1", "openssl"))])
    ).layout
    found = {}
    for scanner in ("osv", "trivy"):
        at = desk(tmp_path / scanner, scanner, [advice])
        at.scan(layout)
        found[scanner] = at.findings()
    assert found == {"osv": set(), "trivy": {("libssl3", "3.0.11-1", "CVE-2026-91002")}}
