"""CycloneDX 1.6 as JSON: the writer, and a reader for ours, trivy's and syft's documents."""

import json
from collections.abc import Iterator
from datetime import UTC
from uuid import NAMESPACE_URL, uuid5

from ci_registry.errors import IntegrityError
from ci_registry.findings import Distribution, Inventory, Package
from ci_registry.sbom.document import MAX_COMPONENTS, MAX_SBOM_BYTES, SbomDocument
from ci_registry.sbom.facts import (
    PREFIX,
    coverage_from_json,
    coverage_to_json,
    image_facts,
    inventory_of,
    package_facts,
    package_of,
    sorted_packages,
    time_of,
)
from ci_registry.sbom.foreign import foreign_inventory, foreign_package
from ci_registry.sbom.purl import parse_purl
from ci_registry.sbom.trivy_words import TRIVY, identity_of, trivy_facts
from ci_registry.strict import as_list, as_object, as_text, parse_json

_IMAGE, _COVERAGE = f"{PREFIX}image", f"{PREFIX}coverage"
_PRETTY_NAME = f"{PREFIX}pretty-name"
_ROOT = "image"
_SYSTEM = "distribution"
_WITHOUT_PURL = frozenset(
    {"operating-system", "application", "file", "container", "platform", "device", "data"}
)
"""Component types that stand for no package when they have no purl: a lock file, the image."""


def write_cyclonedx(document: SbomDocument) -> bytes:
    """Return the document as JSON, with a line per component; the same input gives the same bytes."""
    inventory = document.inventory
    refs = _references(inventory.packages)
    system = [_system(inventory.distribution)] if inventory.distribution else []
    components = [
        *system,
        *(_component(p, ref) for p, ref in zip(inventory.packages, refs, strict=True)),
    ]
    body = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{_serial(document)}",
        "version": 1,
        "metadata": _metadata(document),
        "components": components,
        "dependencies": list(_dependencies(inventory, refs)),
        "compositions": [
            {
                "aggregate": "incomplete" if inventory.unread else "complete",
                "assemblies": [_ROOT],
            }
        ],
    }
    return json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n"


def _serial(document: SbomDocument) -> str:
    inventory = document.inventory
    name = f"{document.image}@{inventory.manifest_digest} {document.created_at.isoformat()}"
    return str(uuid5(NAMESPACE_URL, name))


def _references(packages: tuple[Package, ...]) -> list[str]:
    """Return a unique reference per package: its purl, counted where two have the same."""
    seen: dict[str, int] = {}
    refs = []
    for package in packages:
        number = seen[package.purl] = seen.get(package.purl, 0) + 1
        refs.append(package.purl if number == 1 else f"{package.purl}#{number}")
    return refs


def _metadata(document: SbomDocument) -> dict[str, object]:
    inventory = document.inventory
    properties = [_property(_IMAGE, _compact(image_facts(inventory)))]
    if document.coverage is not None:
        properties.append(_property(_COVERAGE, _compact(coverage_to_json(document.coverage))))
    name, _, version = document.tool.partition(" ")
    return {
        "timestamp": document.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tools": {"components": [{"type": "application", "name": name, "version": version}]},
        "component": {
            "type": "container",
            "bom-ref": _ROOT,
            "name": document.image,
            "version": inventory.manifest_digest,
            "properties": properties,
        },
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _system(distribution: Distribution) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "operating-system",
        "bom-ref": _SYSTEM,
        "name": distribution.id,
        "version": distribution.version,
    }
    if distribution.pretty_name:
        component["properties"] = [_property(_PRETTY_NAME, distribution.pretty_name)]
    return component


def _component(package: Package, ref: str) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": ref,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
    }
    properties = [_property(PREFIX + key, text) for key, text in package_facts(package).items()]
    properties += [_property(TRIVY + key, text) for key, text in trivy_facts(package).items()]
    if properties:
        component["properties"] = properties
    if package.path:
        component["evidence"] = {"occurrences": [{"location": package.path}]}
    return component


def _dependencies(inventory: Inventory, refs: list[str]) -> Iterator[dict[str, object]]:
    """Say what the image has, and which OS package brought a language package."""
    system = [_SYSTEM] if inventory.distribution else []
    yield {"ref": _ROOT, "dependsOn": [*system, *refs]}
    owned: dict[str, list[str]] = {}
    for package, ref in zip(inventory.packages, refs, strict=True):
        if package.owner:
            owned.setdefault(package.owner, []).append(ref)
    for package, ref in zip(inventory.packages, refs, strict=True):
        if not package.owner and package.name in owned:
            yield {"ref": ref, "dependsOn": owned.pop(package.name)}


