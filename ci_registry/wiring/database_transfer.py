"""`db push` and `db pull`: an advisory database as a signed artifact in your own registries."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.advisories.artifact import (
    LAYER_TYPE,
    TRIVY_LAYER_TYPE,
    ArtifactConfig,
    write_config,
    write_manifest,
    write_trivy_manifest,
)
from ci_registry.advisories.compiled_file import DATABASE_FILE, DatabaseInfo
from ci_registry.errors import IncompleteError, RegistryError, SetupError, UsageError
from ci_registry.files import work_folder, work_root
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.manifest import Descriptor, parse_manifest
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.registry.interface import Repository
from ci_registry.signers.interface import Signer
from ci_registry.wiring.basis import Basis, Caller, read_basis
from ci_registry.wiring.registries import open_registries

if TYPE_CHECKING:
    from ci_registry.wiring.advisory_artifacts import Fetched

TRIVY_SUFFIX = "-trivy"
"""Of the tag of trivy's database, which stands in the same repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedDatabase:
    """What was written to one registry."""

    reference: Reference
    digest: Digest
    trivy: Reference | None
    """What to give to trivy as `--db-repository`."""
    signed: bool
    bytes_sent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Artifact:
    """One artifact, packed."""

    manifest: bytes
    blobs: tuple[tuple[Descriptor, "Path | bytes"], ...]

    @property
    def digest(self) -> Digest:
        """Of the manifest."""
        return digest_of(self.manifest)


def push_database(
    caller: Caller, folder: str, references: tuple[str, ...], *, sign: bool
) -> tuple[PushedDatabase, ...]:
    """Push a database to each reference: blobs, manifest, signature, and the tag last, read back.

    Raises:
        UsageError: no database, a reference with a digest, or a change request asks for a signature.
        SetupError: a signature is wanted, and there is no key.
        CiRegistryError: a registry failed, or what was written does not verify.
    """
    basis = read_basis(caller, needs_images=False, decides_verdict=sign)
    places = tuple(map(_place, references))
    signer = _signer(caller, basis) if sign else None
    hosts = tuple(place.registry for place in places)
    with (
        work_folder(work_root(caller.env)) as work,
        open_registries(caller, basis, hosts=hosts) as registries,
    ):
        info, artifacts = _pack(caller.folder / folder, folder, work)
        pushing = _Pushing(caller=caller, basis=basis, signer=signer, built_at=info.built_at)
        return tuple(pushing.push(registries.open(place), place, artifacts) for place in places)


def _place(text: str) -> Reference:
    reference = parse_reference(text.removeprefix("oci://"))
    if reference.digest is not None:
        raise UsageError(f"{reference} names a digest: a database is pushed to a tag")
    return reference.tagged(reference.tag or "latest")


def _signer(caller: Caller, basis: Basis) -> Signer:
    from ci_registry.wiring.signing import load_signer

    if basis.ci.is_change_request:
        raise UsageError(
            "a change that nobody has merged yet never signs an advisory database",
            hint="push it in the pipeline of the default branch or in a scheduled one",
        )
    signer = load_signer(caller, basis)
    if signer is None:
        raise SetupError(
            f"{basis.settings.sign.key} is not set, so the database would be unsigned",
            hint="name a key with --sign-key, or say --no-sign and have it named by digest",
        )
    return signer


def _pack(
    path: Path, shown: str, work: Path
) -> tuple[DatabaseInfo, tuple[_Artifact, _Artifact | None]]:
    """Check and pack the database, and trivy's where there is one."""
    from ci_registry.advisories.compiled import is_compiled, open_compiled
    from ci_registry.wiring.advisory_packing import pack_database

    if not is_compiled(path):
        raise UsageError(
            f"{shown} holds no {DATABASE_FILE}", hint="make it with: ci-registry db build"
        )
    file = path / DATABASE_FILE if path.is_dir() else path
    database = open_compiled(file)
    database.close()
    info = database.info
    trivy = _pack_trivy(path, info, work) if path.is_dir() else None
    config = write_config(
        ArtifactConfig(
            info=info,
            size_bytes=file.stat().st_size,
            trivy=trivy.digest if trivy is not None else None,
        )
    )
    layer = pack_database(file, work / "advisories.zst", LAYER_TYPE)
    manifest = write_manifest(config, layer, info.built_at)
    return info, (_artifact(manifest, config, layer, work / "advisories.zst"), trivy)


def _pack_trivy(folder: Path, info: DatabaseInfo, work: Path) -> _Artifact | None:
    from ci_registry.advisories.trivy_db import read_trivy_db
    from ci_registry.wiring.advisory_packing import pack_trivy

    try:
        updated_at = read_trivy_db(folder).updated_at
    except IncompleteError:
        return None
    if abs((updated_at - info.built_at).total_seconds()) >= 1:
        raise UsageError(
            f"{folder}: trivy's database is of {updated_at.isoformat()}, the other one of "
            f"{info.built_at.isoformat()}",
            hint="build both at once: ci-registry db build --trivy",
        )
    layer = pack_trivy(folder, work / "trivy.tar.gz", TRIVY_LAYER_TYPE)
    config = media_types.EMPTY_JSON
    manifest = write_trivy_manifest(config, layer, info.built_at)
    return _artifact(manifest, config, layer, work / "trivy.tar.gz")


