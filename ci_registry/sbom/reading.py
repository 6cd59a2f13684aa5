"""Reads an SBOM of either format."""

import re

from ci_registry.errors import IntegrityError
from ci_registry.sbom.cyclonedx import read_cyclonedx
from ci_registry.sbom.document import SbomDocument
from ci_registry.sbom.spdx import read_spdx

_LOOKED_AT = 65536


def read_sbom(data: bytes, *, what: str) -> SbomDocument:
    """Read a CycloneDX or SPDX JSON document.

    Raises:
        IntegrityError: it is neither, or is malformed.
    """
    head = data[:_LOOKED_AT] + data[-_LOOKED_AT:]
    if re.search(rb'"bomFormat"\s*:\s*"CycloneDX"', head):
        return read_cyclonedx(data, what=what)
    if re.search(rb'"spdxVersion"\s*:', head):
        return read_spdx(data, what=what)
    raise IntegrityError(
        f"{what}: neither CycloneDX nor SPDX 2 as JSON",
        hint="name an SBOM file that ci-registry, trivy or syft wrote as JSON",
    )
