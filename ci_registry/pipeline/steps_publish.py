"""The steps that write to registries: blobs, then manifests by digest, then signatures, then tags.

Blobs have no name and may travel while the scanner works. Everything else waits for the verdict.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ci_registry.ci.tags import PlannedTag
from ci_registry.config.model import OnExisting, SignFormat
from ci_registry.errors import (
    AccessError,
    CiRegistryError,
    IntegrityError,
    NetworkError,
    RegistryError,
)
from ci_registry.events import Log
from ci_registry.inventory.inspect import InspectedImage
from ci_registry.oci.digest import Digest
from ci_registry.oci.manifest import Descriptor
from ci_registry.oci.reference import Reference, parse_reference
from ci_registry.pipeline.attest import attest_inventory
from ci_registry.pipeline.state import Done, ImageRun, RunContext, skipped
from ci_registry.registry.interface import BlobOutcome, Repository
from ci_registry.registry.layout import Layout
from ci_registry.registry.transfer import (
    blobs_of,
    manifests_of,
    publish_manifests,
    upload_blobs,
)
from ci_registry.results import Case, CaseStatus, PublishedReference
from ci_registry.signers.attach import sign_image
from ci_registry.signers.interface import Signer
from ci_registry.verification.read_back import verify_signed_by

_WORKERS_PER_DESTINATION = 4


def _verified(image: ImageRun) -> tuple[Layout, InspectedImage]:
    if image.layout is None or image.inspected is None:
        raise AssertionError("this step runs after inspect")
    return image.layout, image.inspected


def _passed(image: ImageRun) -> tuple[Layout, InspectedImage]:
    """Make sure once more, next to the writing, that the verdict lets the image through."""
    if image.decision is None or not image.decision.verdict.lets_through:
        raise AssertionError(
            "nothing is named, signed or tagged without a verdict that lets it through"
        )
    return _verified(image)


def _mount_sources(image: ImageRun) -> tuple[str, ...]:
    """The repositories of the base images: their layers may be mounted instead of sent."""
    return tuple(dict.fromkeys(parse_reference(base).name for base in image.plan.bases))


def _each(image: ImageRun, work: Callable[[Reference], None]) -> None:
    """Do `work` for every destination at once; the first error is raised when all have ended."""
    places = image.plan.destinations
    with ThreadPoolExecutor(max_workers=max(1, len(places))) as pool:
        futures = [pool.submit(work, place) for place in places]
        for future in futures:
            future.result()


def upload(image: ImageRun, run: RunContext) -> Done:
    """Send the blobs of all platforms to every destination: skip, mount, or one PUT each."""
    if not image.plan.push:
        return skipped(image.plan.push_reason)
    layout, inspected = _verified(image)
    blobs = blobs_of(manifests_of(layout, inspected.root.descriptor))

    def send(place: Reference) -> None:
        pushed = upload_blobs(
            layout,
            run.parts.target(place),
            blobs,
            workers=_WORKERS_PER_DESTINATION,
            cancel=run.cancel,
            on_event=run.on_event,
            image=image.name,
            mount_from=_mount_sources(image),
        )
        outcomes = [blob.outcome for blob in pushed]
        image.uploads[place.name] = PublishedReference(
            name=place.name,
            digest=inspected.root.digest,
            blobs_uploaded=outcomes.count(BlobOutcome.UPLOADED),
            blobs_mounted=outcomes.count(BlobOutcome.MOUNTED),
            blobs_present=outcomes.count(BlobOutcome.PRESENT),
            bytes_sent=sum(blob.bytes_sent for blob in pushed),
        )

    _each(image, send)
    lines = [
        f"{p.name}: {p.blobs_uploaded} sent ({p.bytes_sent} bytes), {p.blobs_mounted} mounted,"
        f" {p.blobs_present} already there"
        for p in (image.uploads[place.name] for place in image.plan.destinations)
    ]
    return Done(cases=(Case(name="blobs uploaded", body="\n".join(lines)),))


def publish(image: ImageRun, run: RunContext) -> Done:
    """Put the manifests by digest, bytes as built; first make sure that no fixed tag is in the way."""
    if not image.plan.push:
        return skipped(image.plan.push_reason)
    layout, inspected = _passed(image)
    for place in image.plan.destinations:
        _check_fixed_tags(image, run, run.parts.target(place), place)

    def put(place: Reference) -> None:
        digest = publish_manifests(layout, run.parts.target(place), inspected.root.descriptor)
        if digest != inspected.root.digest:
            raise IntegrityError(f"{place.name} stored {digest}, not {inspected.root.digest}")
        image.published[place.name] = image.uploads[place.name]

    _each(image, put)
    case = Case(name="manifests stored, digest equal", body=f"{inspected.root.digest}")
    return Done(cases=(case,))


def _check_fixed_tags(
    image: ImageRun, run: RunContext, target: Repository, place: Reference
) -> None:
    """Look at the tags that are meant never to move before anything is named."""
    for tag in image.plan.live_tags:
        found = target.resolve(tag.tag) if tag.fixed else None
        if found is not None and found.digest != image.digest:
            _is_kept(image, run, place, tag, found)


def _taken(
    image: ImageRun, place: Reference, planned: PlannedTag, found: Descriptor
) -> AccessError:
    return AccessError(
        f"{place.name}:{planned.tag} exists and is another image"
        f" ({found.digest.short}, this one is {image.digest.short if image.digest else '?'})",
        hint="set publish.on_existing to keep or overwrite, or build reproducibly",
    )


def sign(image: ImageRun, run: RunContext) -> Done:
    """Sign index and platform manifests in every destination, read back, verify."""
    if not image.plan.sign:
        return skipped(
            image.plan.sign_reason,
            Case(name="signature", status=CaseStatus.SKIPPED, message=image.plan.sign_reason),
        )
    _, inspected = _passed(image)
    if image.decision is None or not image.decision.enforced_verdict.lets_through:
        reason = "audit mode: what enforce would not let through is never signed"
        return skipped(reason, Case(name="signature", status=CaseStatus.SKIPPED, message=reason))
    if image.signer is None:
        raise AssertionError("preflight loaded the key")
    subjects = {
        d.digest: d
        for d in (
            inspected.root.descriptor,
            *(platform.manifest for platform in inspected.platforms),
        )
    }
    formats = run.settings.sign.format
    kinds = (SignFormat.SIG, SignFormat.BUNDLE) if formats is SignFormat.BOTH else (formats,)
    lines = []
    for place in image.plan.destinations:
        run.cancel.check()
        done = _sign_at(place, image, run, image.signer, tuple(subjects.values()), kinds)
        image.published[place.name] = replace(
            image.published[place.name], signatures=tuple(map(str, kinds))
        )
        lines.append(f"{place.name}: {', '.join(dict.fromkeys(done))}")
    image.signed = True
    return Done(cases=(Case(name="signature", body="\n".join(lines)),))


def _sign_at(  # noqa: PLR0917 - one caller
    place: Reference,
    image: ImageRun,
    run: RunContext,
    signer: Signer,
    subjects: tuple[Descriptor, ...],
    kinds: tuple[SignFormat, ...],
) -> list[str]:
    """Sign every manifest in every format, several at once; the first error is raised when all ended."""
    target = run.parts.target(place)
    live = (tag.tag for tag in image.plan.live_tags if tag.tag not in image.skipped_tags)
    names = tuple(place.tagged(tag) for tag in live) or (place,)
    created = run.ci.committed_at or run.now()

    def one(subject: Descriptor, kind: SignFormat) -> list[str]:
        run.cancel.check()
        outcome = sign_image(
            target, subject, names, signer, kind, created_at=created, cancel=run.cancel
        )
        result = verify_signed_by(target, subject, names, signer.public_key_pem, kind)
        if (failure := result.failure()) is not None:
            raise failure
        written = [f"{kind} written" for kind in outcome.written]
        return written + [f"{kind} already valid" for kind in outcome.found]

    with ThreadPoolExecutor(_WORKERS_PER_DESTINATION, thread_name_prefix="sign") as pool:
        futures = [pool.submit(one, subject, kind) for subject in subjects for kind in kinds]
        if run.settings.sign.sbom and SignFormat.BUNDLE in kinds and image.inspected is not None:
            futures += [
                pool.submit(attest_inventory, target, place, image, platform, signer, created)
                for platform in image.inspected.platforms
            ]
        return [word for future in futures for word in future.result()]


def tag(image: ImageRun, run: RunContext) -> Done:
    """Move the tags, in every destination, only now; each is read back and compared.

    What was moved before a failure is recorded with its previous digest; nothing is rolled back,
    and running again is safe.
    """
    if not image.plan.push:
        return skipped(image.plan.push_reason)
    if image.plan.by_digest:
        return skipped("pushed by digest: a later merge gives it a name")
    _, inspected = _passed(image)
    cases = []
    for planned in image.plan.tags:
        name = f"tag {planned.template}"
        reason = planned.reason if not planned.tag else image.skipped_tags.get(planned.tag, "")
        if reason:
            cases.append(Case(name=name, status=CaseStatus.SKIPPED, message=reason))
            continue
        for place in image.plan.destinations:
            _move(image, run, place, planned, inspected)
        kept = image.skipped_tags.get(planned.tag, "")
        places = "\n".join(f"{place.name}:{planned.tag}" for place in image.plan.destinations)
        status = CaseStatus.SKIPPED if kept else CaseStatus.PASSED
        cases.append(Case(name=name, status=status, message=kept, body=places))
    return Done(cases=tuple(cases))


def _move(
    image: ImageRun,
    run: RunContext,
    place: Reference,
    planned: PlannedTag,
    inspected: InspectedImage,
) -> None:
    tag_name, root = planned.tag, inspected.root
    written: list[str] = []
    try:
        run.cancel.check()
        target = run.parts.target(place)
        before = target.resolve(tag_name)
        if before is None or before.digest != root.digest:
            if before is not None and _is_kept(image, run, place, planned, before):
                return
            run.cancel.check()
            try:
                target.push(tag_name, root.body, root.media_type)
            except NetworkError:
                if not _is_at(target, tag_name, root.digest):
                    raise  # else only the answer was lost
            written.append(tag_name)
            if before is not None:
                _note(image, place, previous=(tag_name, str(before.digest)))
        if target.fetch(tag_name).digest != root.digest:
            raise RegistryError(
                f"{place.name}:{tag_name} points at another image after it was moved"
            )
    except CiRegistryError as error:
        if moved := _moved_so_far(image, place, written):
            error.hint = f"already moved: {', '.join(moved)}. {error.hint}".strip()
        raise
    _note(image, place, moved=tag_name)
    run.on_event(
        Log(message=f"{place.name}:{tag_name} → {root.digest}", image=image.name, step="tag")
    )


def _is_at(target: Repository, tag: str, digest: Digest) -> bool:
    try:
        found = target.resolve(tag)
    except CiRegistryError:
        return False
    return found is not None and found.digest == digest


def _moved_so_far(image: ImageRun, place: Reference, written: list[str]) -> list[str]:
    """Return every tag that stands at the image now, with where it was; `written` is not noted yet."""
    moved = []
    for done in image.places:
        previous = dict(done.previous)
        for tag in (*done.tags_moved, *(written if done.name == place.name else ())):
            was = f" (was {previous[tag]})" if tag in previous else ""
            moved.append(f"{done.name}:{tag}{was}")
    return moved


def _is_kept(
    image: ImageRun, run: RunContext, place: Reference, planned: PlannedTag, found: Descriptor
) -> bool:
    """Say whether a tag stays where it is; another image may have taken it after `publish` looked."""
    on_existing = run.settings.publish.on_existing
    if not planned.fixed or on_existing is OnExisting.OVERWRITE:
        return False
    if on_existing is OnExisting.FAIL:
        raise _taken(image, place, planned, found)
    image.skipped_tags[planned.tag] = f"exists at {place.name} and is kept"
    return True


def _note(
    image: ImageRun, place: Reference, *, moved: str = "", previous: tuple[str, str] | None = None
) -> None:
    known = image.published[place.name]
    image.published[place.name] = replace(
        known,
        tags_moved=(*known.tags_moved, moved) if moved else known.tags_moved,
        previous=(*known.previous, previous) if previous else known.previous,
    )
