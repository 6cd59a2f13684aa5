"""A repository in a remote registry, over the OCI distribution API 1.1."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from ci_registry.errors import CiRegistryError, IntegrityError, NotFoundError, RegistryError
from ci_registry.events import EventSink, ignore_events
from ci_registry.network.client import HttpClient
from ci_registry.network.message import Response
from ci_registry.oci import media_types
from ci_registry.oci.digest import Digest, digest_of, is_digest
from ci_registry.oci.manifest import (
    MAX_MANIFEST_BYTES,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from ci_registry.oci.reference import Reference, is_tag, parse_reference
from ci_registry.registry.auth import access_to
from ci_registry.registry.content import verified_manifest
from ci_registry.registry.credentials import CredentialChain, CredentialSource
from ci_registry.registry.downloads import download
from ci_registry.registry.failures import tag_refusal
from ci_registry.registry.fallback_list import FallbackList
from ci_registry.registry.fallback_writers import FallbackWriters
from ci_registry.registry.interface import (
    BlobSource,
    PushedBlob,
    PushedManifest,
    Repository,
)
from ci_registry.registry.quirks import UntagBy
from ci_registry.registry.referrers import (
    check_subject,
    fallback_referrers,
    listed_referrers,
    merged,
    referrer_descriptor,
)
from ci_registry.registry.session import Session
from ci_registry.registry.tag_pages import tag_pages
from ci_registry.registry.uploads import Uploader

_UNNAMED_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})


class RemoteRegistry:
    """Makes repositories; those of one registry share login, tokens and connections."""

    def __init__(
        self,
        client: HttpClient,
        *,
        credentials: CredentialSource | None = None,
        on_event: EventSink = ignore_events,
        realms: Mapping[str, str] = MappingProxyType({}),
        lock_folder: Path | None = None,
    ) -> None:
        """Prepare.

        Args:
            client: sends the requests.
            credentials: where logins are found.
            on_event: gets warnings.
            realms: where the credentials of a host may be sent: host → prefix of the address.
            lock_folder: shared by the runs of this machine, see `FallbackWriters`.
        """
        self._writers = FallbackWriters(lock_folder)
        self._client = client
        self._credentials = credentials or CredentialChain()
        self._realms = {host.lower(): realm for host, realm in realms.items()}
        self._on_event = on_event
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._repositories: dict[str, RemoteRepository] = {}

    def repository(self, reference: Reference | str) -> "RemoteRepository":
        """Return the repository of a reference; its tag and digest do not matter.

        Raises:
            UsageError: the text is no reference.
        """
        found = parse_reference(reference) if isinstance(reference, str) else reference
        with self._lock:
            if found.name not in self._repositories:
                session = self._sessions.get(found.registry)
                if session is None:
                    session = self._sessions[found.registry] = Session(
                        self._client,
                        found.registry,
                        credentials=self._credentials,
                        on_event=self._on_event,
                        realm=self._realms.get(found.registry.lower(), ""),
                    )
                self._repositories[found.name] = RemoteRepository(
                    session, found.repository, self._writers
                )
            return self._repositories[found.name]


def check_push_right(repository: Repository) -> None:
    """Find out before any work whether we may push; a repository that is not remote has no such right.

    Raises:
        AccessError: we may not push here.
        NotFoundError: the repository must be created first.
    """
    if isinstance(repository, RemoteRepository):
        repository.try_upload()


class RemoteRepository:
    """One repository of a remote registry; implements `interface.Repository`."""

    def __init__(
        self, session: Session, repository: str, writers: FallbackWriters | None = None
    ) -> None:
        self._session = session
        self._repository = repository
        self._uploader = Uploader(session, repository)
        self._read = access_to(repository, "pull")
        self._write = access_to(repository, "pull", "push")
        self._fallback = FallbackList(self, session, writers or FallbackWriters())
        self._lock = threading.Lock()
        self._attached: dict[Digest, frozenset[Digest]] = {}
        self._long_names: dict[Digest, Digest] = {}
        """What was put under another digest than sha256, by its sha256: its tags get that digest too."""

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self._session.host}/{self._repository}"

    def _shown(self, reference: str) -> str:
        return f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"

    def _manifest_url(self, reference: str) -> str:
        if not is_digest(reference) and not is_tag(reference):
            raise IntegrityError(f"neither a tag nor a digest: {reference[:140]!r}")
        return self._session.url(f"{self._repository}/manifests/{reference}")

    def _failure(self, response: Response, doing: str, *, writing: bool = False) -> CiRegistryError:
        return self._session.failure(response, doing, writing=writing)

    # --- manifests

    def resolve(self, reference: str) -> Descriptor | None:
        """Return what a tag or digest points at, None when it is absent; HEAD, GET only if that says too little."""
        response = self._session.send(
            "HEAD",
            self._manifest_url(reference),
            self._read,
            headers={"Accept": media_types.ACCEPT},
        )
        if response.status == 404:
            return None
        if not response.ok and response.status not in (405, 501):
            raise self._failure(response, f"look up {self._shown(reference)}")
        digest = response.headers.get("Docker-Content-Digest")
        media_type = response.headers.get("Content-Type").partition(";")[0].strip()
        length = response.headers.get("Content-Length")
        complete = response.ok and is_digest(digest) and length.isdigit() and int(length) > 0
        if not complete or media_type in _UNNAMED_TYPES:
            return self._resolve_by_get(reference)
        if is_digest(reference) and digest != reference:
            digest = self.fetch(reference).digest
        return Descriptor(media_type=media_type, digest=Digest(digest), size=int(length))

    def _resolve_by_get(self, reference: str) -> Descriptor | None:
        try:
            return self.fetch(reference).descriptor
        except NotFoundError:
            return None

    def fetch(self, reference: str) -> Manifest | Index:
        """Return the manifest at a tag or digest; the bytes must have the digest asked for, or announced.

        Raises:
            NotFoundError: there is none.
        """
        response = self._session.send(
            "GET",
            self._manifest_url(reference),
            self._read,
            headers={"Accept": media_types.ACCEPT},
        )
        if not response.ok:
            raise self._failure(response, f"read {self._shown(reference)}")
        if len(response.body) > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{self._shown(reference)}: too large for a manifest")
        announced = response.headers.get("Docker-Content-Digest")
        expected = reference if is_digest(reference) else announced
        media_type = response.headers.get("Content-Type").partition(";")[0].strip()
        return verified_manifest(
            response.body,
            media_type="" if media_type in _UNNAMED_TYPES else media_type,
            expected=Digest(expected) if is_digest(expected) else None,
            what=self._shown(reference),
        )

    def push(
        self,
        reference: str,
        body: bytes,
        media_type: str,
        *,
        condition: Mapping[str, str] = MappingProxyType({}),
    ) -> PushedManifest:
        """Put manifest bytes under a tag or digest; the registry must answer with their digest.

        `condition` are header fields like `If-Match`; most registries take no notice of them.

        Raises:
            AccessError: no push right, or the tag exists and is immutable.
        """
        manifest = parse_manifest(body, media_type)
        digest = self._digest_of(reference, body)
        url = self._manifest_url(reference)
        if not is_digest(reference) and digest.algorithm != "sha256":
            url += f"?digest={digest}"  # registries that don't know this parameter take sha256
        response = self._session.send(
            "PUT",
            url,
            self._write,
            headers={"Content-Type": manifest.media_type, **condition},
            body=lambda: iter((body,)),
            size_bytes=len(body),
        )
        if not response.ok:
            raise self._push_failure(response, reference)
        confirmed = self._check_stored(response, body)
        subject = response.headers.get("OCI-Subject")
        kept = manifest.subject is not None and subject == manifest.subject.digest
        return PushedManifest(
            digest=digest, subject=Digest(subject) if kept else None, confirmed=confirmed
        )

    def _digest_of(self, reference: str, body: bytes) -> Digest:
        """Return the digest to store a manifest under: of its own name, or the one it was put under before."""
        if not is_digest(reference):
            digest = digest_of(body)
            return self._long_names.get(digest, digest)
        digest = digest_of(body, Digest(reference).algorithm)
        if digest != reference:
            raise IntegrityError(f"the manifest has digest {digest}, not {reference}")
        if digest.algorithm != "sha256":
            self._long_names[digest_of(body)] = digest
        return digest

    def _push_failure(self, response: Response, reference: str) -> CiRegistryError:
        if not is_digest(reference):
            refusal = tag_refusal(response, tag=reference, name=self.name)
            if refusal is not None:
                return refusal
        return self._failure(response, f"push {self._shown(reference)}", writing=True)

    def _check_stored(self, response: Response, body: bytes) -> bool:
        """Compare the digest in the answer; False: the specification lets a registry leave it out."""
        said = response.headers.get("Docker-Content-Digest")
        if said and not (is_digest(said) and digest_of(body, Digest(said).algorithm) == said):
            raise IntegrityError(
                f"{self.name} stored another manifest than was sent: "
                f"{said[:140]!r} instead of {digest_of(body)}"
            )
        return bool(said)

    def delete(self, digest: Digest) -> None:
        """Delete a manifest by digest, with every tag on it; a missing one is fine."""
        url = self._manifest_url(Digest(digest))
        response = self._session.send("DELETE", url, access_to(self._repository, "delete"))
        if not response.ok and response.status not in (404, 410):
            raise self._failure(response, f"delete {self._shown(digest)}", writing=True)
        if not response.ok and self.resolve(digest) is not None:  # so DELETE is what is not found
            raise self._no_untag(f"cannot delete {self._shown(digest)}: HTTP {response.status}")
        with self._lock:
            self._attached = {s: found - {digest} for s, found in self._attached.items()}

    def untag(self, tag: str) -> bool:
        """Delete a tag and nothing else; False when it was not there.

        Where the registry is known to have another way for it, nothing is sent: deleting by digest
        instead would take the other tags along.

        Raises:
            RegistryError: with code `UNSUPPORTED` when this registry can't do that (400, 405, 501).
            AccessError: no right to delete, or the tag is immutable.
        """
        if not is_tag(tag):
            raise IntegrityError(f"not a tag: {tag[:140]!r}")
        doing = f"delete tag {tag} of {self.name}"
        if self._session.quirks.untag is UntagBy.OWN_API:
            raise self._no_untag(f"cannot {doing}")
        access = access_to(self._repository, "pull", "delete")
        response = self._session.send("DELETE", self._manifest_url(tag), access)
        if response.ok:
            return True
        if response.status in (404, 410):
            if self.resolve(tag) is not None:  # so it is the way to delete that is not found
                raise self._no_untag(f"cannot {doing}: HTTP {response.status}", response.status)
            return False
        if refusal := tag_refusal(response, tag=tag, name=self.name):
            raise refusal
        error = self._failure(response, doing, writing=True)
        if response.status in (400, 405, 501):
            raise self._no_untag(error.message, response.status)
        raise error

    def _no_untag(self, message: str, status: int = 0) -> RegistryError:
        advice = self._session.quirks.untag_advice
        return RegistryError(message, status=status, code="UNSUPPORTED", hint=advice)

    # --- blobs

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob, None when it is absent."""
        return self._uploader.size_of(digest, self._read)

    def open(self, digest: Digest) -> Iterator[bytes]:
        """Yield the raw bytes; raises `IntegrityError` at the end when they have another digest."""
        return download(self._session, self._repository, digest, self._read)

    def push_blob(
        self,
        descriptor: Descriptor,
        source: BlobSource,
        *,
        mount_from: tuple[str, ...] = (),
        is_new: bool = False,
    ) -> PushedBlob:
        """Make sure the blob is there: skip when present (not asked if `is_new`), else mount, else one PUT.

        `mount_from` holds repositories as their `name` gives them; those on other registries are skipped.
        """
        return self._uploader.push(descriptor, source, mount_from, is_new=is_new)

    def try_upload(self) -> None:
        """Open an upload and give it up again; see `check_push_right`."""
        self._uploader.cancel(self._uploader.begin())

    # --- referrers and tags

    def referrers(self, subject: Digest, *, with_fallback: bool = True) -> tuple[Descriptor, ...]:
        """Return every referrer, from the API and the fallback tag unless the caller knows of none, merged."""
        listed = listed_referrers(self._session, self._repository, Digest(subject))
        if with_fallback:
            listed = merged(listed, fallback_referrers(self, Digest(subject)), subject=subject)
        for lost in self._attached.get(Digest(subject), frozenset()) - {d.digest for d in listed}:
            self._session.warn(
                f"{self.name}: {lost}, which this run attached to {subject}, is in no listing:"
                " another writer removed it"
            )
        return listed

    def attach(self, subject: Descriptor, body: bytes, media_type: str) -> Digest:
        """Put a manifest that has `subject`, by digest; maintain the fallback index where needed."""
        manifest = parse_manifest(body, media_type)
        check_subject(manifest, subject)
        pushed = self.push(manifest.digest, body, media_type)
        if pushed.subject is None:
            self._fallback.add(subject.digest, referrer_descriptor(manifest))
        with self._lock:
            known = self._attached.get(subject.digest, frozenset())
            self._attached[subject.digest] = known | {pushed.digest}
        return pushed.digest

    def unlist(self, subject: Digest, referrer: Digest) -> None:
        """Take a deleted referrer out of the fallback index of its subject, if it is in one."""
        self._fallback.remove(subject, referrer)

    def tags(self) -> tuple[str, ...]:
        """Return all tags, sorted; empty when the repository does not exist."""
        return tuple(sorted(tag for page in self.tag_pages() for tag in page))

    def tag_pages(self) -> Iterator[tuple[str, ...]]:
        """Yield the tags page by page as the registry lists them, each tag once."""
        return tag_pages(self._session, self._repository, self._read)