def _artifact(manifest: bytes, config: bytes, layer: Descriptor, file: Path) -> _Artifact:
    size_bytes, digest = len(config), digest_of(config)
    described = Descriptor(media_type=media_types.OCI_EMPTY, digest=digest, size=size_bytes)
    return _Artifact(manifest=manifest, blobs=((layer, file), (described, config)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pushing:
    """What all registries get."""

    caller: Caller
    basis: Basis
    signer: Signer | None
    built_at: datetime

    def push(
        self,
        repository: Repository,
        place: Reference,
        artifacts: tuple[_Artifact, _Artifact | None],
    ) -> PushedDatabase:
        """Push to one repository: what ours refers to comes first, and no tag moves before all is there."""
        ours, trivy = artifacts
        trivy_place = place.tagged(f"{place.tag}{TRIVY_SUFFIX}") if trivy is not None else None
        written = [(trivy, trivy_place), (ours, place)]
        bytes_sent = 0
        for artifact, reference in written:
            if artifact is not None and reference is not None:
                bytes_sent += self._store(repository, artifact, reference)
        for artifact, reference in written:
            if artifact is not None and reference is not None:
                _tag(repository, artifact, reference)
        return PushedDatabase(
            reference=place,
            digest=ours.digest,
            trivy=trivy_place,
            signed=self.signer is not None,
            bytes_sent=bytes_sent,
        )

    def _store(self, repository: Repository, artifact: _Artifact, reference: Reference) -> int:
        """Push blobs and manifest, and sign; returns how many bytes travelled."""
        from ci_registry.wiring.advisory_packing import file_chunks

        bytes_sent = 0
        for blob, content in artifact.blobs:
            self.caller.cancel.check()

            def read(content: Path | bytes = content) -> Iterator[bytes]:
                return file_chunks(content) if isinstance(content, Path) else iter((content,))

            bytes_sent += repository.push_blob(blob, read).bytes_sent
        repository.push(artifact.digest, artifact.manifest, media_types.OCI_MANIFEST)
        if self.signer is not None:
            self._sign(self.signer, repository, artifact, reference)
        return bytes_sent

    def _sign(
        self, signer: Signer, repository: Repository, artifact: _Artifact, reference: Reference
    ) -> None:
        """Sign and read the signatures back."""
        from ci_registry.signers.attach import sign_image
        from ci_registry.verification.read_back import verify_signed_by

        subject = parse_manifest(artifact.manifest).descriptor
        formats = self.basis.settings.sign.format
        names = (reference,)
        sign_image(
            repository,
            subject,
            names,
            signer,
            formats,
            created_at=self.built_at,
            cancel=self.caller.cancel,
        )
        result = verify_signed_by(repository, subject, names, signer.public_key_pem, formats)
        if (failure := result.failure()) is not None:
            raise failure


def _tag(repository: Repository, artifact: _Artifact, reference: Reference) -> None:
    repository.push(reference.tag, artifact.manifest, media_types.OCI_MANIFEST)
    found = repository.resolve(reference.tag)
    if found is None or found.digest != artifact.digest:
        raise RegistryError(f"{reference} is not at {artifact.digest} after it was put there")


def pull_database(
    caller: Caller, references: tuple[str, ...], output: str | None, *, trivy: bool
) -> "Fetched":
    """Fetch the first database that a registry answers with into the cache, and copy it to a folder.

    Raises:
        CiRegistryError: none could be fetched, or nobody we trust signed it.
    """
    from ci_registry.wiring.databases import advisory_cache, artifact_reader

    basis = read_basis(caller, needs_images=False)
    wanted = references or basis.settings.scan.databases
    if not wanted:
        raise UsageError("no database is named", hint="name references, or set scan.databases")
    places = tuple(parse_reference(text.removeprefix("oci://")) for text in wanted)
    with open_registries(caller, basis) as registries:
        reader = artifact_reader(caller, basis, registries)
        if trivy:
            fetched = reader.fetch_trivy(places, advisory_cache(caller, basis, "trivy"))
            files: tuple[str, ...] = ("db/trivy.db", "db/metadata.json")
        else:
            fetched = reader.fetch_ours(places, advisory_cache(caller, basis, "advisories"))
            files = (DATABASE_FILE,)
    if output is not None:
        _copy(fetched.folder, caller.folder / output, files)
    return fetched


def _copy(source: Path, target: Path, files: tuple[str, ...]) -> None:
    """Copy files, each under a temporary name first."""
    for name in files:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.new")
        shutil.copyfile(source / name, temporary)
        temporary.replace(place)
