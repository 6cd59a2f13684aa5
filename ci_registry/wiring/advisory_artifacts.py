"""Fetches advisory databases from registries: verified, cached by digest, the next reference when one fails."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ci_registry.advisories.artifact import (
    ArtifactConfig,
    is_ours,
    our_layer,
    parse_config,
    trivy_layer,
)
from ci_registry.advisories.compiled_file import DATABASE_FILE
from ci_registry.cache import DiskCache
from ci_registry.errors import (
    CiRegistryError,
    IncompleteError,
    IntegrityError,
    NetworkError,
    RegistryError,
    SetupError,
)
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.oci.reference import Reference
from ci_registry.registry.content import bounded
from ci_registry.registry.interface import Repository
from ci_registry.wiring.advisory_cache import AdvisoryCache, Pointer

if TYPE_CHECKING:
    from ci_registry.advisories.compiled import CompiledDatabase
    from ci_registry.verification.trust import TrustedKeys

TRIVY_FILE = "db/trivy.db"
_BY_DIGEST = "digest"
_TRUST_HINT = (
    "set `trust` to the public key, or name the database by digest (REFERENCE@sha256:…), "
    "or set scan.db_signature to off"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A database that was fetched, or found in the cache."""

    folder: Path
    location: str
    """`registry/repository@digest`."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of database."""

    file: str
    """What a complete one has in its folder."""
    fetch: Callable[[Reference, AdvisoryCache], Fetched]
    built_at: Callable[[Path], datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactReader:
    """Fetches databases for one run."""

    open_repository: Callable[[Reference], Repository]
    find_trust: Callable[[], "TrustedKeys | None"]
    must_be_signed: bool
    """Off: nobody's signature is asked for."""
    say: Callable[[str], None]
    now: Callable[[], datetime]
    max_age: timedelta
    """A database of the cache as old as this does not stand in for one that can't be fetched."""
    exempt: frozenset[str] = field(default_factory=frozenset)
    """References that nobody signs: trivy's own published database."""
    checked: DiskCache | None = None
    """Remembers which files of the cache were found whole."""

    def fetch_ours(self, references: tuple[Reference, ...], cache: AdvisoryCache) -> Fetched:
        """Return the first of our databases that a registry answers with.

        When none does, the one in the cache is taken while it is young enough.

        Raises:
            SignatureError: nobody we trust signed it; the next reference is not tried then.
            IntegrityError: what came is not what was asked for; likewise.
            CiRegistryError: none could be fetched, and the cache holds none that is young enough.
        """
        return self._first(references, cache, _Kind(DATABASE_FILE, self._fetch_ours, _built_ours))

    def fetch_trivy(self, references: tuple[Reference, ...], cache: AdvisoryCache) -> Fetched:
        """The same for a trivy database: one that trivy publishes, or the one beside ours."""
        return self._first(references, cache, _Kind(TRIVY_FILE, self._fetch_trivy, _built_trivy))

    def cached(
        self, references: tuple[Reference, ...], cache: AdvisoryCache, *, trivy: bool = False
    ) -> Fetched | None:
        """Return what the cache holds of these references, of any without one; no network, any age."""
        file = TRIVY_FILE if trivy else DATABASE_FILE
        for pointer in self._usable(references, cache):
            folder = cache.entry(pointer.digest, file)
            if folder is not None:
                return _from_cache(pointer, folder)
        return None

    def _first(
        self,
        references: tuple[Reference, ...],
        cache: AdvisoryCache,
        kind: "_Kind",
    ) -> Fetched:
        failures: list[CiRegistryError] = []
        for reference in references:
            try:
                found = kind.fetch(reference, cache)
            except (RegistryError, NetworkError) as error:
                self.say(f"{reference} can't be had: {error.headline}")
                failures.append(error)
                continue
            notes = (*found.notes, *(f"not used: {error.headline}" for error in failures))
            return Fetched(folder=found.folder, location=found.location, notes=notes)
        for pointer in self._usable(references, cache):
            folder = cache.entry(pointer.digest, kind.file)
            built_at = kind.built_at(folder) if folder is not None else None
            if folder is None or built_at is None:
                continue
            if timedelta(0) <= self.now() - built_at <= self.max_age:
                note = (
                    f"no registry answered; the database of {built_at.isoformat()} that was fetched "
                    f"before is young enough: {failures[0].headline}"
                )
                self.say(note)
                location = _from_cache(pointer, folder).location
                return Fetched(folder=folder, location=location, notes=(note,))
        raise failures[0]

    def _usable(self, references: tuple[Reference, ...], cache: AdvisoryCache) -> Iterable[Pointer]:
        """Yield what the cache remembers, and somebody vouched for whom we still trust."""
        for pointer in cache.pointers(references):
            if self._is_vouched(pointer):
                yield pointer

    def _is_vouched(self, pointer: Pointer) -> bool:
        if not self.must_be_signed or pointer.vouched_by == _BY_DIGEST:
            return True
        if pointer.reference in self.exempt:
            return True
        trusted = self.find_trust()
        names = {key.fingerprint for key in trusted.keys} if trusted is not None else set()
        return pointer.vouched_by in names

    # --- ours

    def _fetch_ours(self, reference: Reference, cache: AdvisoryCache) -> Fetched:
        repository = self.open_repository(reference)
        pinned = reference.digest
        if pinned is not None and (folder := self._whole_entry(pinned, cache)):
            return Fetched(folder=folder, location=str(reference.at(pinned)))
        manifest = self._resolved(repository, reference)
        layer = our_layer(manifest, what=str(reference))
        vouched_by = self._vouch(repository, reference, manifest)
        folder = self._whole_entry(manifest.digest, cache)
        if folder is None:
            config = read_artifact_config(repository, manifest, what=str(reference))
            with cache.adding(manifest.digest, DATABASE_FILE) as folder:
                if not (folder / DATABASE_FILE).exists():
                    _unpack_ours(repository, layer, config, folder)
            folder = cache.own / manifest.digest.hex
        cache.remember(
            Pointer(reference=str(reference), digest=manifest.digest, vouched_by=vouched_by)
        )
        return Fetched(
            folder=folder,
            location=str(reference.at(manifest.digest)),
            notes=self._unsigned_note(reference, vouched_by),
        )

    def _whole_entry(self, digest: Digest, cache: AdvisoryCache) -> Path | None:
        """Return a database of the cache, unless it was damaged there: then it is fetched again."""
        from ci_registry.advisories.compiled import open_compiled

        folder = cache.entry(digest, DATABASE_FILE)
        if folder is None:
            return None
        try:
            open_compiled(folder, cache=self.checked).close()
        except IntegrityError as error:
            self.say(f"{error.headline}; fetched again")
            cache.drop(digest)
            return None
        return folder

    # --- trivy's

    def _fetch_trivy(self, reference: Reference, cache: AdvisoryCache) -> Fetched:
        repository = self.open_repository(reference)
        manifest = self._resolved(repository, reference)
        vouched_by = self._vouch(repository, reference, manifest)
        named = manifest.digest
        if is_ours(manifest):
            our_layer(manifest, what=str(reference))
            config = read_artifact_config(repository, manifest, what=str(reference))
            if config.trivy is None:
                raise SetupError(
                    f"{reference} has no trivy database beside it",
                    hint="build it with: ci-registry db build --trivy",
                )
            named = config.trivy
            manifest = repository.fetch(named)
        layer = trivy_layer(manifest, what=str(reference))
        folder = cache.entry(named, TRIVY_FILE)
        if folder is None:
            from ci_registry.scanners.trivy_install import install_trivy_db

            with cache.adding(named, TRIVY_FILE) as folder:
                if not (folder / TRIVY_FILE).exists():
                    what = f"blob {layer.digest} of {reference.name}"
                    chunks = bounded(repository.open(layer.digest), layer.size, what=what)
                    install_trivy_db(chunks, folder)
            folder = cache.own / named.hex
        cache.remember(Pointer(reference=str(reference), digest=named, vouched_by=vouched_by))
        return Fetched(
            folder=folder,
            location=str(reference.at(named)),
            notes=self._unsigned_note(reference, vouched_by),
        )

    # --- who vouches

    @staticmethod
    def _resolved(repository: Repository, reference: Reference) -> Manifest | Index:
        """Fetch the manifest; when both are named, the digest counts and the tag does not."""
        return repository.fetch(reference.digest or reference.tag or "latest")

    def _vouch(
        self, repository: Repository, reference: Reference, manifest: Manifest | Index
    ) -> str:
        """Return who answers for a database: the digest that was named, or a key that signed it."""
        if reference.digest is not None:
            return _BY_DIGEST
        if not self.must_be_signed or str(reference) in self.exempt:
            return ""
        trusted = self.find_trust()
        if trusted is None:
            raise SetupError(
                f"nobody can tell who made the advisory database {reference}: there is no public key",
                hint=_TRUST_HINT,
            )
        return verified_signer(repository, reference, manifest, trusted)

    def _unsigned_note(self, reference: Reference, vouched_by: str) -> tuple[str, ...]:
        if vouched_by or str(reference) in self.exempt:
            return ()
        return (f"nobody was asked to vouch for {reference}: scan.db_signature is off",)


def verified_signer(
    repository: Repository,
    reference: Reference,
    manifest: Manifest | Index,
    trusted: "TrustedKeys",
) -> str:
    """Verify the signature of a database as one of this repository; returns the key's fingerprint.

    Raises:
        SignatureError: no trusted key signed it.
        IncompleteError: that could not be decided.
        RegistryError: a listing failed; also `AccessError`, `NetworkError`.
    """
    from ci_registry.verification.trust import TrustedKeys
    from ci_registry.verification.verify import verify_image

    failure: CiRegistryError | None = None
    for key in trusted.keys:
        result = verify_image(
            repository,
            manifest.descriptor,
            reference=reference,
            trusted=TrustedKeys(keys=(key,), source=trusted.source),
            require_tag=False,
        )
        failure = result.failure()
        if failure is None:
            return key.fingerprint
    raise failure or IntegrityError(f"{reference}: no key to verify with")


def read_artifact_config(
    repository: Repository, manifest: Manifest | Index, *, what: str
) -> ArtifactConfig:
    """Read the config of one of our artifacts.

    Raises:
        IntegrityError: it is malformed, or has another digest.
        RegistryError: it can't be fetched.
    """
    our_layer(manifest, what=what)
    if isinstance(manifest, Index):
        raise IntegrityError(f"{what} is an index")
    config = manifest.config
    data = b"".join(bounded(repository.open(config.digest), config.size, what=f"{what}: config"))
    return parse_config(data, what=f"{what}: config")


def _unpack_ours(
    repository: Repository, layer: Descriptor, config: ArtifactConfig, folder: Path
) -> None:
    """Fetch, unpack and check the database; it gets its name last."""
    from ci_registry.wiring.advisory_packing import unpack_database

    unpacked = folder / "unpacked.sqlite"
    what = f"blob {layer.digest} of {repository.name}"
    chunks = bounded(repository.open(layer.digest), layer.size, what=what)
    unpack_database(chunks, unpacked, size_bytes=config.size_bytes)
    with contextlib.closing(_open(unpacked)) as database:
        if database.info != config.info:
            raise IntegrityError(
                f"{repository.name}: the database is not the one that its config describes"
            )
    unpacked.rename(folder / DATABASE_FILE)


def _from_cache(pointer: Pointer, folder: Path) -> Fetched:
    name = pointer.reference.partition("@")[0]
    return Fetched(folder=folder, location=f"{name}@{pointer.digest} (cached)")


def _open(path: Path) -> "CompiledDatabase":
    from ci_registry.advisories.compiled import open_compiled

    return open_compiled(path)


def _built_ours(folder: Path) -> datetime | None:
    with contextlib.closing(_open(folder)) as database:
        return database.info.built_at


def _built_trivy(folder: Path) -> datetime | None:
    from ci_registry.advisories.trivy_db import read_trivy_db

    try:
        return read_trivy_db(folder).updated_at
    except IncompleteError:
        return None
