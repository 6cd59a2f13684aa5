"""SPDX 2.3 as JSON: the writer, and a reader for ours, trivy's and syft's documents."""

import json
import re
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
from ci_registry.sbom.trivy_words import identity_of, source_of, trivy_facts
from ci_registry.strict import as_list, as_object, as_text, parse_json

_DOCUMENT, _IMAGE = "SPDXRef-DOCUMENT", "SPDXRef-Image"
_SYSTEM = "SPDXRef-OperatingSystem"
"""Trivy knows an operating system by the beginning of this name."""
_NO_ASSERTION = "NOASSERTION"
_FACT = re.compile(rf"{PREFIX}([a-z-]+) (.*)", re.DOTALL)
"""Comment of our annotations: `ci-registry:<fact> <text>`."""


_BUILT_FROM = re.compile(r"built package from: (\S+) (\S+)")


def write_spdx(document: SbomDocument) -> bytes:
    """Return the document as JSON, with a line per member; the same input gives the same bytes."""
    inventory = document.inventory
    created = document.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    annotate = _Annotations(created, document.tool)
    system = [_system(inventory.distribution)] if inventory.distribution else []
    identity = f"{document.image}@{inventory.manifest_digest} {created}"
    body = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": document.image,
        "documentNamespace": f"urn:uuid:{uuid5(NAMESPACE_URL, identity)}",
        "creationInfo": {"created": created, "creators": [annotate.creator]},
        "packages": [
            _image(document, annotate),
            *system,
            *(_package(p, n, annotate) for n, p in enumerate(inventory.packages, 1)),
        ],
        "relationships": list(_relationships(inventory)),
    }
    return json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n"


class _Annotations:
    """Writes what SPDX has no member for as annotations of a package."""

    def __init__(self, created: str, tool: str) -> None:
        self._created = created
        self.creator = f"Tool: {tool.replace(' ', '-') or 'ci-registry'}"

    def of(self, facts: dict[str, str]) -> list[dict[str, str]]:
        return self.texts(*(f"{PREFIX}{fact} {text}" for fact, text in facts.items()))

    def texts(self, *comments: str) -> list[dict[str, str]]:
        return [
            {
                "annotationDate": self._created,
                "annotationType": "OTHER",
                "annotator": self.creator,
                "comment": comment,
            }
            for comment in comments
        ]


def _image(document: SbomDocument, annotate: _Annotations) -> dict[str, object]:
    facts = {"image": json.dumps(image_facts(document.inventory), separators=(",", ":"))}
    if document.coverage is not None:
        record = coverage_to_json(document.coverage)
        facts["coverage"] = json.dumps(record, separators=(",", ":"))
    return {
        "SPDXID": _IMAGE,
        "name": document.image,
        "versionInfo": document.inventory.manifest_digest,
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "annotations": annotate.of(facts),
    }


def _system(distribution: Distribution) -> dict[str, object]:
    package: dict[str, object] = {
        "SPDXID": _SYSTEM,
        "name": distribution.id,
        "versionInfo": distribution.version,
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "OPERATING_SYSTEM",
    }
    return package | ({"summary": distribution.pretty_name} if distribution.pretty_name else {})


def _id(number: int) -> str:
    return f"SPDXRef-Package-{number}"


def _package(package: Package, number: int, annotate: _Annotations) -> dict[str, object]:
    result: dict[str, object] = {
        "SPDXID": _id(number),
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "LIBRARY",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl,
            }
        ],
    }
    words = trivy_facts(package)
    if words:
        result["sourceInfo"] = "built package from: " + " ".join(source_of(package))
    elif package.path:
        result["sourceInfo"] = f"read from {package.path}"
    annotations = annotate.of(package_facts(package))
    if package.module:
        annotations += annotate.texts(f"Modularitylabel: {package.module}")
    return result | ({"annotations": annotations} if annotations else {})


def _relationships(inventory: Inventory) -> Iterator[dict[str, str]]:
    """Say what the image contains, and which OS package contains a language package."""
    yield _relationship(_DOCUMENT, "DESCRIBES", _IMAGE)
    if inventory.distribution is not None:
        yield _relationship(_IMAGE, "CONTAINS", _SYSTEM)
    owners = {p.name: n for n, p in enumerate(inventory.packages, 1) if not p.owner}
    for number, package in enumerate(inventory.packages, 1):
        yield _relationship(_IMAGE, "CONTAINS", _id(number))
        if package.owner in owners:
            yield _relationship(_id(owners[package.owner]), "CONTAINS", _id(number))


def _relationship(source: str, kind: str, target: str) -> dict[str, str]:
    return {
        "spdxElementId": source,
        "relationshipType": kind,
        "relatedSpdxElement": target,
    }


