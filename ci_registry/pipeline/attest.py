"""Attests the inventory of a platform beside its signatures, for later matches without a pull."""

from datetime import UTC, datetime

from ci_registry.errors import SignatureError
from ci_registry.oci.reference import Reference
from ci_registry.pipeline.sboms import sbom_document
from ci_registry.pipeline.state import ImageRun
from ci_registry.registry.interface import Repository
from ci_registry.results import PlatformImage
from ci_registry.signers.interface import Signer
from ci_registry.signers.inventory import attach_inventory
from ci_registry.verification.inventory import attested_inventory
from ci_registry.verification.trust import parse_trust


def attest_inventory(  # noqa: PLR0917 - one caller
    target: Repository,
    place: Reference,
    image: ImageRun,
    platform: PlatformImage,
    signer: Signer,
    created: datetime,
) -> list[str]:
    """Attest the SBOM of one platform, read it back and verify; says what was done.

    Raises:
        SignatureError: what is there is not what was written.
        CiRegistryError: as `signers.inventory.attach_inventory`.
    """
    created_at = created.replace(microsecond=0).astimezone(UTC)
    document = sbom_document(place.name, platform, image.scans, created_at=created_at)
    if not attach_inventory(target, platform.manifest, document, signer, created_at=created):
        return ["inventory already attested"]
    trusted = parse_trust(signer.public_key_pem, "the signer")
    found = attested_inventory(target, platform.manifest.digest, trusted)
    if found.inventory != document.inventory:
        raise SignatureError(f"the inventory attested at {place.name} is not the one written")
    return ["inventory attested"]
