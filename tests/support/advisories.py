"""Makes advisories, packages and inventories by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ci_registry.findings import Distribution, Inventory, Package, UnreadDatabase

DEBIAN_12 = Distribution(id="debian", version="12", pretty_name="Debian GNU/Linux 12 (bookworm)")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real sample advisories; absent in a fresh checkout."""


def record(
    identity: str,
    ecosystem: str = "PyPI",
    name: str = "demo",
    *,
    events: Sequence[Mapping[str, str]] | None = ({"introduced": "0"}, {"fixed": "1.2"}),
    versions: Sequence[str] = (),
    range_type: str = "ECOSYSTEM",
    **more: object,
) -> dict[str, object]:
    """Return an OSV record about one package; `events=None` leaves the range out."""
    affected: dict[str, object] = {"package": {"ecosystem": ecosystem, "name": name}}
    if events is not None:
        affected["ranges"] = [{"type": range_type, "events": list(events)}]
    if versions:
        affected["versions"] = list(versions)
    return {
        "id": identity,
        "modified": "2026-01-02T00:00:00Z",
        "published": "2026-01-01T00:00:00Z",
        "affected": [affected],
        **more,
    }


def write_osv_folder(
    folder: Path,
    *records: Mapping[str, object],
    built: str = "2026-06-01T00:00:00Z",
    ecosystems: Sequence[str] = ("PyPI", "npm", "Debian"),
) -> Path:
    """Write records as files and a `database.json`."""
    for item in records:
        path = folder / "records" / f"{item['id']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(item))
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"built": built, "ecosystems": list(ecosystems)}
    (folder / "database.json").write_text(json.dumps(facts))
    return folder


def pypi(name: str, version: str, *, owner: str = "", path: str = "") -> Package:
    """Return an installed Python distribution."""
    return Package(
        ecosystem="pypi",
        name=name,
        version=version,
        purl=f"pkg:pypi/{name.lower()}@{version}",
        owner=owner,
        path=path,
    )


def npm(name: str, version: str) -> Package:
    """Return an installed npm package."""
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    return Package(ecosystem="npm", name=name, version=version, purl=purl)


def deb(name: str, version: str, source: str = "", source_version: str = "") -> Package:
    """Return an installed Debian package."""
    return Package(
        ecosystem="deb",
        name=name,
        version=version,
        purl=f"pkg:deb/debian/{name}@{version}?arch=amd64&distro=debian-12",
        source_name=source,
        source_version=source_version,
        architecture="amd64",
    )


def rpm(name: str, version: str, source: str = "", *, module: str = "") -> Package:
    """Return an installed RPM; `version` is `[epoch:]version-release`."""
    return Package(
        ecosystem="rpm",
        name=name,
        version=version,
        purl=f"pkg:rpm/almalinux/{name}@{version}?arch=x86_64",
        source_name=source,
        architecture="x86_64",
        module=module,
    )


def apk(name: str, version: str, origin: str = "") -> Package:
    """Return an installed Alpine package."""
    return Package(
        ecosystem="apk",
        name=name,
        version=version,
        purl=f"pkg:apk/alpine/{name}@{version}",
        source_name=origin,
    )


def inventory(
    *packages: Package,
    distribution: Distribution | None = DEBIAN_12,
    unread: Sequence[UnreadDatabase] = (),
    config_digest: str = "sha256:" + "c" * 64,
    platform: str = "linux/amd64",
) -> Inventory:
    """Return an inventory, as `inventory/` makes it."""
    return Inventory(
        platform=platform,
        manifest_digest="sha256:" + "a" * 64,
        config_digest=config_digest,
        distribution=distribution,
        packages=tuple(sorted(packages, key=lambda p: (p.ecosystem, p.name, p.version, p.path))),
        unread=tuple(unread),
        files_count=7,
    )