def read_spdx(data: bytes, *, what: str) -> SbomDocument:
    """Read an SPDX 2.3 (or 2.2) JSON document, ours or another program's.

    Args:
        data: the document.
        what: names it in errors.

    Raises:
        IntegrityError: it is none, is too large, or a part that is looked at has the wrong shape.
    """
    root = as_object(parse_json(data, what=what, max_bytes=MAX_SBOM_BYTES), what=what)
    version = root.get("spdxVersion")
    if version not in ("SPDX-2.2", "SPDX-2.3"):
        raise IntegrityError(f"{what}: no SPDX 2.2 or 2.3 document")
    items = as_list(root.get("packages", []), what=f"{what}: packages")
    if len(items) > MAX_COMPONENTS:
        raise IntegrityError(f"{what}: more than {MAX_COMPONENTS} packages")
    packages = [as_object(item, what=f"{what}: package") for item in items]
    info = as_object(root.get("creationInfo"), what=f"{what}: creationInfo")
    created_at = time_of(as_text(info.get("created"), what=f"{what}: created"), what)
    name = as_text(root.get("name", ""), what=f"{what}: name")
    tool = _tool(info)
    image = next((p for p in packages if p.get("SPDXID") == _IMAGE), {})
    facts = _facts(image, what)
    distribution = _distribution(packages, what)
    if "image" not in facts:
        inventory = foreign_inventory(
            [foreign_package(*_foreign(p, what)) for p in packages if _counts(p)],
            distribution,
            [str(p.get("versionInfo", "")) for p in packages if not _counts(p)],
        )
        return SbomDocument(
            image=name, inventory=inventory, created_at=created_at, tool=tool, names_unread=False
        )
    own = [_own_package(p, what) for p in packages if p is not image and _purl(p, what)]
    inventory = inventory_of(
        parse_json(facts["image"].encode(), what=what), distribution, sorted_packages(own), what
    )
    record = facts.get("coverage")
    return SbomDocument(
        image=name,
        inventory=inventory,
        created_at=created_at,
        tool=tool,
        coverage=None
        if record is None
        else coverage_from_json(parse_json(record.encode(), what=what), inventory, what),
    )


def _tool(info: dict[str, object]) -> str:
    """Return `name version` of the tool that made it; the last dash stands before the version."""
    creators = info.get("creators")
    for creator in creators if isinstance(creators, list) else []:
        if isinstance(creator, str) and creator.startswith("Tool: "):
            name, dash, version = creator.removeprefix("Tool: ").rpartition("-")
            return f"{name} {version}" if dash and version[:1].isdigit() else name + dash + version
    return ""


def _facts(package: dict[str, object], what: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in as_list(package.get("annotations", []), what=f"{what}: annotations"):
        comment = as_object(item, what=f"{what}: annotation").get("comment")
        found = _FACT.fullmatch(comment) if isinstance(comment, str) else None
        if found:
            result.setdefault(found[1], found[2])
    return result


def _purl(package: dict[str, object], what: str) -> str:
    for item in as_list(package.get("externalRefs", []), what=f"{what}: externalRefs"):
        entry = as_object(item, what=f"{what}: externalRef")
        if entry.get("referenceType") == "purl":
            return as_text(entry.get("referenceLocator"), what=f"{what}: purl")
    return ""


_SYSTEMS = ("OPERATING_SYSTEM", "OPERATING-SYSTEM")
"""The schema has the first, the text of the specification and trivy the second."""
_NO_PACKAGES = frozenset(
    {"CONTAINER", *_SYSTEMS, "APPLICATION", "FILE", "SOURCE", "ARCHIVE", "DEVICE"}
)


def _counts(package: dict[str, object]) -> bool:
    """Whether it is a package of the image, and not the image, its system or a lock file."""
    purl = _purl(package, "package")
    if purl:
        return not purl.startswith("pkg:oci/")
    return package.get("primaryPackagePurpose") not in _NO_PACKAGES


def _distribution(packages: list[dict[str, object]], what: str) -> Distribution | None:
    for item in packages:
        if item.get("primaryPackagePurpose") in _SYSTEMS:
            version, pretty = item.get("versionInfo"), item.get("summary")
            return Distribution(
                id=identity_of(as_text(item.get("name"), what=f"{what}: operating system")),
                version=version if isinstance(version, str) else "",
                pretty_name=pretty if isinstance(pretty, str) else "",
            )
    return None


def _own_package(item: dict[str, object], what: str) -> Package:
    purl = _purl(item, what)
    name, version = (
        as_text(item.get(k), what=f"{what}: {purl}: {k}") for k in ("name", "versionInfo")
    )
    return package_of(purl, parse_purl(purl), name, version, _facts(item, what))


def _foreign(item: dict[str, object], what: str) -> tuple[str, str, dict[str, str]]:
    """Return name, purl, and what trivy says in `Key: value` texts and in a sentence."""
    properties = {}
    notes = as_list(item.get("attributionTexts", []), what=f"{what}: attributionTexts")
    for note in as_list(item.get("annotations", []), what=f"{what}: annotations"):
        notes = [*notes, as_object(note, what=f"{what}: annotation").get("comment")]
    for note in notes:
        key, colon, value = note.partition(": ") if isinstance(note, str) else ("", "", "")
        if colon:
            properties[f"aquasecurity:trivy:{key}"] = value
    source = item.get("sourceInfo")
    found = _BUILT_FROM.fullmatch(source) if isinstance(source, str) else None
    if found:
        properties["aquasecurity:trivy:SrcName"] = found[1]
        properties["aquasecurity:trivy:SrcVersion"] = found[2]
    return as_text(item.get("name", ""), what=f"{what}: name"), _purl(item, what), properties