def read_cyclonedx(data: bytes, *, what: str) -> SbomDocument:
    """Read a CycloneDX JSON document, ours or another program's.

    Args:
        data: the document.
        what: names it in errors.

    Raises:
        IntegrityError: it is none, is too large, or a part that is looked at has the wrong shape.
    """
    root = as_object(parse_json(data, what=what, max_bytes=MAX_SBOM_BYTES), what=what)
    if root.get("bomFormat") != "CycloneDX":
        raise IntegrityError(f"{what}: no CycloneDX document")
    metadata = as_object(root.get("metadata", {}), what=f"{what}: metadata")
    image = as_object(metadata.get("component", {}), what=f"{what}: metadata.component")
    components = list(_flat(root, what))
    properties = _properties(image, what)
    created_at = time_of(
        as_text(metadata.get("timestamp"), what=f"{what}: metadata.timestamp"), what
    )
    name = as_text(image.get("name", ""), what=f"{what}: metadata.component.name")
    tool = _tool(metadata)
    if _IMAGE not in properties:
        version = image.get("version")
        digests = (str(image.get("purl", "")), version if isinstance(version, str) else "")
        foreign = [foreign_package(*_foreign(item, what)) for item in components if _counts(item)]
        return SbomDocument(
            image=name,
            inventory=foreign_inventory(foreign, _distribution(components, what), digests),
            created_at=created_at,
            tool=tool,
            names_unread=False,
        )
    packages = [_own_package(item, what) for item in components if "purl" in item]
    inventory = inventory_of(
        parse_json(properties[_IMAGE].encode(), what=f"{what}: {_IMAGE}"),
        _distribution(components, what),
        sorted_packages(packages),
        f"{what}: {_IMAGE}",
    )
    coverage = properties.get(_COVERAGE)
    return SbomDocument(
        image=name,
        inventory=inventory,
        created_at=created_at,
        tool=tool,
        coverage=None
        if coverage is None
        else coverage_from_json(
            parse_json(coverage.encode(), what=f"{what}: {_COVERAGE}"),
            inventory,
            f"{what}: {_COVERAGE}",
        ),
    )


def _flat(parent: dict[str, object], what: str) -> Iterator[dict[str, object]]:
    """Yield every component, nested ones too."""
    waiting = [parent]
    count = 0
    while waiting:
        for item in as_list(waiting.pop().get("components", []), what=f"{what}: components"):
            component = as_object(item, what=f"{what}: component")
            count += 1
            if count > MAX_COMPONENTS:
                raise IntegrityError(f"{what}: more than {MAX_COMPONENTS} components")
            waiting.append(component)
            yield component


def _tool(metadata: dict[str, object]) -> str:
    """Return the maker's name and version; other shapes than the usual two give an empty text."""
    tools = metadata.get("tools")
    found = tools.get("components") if isinstance(tools, dict) else tools
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        return ""
    return " ".join(str(first[key]) for key in ("name", "version") if first.get(key))


def _properties(component: dict[str, object], what: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in as_list(component.get("properties", []), what=f"{what}: properties"):
        entry = as_object(item, what=f"{what}: property")
        name, value = entry.get("name"), entry.get("value", "")
        if isinstance(name, str) and isinstance(value, str):
            result.setdefault(name, value)
    return result


def _distribution(components: list[dict[str, object]], what: str) -> Distribution | None:
    for item in components:
        if item.get("type") == "operating-system":
            version = item.get("version")
            return Distribution(
                id=identity_of(as_text(item.get("name"), what=f"{what}: operating system")),
                version=version if isinstance(version, str) else "",
                pretty_name=_properties(item, what).get(_PRETTY_NAME, ""),
            )
    return None


def _own_package(item: dict[str, object], what: str) -> Package:
    purl = as_text(item["purl"], what=f"{what}: purl")
    facts = {
        name.removeprefix(PREFIX): value
        for name, value in _properties(item, what).items()
        if name.startswith(PREFIX)
    }
    name, version = (as_text(item.get(k), what=f"{what}: {purl}: {k}") for k in ("name", "version"))
    return package_of(purl, parse_purl(purl), name, version, facts)


def _counts(item: dict[str, object]) -> bool:
    return "purl" in item or item.get("type") not in _WITHOUT_PURL


def _foreign(item: dict[str, object], what: str) -> tuple[str, str, dict[str, str]]:
    purl = as_text(item.get("purl", ""), what=f"{what}: purl")
    name = as_text(item.get("name", ""), what=f"{what}: component name")
    return name, purl, _properties(item, what)
