"""Copies what belongs to an image beside its bytes: referrers, and cosign's signature tags.

Everything is copied by digest with its bytes unchanged, so signatures stay valid; what refers to a
signature or an SBOM follows it, level by level.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ci_registry.errors import IntegrityError, NotFoundError, RegistryError
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.companions import cosign_tags
from ci_registry.registry.interface import PushedBlob, Repository
from ci_registry.registry.parallel import in_parallel
from ci_registry.registry.referrers import fallback_tag
from ci_registry.registry.remote import RemoteRepository
from ci_registry.registry.shared_uploads import SharedUploads
from ci_registry.registry.transfer import blobs_of, manifests_of

MAX_LEVELS = 4
"""A signature of an SBOM of an image is two."""
MAX_ATTACHED = 5000
"""Everything that belongs to one image, over all levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What belongs to one manifest."""

    subject: Digest
    referrers: tuple[Descriptor, ...]
    cosign: tuple[tuple[str, Descriptor], ...]
    """Tag and what it points at."""

    @property
    def all(self) -> tuple[Descriptor, ...]:
        """Both kinds."""
        return (*self.referrers, *(descriptor for _, descriptor in self.cosign))


def find_attached(
    repository: Repository, subject: Digest, known_tags: frozenset[str] | None = None
) -> Attached:
    """Return the referrers and cosign tags of one manifest.

    Args:
        repository: where to look.
        subject: the manifest.
        known_tags: all tags of the repository when they were listed, so that none is asked for in vain.

    Raises:
        RegistryError: a listing failed; that is never "none".
        IntegrityError: there are too many.
    """
    asks = _asks(repository, subject, known_tags)
    return _attached(subject, {tag: ask() for tag, ask in asks.items()})


_Ask = Callable[[], tuple[Descriptor, ...]]
_REFERRERS = ""
"""Stands for a tag where the list of referrers is meant."""


def _asks(
    repository: Repository, subject: Digest, known_tags: frozenset[str] | None
) -> dict[str, _Ask]:
    """Return the questions to ask about one manifest: its referrers, and each cosign tag."""

    def referrers() -> tuple[Descriptor, ...]:
        if isinstance(repository, RemoteRepository):
            with_fallback = known_tags is None or fallback_tag(subject) in known_tags
            return repository.referrers(subject, with_fallback=with_fallback)
        return repository.referrers(subject)

    def at(tag: str) -> tuple[Descriptor, ...]:
        found = repository.resolve(tag)
        return () if found is None else (found,)

    wanted = [t for t in cosign_tags(subject) if known_tags is None or t in known_tags]
    return {_REFERRERS: referrers} | {tag: partial(at, tag) for tag in wanted}


def _attached(subject: Digest, answers: Mapping[str, tuple[Descriptor, ...]]) -> Attached:
    cosign = tuple((tag, found[0]) for tag, found in answers.items() if tag and found)
    return Attached(subject=subject, referrers=answers[_REFERRERS], cosign=cosign)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedOutcome:
    """What copying the attached artifacts of one image took."""

    copied: int = 0
    present: int = 0
    blobs: tuple[PushedBlob, ...] = ()
    notes: tuple[str, ...] = ()


class _Work:
    """Collects the outcome of one image."""

    def __init__(self) -> None:
        self.copied = 0
        self.present = 0
        self.blobs: list[PushedBlob] = []
        self.notes: list[str] = []


class AttachedCopier:
    """Copies attached artifacts between two repositories; may be used from several threads."""

    def __init__(
        self,
        source: Repository,
        target: Repository,
        *,
        uploads: SharedUploads,
        lookups: ThreadPoolExecutor,
        known_tags: frozenset[str] | None,
    ) -> None:
        """`known_tags` are those of the source when they were listed."""
        self._source = source
        self._target = target
        self._uploads = uploads
        self._lookups = lookups
        self._known_tags = known_tags

    def find(self, subjects: Iterable[Digest]) -> tuple[Attached, ...]:
        """Return what belongs to each of these manifests; all questions are asked at once."""
        asks = {
            subject: _asks(self._source, subject, self._known_tags)
            for subject in dict.fromkeys(subjects)
        }
        flat = [ask for by_tag in asks.values() for ask in by_tag.values()]
        answers = in_parallel(lambda ask: ask(), flat, pool=self._lookups)
        return tuple(
            _attached(subject, {tag: next(answers) for tag in by_tag})
            for subject, by_tag in asks.items()
        )

    def copy(self, found: tuple[Attached, ...], *, image: str) -> AttachedOutcome:
        """Copy what was found, what belongs to that, and so on.

        Raises:
            IntegrityError: more levels or artifacts than anybody needs.
            CiRegistryError: a transfer failed.
        """
        work = _Work()
        waiting = deque((attached, 1) for attached in found)
        seen = {attached.subject for attached in found}
        while waiting:
            attached, level = waiting.popleft()
            if not attached.all:
                continue
            self._check(attached, level, work)
            self._copy_one(attached, work, image)
            further = [d.digest for d in attached.all if d.digest not in seen]
            seen.update(further)
            waiting.extend((deeper, level + 1) for deeper in self.find(further))
        return AttachedOutcome(
            copied=work.copied,
            present=work.present,
            blobs=tuple(work.blobs),
            notes=tuple(work.notes),
        )

    def _check(self, attached: Attached, level: int, work: _Work) -> None:
        if level > MAX_LEVELS or work.copied + work.present > MAX_ATTACHED:
            raise IntegrityError(
                f"what refers to {attached.subject} is nested deeper than {MAX_LEVELS} levels"
                f" or more than {MAX_ATTACHED} artifacts",
                hint="copy the image with --no-referrers",
            )

    def _copy_one(self, attached: Attached, work: _Work, image: str) -> None:
        there = (
            {d.digest for d in self._target.referrers(attached.subject)}
            if attached.referrers
            else set()
        )
        for descriptor in attached.referrers:
            if descriptor.digest in there and self._target.resolve(descriptor.digest) is not None:
                work.present += 1
            else:
                self._copy_referrer(attached.subject, descriptor, work, image)
        for tag, descriptor in attached.cosign:
            self._copy_cosign_tag(tag, descriptor, work, image)

    def _copy_referrer(
        self, subject: Digest, descriptor: Descriptor, work: _Work, image: str
    ) -> None:
        try:
            manifests = manifests_of(self._source, descriptor)
        except NotFoundError:
            work.notes.append(
                f"referrer {descriptor.digest} of {subject} is listed but gone; left out"
            )
            return
        artifact = manifests[-1]
        if artifact.subject is None or artifact.subject.digest != subject:
            work.notes.append(
                f"{descriptor.digest} is listed as a referrer of {subject} but is none; left out"
            )
            return
        self._put_contents(manifests, work, image)
        self._target.attach(artifact.subject, artifact.body, artifact.media_type)
        work.copied += 1

    def _copy_cosign_tag(self, tag: str, descriptor: Descriptor, work: _Work, image: str) -> None:
        """Copy what a cosign tag points at, then the tag; signatures that only the target has stay.

        Raises:
            RegistryError: the tag is elsewhere afterwards.
        """
        there = self._target.resolve(tag)
        if there is not None and there.digest == descriptor.digest:
            work.present += 1
            return
        manifests = manifests_of(self._source, descriptor)
        artifact = manifests[-1]
        if there is not None and not self._may_replace(tag, artifact, work):
            return
        self._put_contents(manifests, work, image)
        self._target.push(tag, artifact.body, artifact.media_type)
        now = self._target.resolve(tag)
        if now is None or now.digest != artifact.digest:
            raise RegistryError(f"{self._target.name}: tag {tag} is not where it was put")
        work.copied += 1

    def _may_replace(self, tag: str, artifact: Manifest | Index, work: _Work) -> bool:
        """Whether the target's own content of a cosign tag is all in the source's."""
        try:
            theirs, ours = _contents(self._target.fetch(tag)), _contents(artifact)
        except NotFoundError:
            return True  # it went away since
        if theirs <= ours:
            return True
        if ours <= theirs:
            work.present += 1
            return False
        work.notes.append(
            f"tag {tag} holds something at {self._target.name} that the source lacks; left as it is"
        )
        return False

    def _put_contents(
        self, manifests: tuple[Manifest | Index, ...], work: _Work, image: str
    ) -> None:
        """Put blobs and children of an artifact, all but the artifact's own manifest."""
        work.blobs += self._uploads.ensure(blobs_of(manifests), image=image)
        for manifest in manifests[:-1]:
            self._target.push(manifest.digest, manifest.body, manifest.media_type)


def _contents(artifact: Manifest | Index) -> frozenset[tuple[Digest, tuple[tuple[str, str], ...]]]:
    """Return the entries of a cosign tag: layers with their annotations, which hold the signatures."""
    entries = artifact.manifests if isinstance(artifact, Index) else artifact.layers
    return frozenset((e.digest, tuple(sorted(e.annotations.items()))) for e in entries)
