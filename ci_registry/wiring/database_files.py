"""`db build` and `db info`: makes an advisory database, and says what one holds."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ci_registry.advisories.build import BuildRequest, Built, build_database
from ci_registry.advisories.compiled_file import DatabaseInfo
from ci_registry.errors import IncompleteError, SignatureError, UsageError
from ci_registry.oci.reference import parse_reference
from ci_registry.wiring.basis import Caller, read_basis
from ci_registry.wiring.registries import open_registries


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A database, wherever it is."""

    location: str
    """The path, or `registry/repository@digest`."""
    info: DatabaseInfo
    now: datetime
    trivy_at: datetime | None = None
    """When the trivy database beside it was made."""
    trivy_digest: str = ""
    """Of its manifest, in a registry."""
    signed_by: str | None = None
    """Fingerprint of the trusted key that signed it; empty when none did, None when nobody looked."""

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        document: dict[str, object] = {
            "schema_version": 1,
            "location": self.location,
            "age_hours": round(self.age_hours, 1),
            **self.info.to_json(),
        }
        if self.trivy_at is not None:
            document["trivy"] = {"date": self.trivy_at.isoformat()}
        if self.trivy_digest:
            document["trivy"] = {"digest": self.trivy_digest}
        if self.signed_by is not None:
            document["signed_by"] = self.signed_by
        return document

    @property
    def age_hours(self) -> float:
        """Hours since the data was made."""
        return (self.now - self.info.built_at).total_seconds() / 3600


def build(caller: Caller, request: BuildRequest) -> Built:
    """Build a database; paths in the request are relative to the caller's folder.

    Raises:
        UsageError: a source does not exist, or nobody says how old or how complete it is.
        CiRegistryError: a record or list is malformed, or something can't be read or written.
    """
    folder = caller.folder
    return build_database(
        replace(
            request,
            sources=tuple(folder / source for source in request.sources),
            output=folder / request.output,
            kev=folder / request.kev if request.kev else None,
            epss=folder / request.epss if request.epss else None,
        )
    )


def describe(caller: Caller, target: str) -> Described:
    """Look at a database: a file or folder, or a reference in a registry, of which only the config is read.

    Raises:
        UsageError: neither a database nor a reference.
        CiRegistryError: it can't be read, or is damaged.
    """
    path = caller.folder / target
    if path.exists():
        return _describe_path(caller, path, target)
    return _describe_reference(caller, target)


def _describe_path(caller: Caller, path: Path, shown: str) -> Described:
    from ci_registry.advisories.compiled import is_compiled, open_compiled
    from ci_registry.advisories.trivy_db import read_trivy_db

    if not is_compiled(path):
        raise UsageError(
            f"{shown} is no compiled advisory database",
            hint="make one of OSV records with: ci-registry db build",
        )
    database = open_compiled(path)
    database.close()
    trivy_at = None
    if path.is_dir():
        try:
            trivy_at = read_trivy_db(path).updated_at
        except IncompleteError:
            trivy_at = None  # there is none: it is an extra
    return Described(location=shown, info=database.info, now=caller.now(), trivy_at=trivy_at)


def _describe_reference(caller: Caller, target: str) -> Described:
    from ci_registry.verification.trust import find_trust
    from ci_registry.wiring.advisory_artifacts import read_artifact_config, verified_signer

    reference = parse_reference(target.removeprefix("oci://"))
    basis = read_basis(caller, needs_images=False, decides_verdict=False)
    with open_registries(caller, basis) as registries:
        repository = registries.open(reference)
        manifest = repository.fetch(reference.target)
        config = read_artifact_config(repository, manifest, what=str(reference))
        trusted = find_trust(basis.settings.trust, caller.env, basis.trusted.read)
        signed_by = None
        if trusted is not None:
            try:
                signed_by = verified_signer(repository, reference, manifest, trusted)
            except (SignatureError, IncompleteError):
                signed_by = ""
    return Described(
        location=str(reference.at(manifest.digest)),
        info=config.info,
        now=caller.now(),
        trivy_digest=str(config.trivy or ""),
        signed_by=signed_by,
    )
