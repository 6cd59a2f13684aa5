"""Finds the inventory of an image that a trusted key attested."""

from ci_registry.errors import IncompleteError, IntegrityError, SignatureError
from ci_registry.oci.digest import Digest
from ci_registry.registry.interface import Repository
from ci_registry.sbom.document import SbomDocument
from ci_registry.signers.inventory import StoredInventory, read_inventories
from ci_registry.verification.trust import TrustedKeys


def attested_inventory(
    repository: Repository, digest: Digest, trusted: TrustedKeys
) -> SbomDocument:
    """Return the newest inventory of a platform manifest that a trusted key signed.

    Raises:
        IncompleteError: there is none, or more lies beside the image than we read.
        RegistryError: a listing or fetch failed; also `AccessError`, `NetworkError`.
    """
    found: list[SbomDocument] = []
    refused: list[str] = []
    for stored in read_inventories(repository, digest):
        try:
            if _is_trusted(stored, trusted):
                found.append(stored.document(digest))
            else:
                refused.append(f"{stored.place}: not signed by a trusted key")
        except IntegrityError as error:
            refused.append(error.headline)
    if not found:
        why = "; ".join(refused[:3]) or "no SBOM is attested"
        raise IncompleteError(
            f"{repository.name}@{digest} has no trusted inventory: {why}",
            hint="run the pipeline again with a key, or let rescan read the image: --pull",
        )
    return max(found, key=lambda document: document.created_at)


def _is_trusted(stored: StoredInventory, trusted: TrustedKeys) -> bool:
    try:
        return trusted.signer_of(stored.signature, stored.signed_bytes) is not None
    except SignatureError:
        return False
