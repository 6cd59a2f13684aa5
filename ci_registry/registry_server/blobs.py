"""Blobs: reading with ranges, uploading in one piece or in chunks, mounting."""

import contextlib
import re
from collections.abc import Iterator

from ci_registry.oci.digest import Digest
from ci_registry.registry_server.body import content_length, pieces
from ci_registry.registry_server.call import Call, check_name, parse_digest
from ci_registry.registry_server.contents import PIECE_BYTES, Upload
from ci_registry.registry_server.lookup import blob_size, bring_blob
from ci_registry.registry_server.message import (
    BodyInterruptedError,
    Headers,
    RefusalError,
    Response,
)
from ci_registry.registry_server.preconditions import check_read, is_known, wants_range

_BUSY_S = 10.0


def get_blob(call: Call) -> Response:
    """Answer GET and HEAD of a blob, whole or one range of it (RFC 9110, 14.2)."""
    digest = call.digest
    size = blob_size(call, call.name, digest)
    if size is None:
        raise RefusalError(404, "BLOB_UNKNOWN", f"{call.name} has no blob {digest}")
    headers: Headers = (
        ("Content-Type", "application/octet-stream"),
        ("Docker-Content-Digest", digest),
        *call.etag(digest),
        ("Accept-Ranges", "bytes"),
    )
    check_read(call, digest)
    if is_known(call, digest):
        return Response(status=304, headers=headers)
    if call.request.method == "HEAD":
        length = (("Content-Length", str(size)),)
        return Response(status=200, headers=headers + length)
    wanted = _range(call.request.header("range"), size) if wants_range(call, digest) else None
    if not bring_blob(call, call.name, digest):
        raise RefusalError(404, "BLOB_UNKNOWN", f"{call.name} has no blob {digest}")
    if wanted is None:
        return Response(status=200, headers=headers, body=call.store.part(digest, 0, size))
    first, end = wanted
    headers += (("Content-Range", f"bytes {first}-{end - 1}/{size}"),)
    body = call.store.part(digest, first, end - first)
    return Response(status=206, headers=headers, body=body)


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Return (first, end) of a single byte range; None means the whole blob."""
    match = re.fullmatch(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", text)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first, end = int(match[1]), min(int(match[2] or size) + 1, size)
    else:
        first, end = max(0, size - int(match[2])), size
    if first >= end:
        headers = (("Content-Range", f"bytes */{size}"),)
        raise RefusalError(416, "RANGE_INVALID", f"no such range of {size} bytes", headers=headers)
    return first, end


def start_upload(call: Call) -> Response:
    """Answer POST: mount, upload at once (`?digest=`), or open an upload session."""
    mount = call.request.parameter("mount")
    if mount:
        _check_mount(call)
    if mount and call.options.mount:
        digest = parse_digest(mount)
        if any(_mounted(call, digest, source) for source in _mount_sources(call, digest)):
            return _created(call, digest)
    whole = call.request.parameter("digest")
    if whole is None:
        return _session(call, call.store.begin_upload(call.name), 202)
    wanted = parse_digest(whole)
    upload = call.store.begin_upload(call.name)
    with _held(call, upload):
        try:
            _receive(call, upload, keep_on_interruption=False)
        except BaseException:
            call.store.cancel_upload(upload)
            raise
        return _finish(call, upload, wanted)


def _check_mount(call: Call) -> None:
    """Refuse a mount as some registries do."""
    if call.options.mount_refusal is not None:
        raise RefusalError(*call.options.mount_refusal, "this blob can't be mounted")
    if call.options.mount_needs_source and not call.request.parameter("from"):
        raise RefusalError(400, "UNSUPPORTED", "a mount must name its source")


def _mount_sources(call: Call, digest: Digest) -> tuple[str, ...]:
    """Return where a blob may be mounted from: `from`, else wherever it is, as far as the caller may read."""
    source = call.request.parameter("from")
    names = (check_name(source),) if source else call.store.catalog.repositories_of_blob(digest)
    return tuple(name for name in names if call.may_pull(name))


def _mounted(call: Call, digest: Digest, source: str) -> bool:
    """Mount; from the repository itself it is the question whether the blob is there, also upstream."""
    if source == call.name:
        return blob_size(call, source, digest) is not None
    return bring_blob(call, source, digest) and call.store.mount_blob(call.name, digest, source)


def patch_upload(call: Call) -> Response:
    """Answer PATCH: add a chunk, which must start where the last one ended."""
    upload = _find(call)
    with _held(call, upload):
        _check_chunk(call, upload)
        if upload.size_bytes and call.options.later_patches_dropped:
            for _dropped in pieces(call.request, 2 * PIECE_BYTES):
                pass
        else:
            _receive(call, upload, keep_on_interruption=True)
        return _session(call, upload, call.options.patch_status)


def finish_upload(call: Call) -> Response:
    """Answer PUT: add what the body has, check the digest, store the blob."""
    upload = _find(call)
    text = call.request.parameter("digest")
    if text is None:
        raise RefusalError(400, "DIGEST_INVALID", "PUT needs ?digest=")
    digest = parse_digest(text)
    with _held(call, upload):
        _check_chunk(call, upload)
        _receive(call, upload, keep_on_interruption=False)
        return _finish(call, upload, digest)


def get_upload(call: Call) -> Response:
    """Answer GET: how much of an upload has arrived."""
    upload = _find(call)
    with _held(call, upload):
        return _session(call, upload, 204)


def cancel_upload(call: Call) -> Response:
    """Answer DELETE of an upload session."""
    upload = _find(call)
    with _held(call, upload):
        call.store.cancel_upload(upload)
    return Response(status=204)


def _find(call: Call) -> Upload:
    upload = call.store.find_upload(call.name, call.item)
    if upload is None:
        raise _unknown_upload()
    state = call.options.upload_state
    if state and state not in call.request.query:
        raise RefusalError(
            400, "BLOB_UPLOAD_INVALID", "the state in the upload location is missing"
        )
    return upload


@contextlib.contextmanager
def _held(call: Call, upload: Upload) -> Iterator[None]:
    """Keep other requests away from an upload; a request that still writes gets some time to end."""
    if not upload.lock.acquire(timeout=_BUSY_S):
        raise RefusalError(409, "BLOB_UPLOAD_INVALID", "another request is writing this upload")
    try:
        if call.store.find_upload(upload.repository, upload.id) is not upload:
            raise _unknown_upload()  # it ended while we waited
        yield
    finally:
        upload.active_at = call.store.clock()
        upload.rest()
        upload.lock.release()


def _unknown_upload() -> RefusalError:
    return RefusalError(404, "BLOB_UPLOAD_UNKNOWN", "no such upload, or it has ended")


def _check_chunk(call: Call, upload: Upload) -> None:
    """Refuse a chunk that does not start where the upload ends."""
    text = call.request.header("content-range")
    if not text:
        return
    match = re.fullmatch(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?", text.strip())
    length = content_length(call.request)
    fits = match is not None and int(match[1]) == upload.size_bytes
    if match is not None and length is not None:
        fits = fits and int(match[2]) - int(match[1]) + 1 == length
    if not fits:
        raise RefusalError(
            416,
            "BLOB_UPLOAD_INVALID",
            f"the next chunk starts at byte {upload.size_bytes}",
            headers=_session(call, upload, 416).headers,
        )


def _receive(call: Call, upload: Upload, *, keep_on_interruption: bool) -> None:
    """Append the body to an upload; after trouble the upload is as it was, or holds what arrived."""
    before = upload.size_bytes
    declared = content_length(call.request)
    limit = call.options.max_upload_bytes
    if before + (declared or 0) > limit:
        raise RefusalError(413, "SIZE_INVALID", f"more than {limit} bytes")
    call.check_space(declared or 0)
    try:
        for piece in pieces(call.request, 2 * PIECE_BYTES):
            if upload.size_bytes + len(piece) > limit:
                raise RefusalError(413, "SIZE_INVALID", f"more than {limit} bytes")
            call.check_space(len(piece))
            upload.append(piece)
    except BodyInterruptedError:
        if not keep_on_interruption:
            upload.truncate(before)
        raise
    except BaseException:
        upload.truncate(before)
        raise


def _finish(call: Call, upload: Upload, digest: Digest) -> Response:
    found = upload.digest(digest.algorithm)
    if found != digest:
        call.store.cancel_upload(upload)
        raise RefusalError(400, "DIGEST_INVALID", f"the bytes have the digest {found}")
    call.store.finish_upload(upload, digest)
    return _created(call, digest)


def _created(call: Call, digest: Digest) -> Response:
    headers = (
        ("Location", f"/v2/{call.name}/blobs/{digest}"),
        ("Docker-Content-Digest", digest),
    )
    return Response(status=201, headers=headers)


def _session(call: Call, upload: Upload, status: int) -> Response:
    """Answer with the place to go on at and how far we are; an empty upload is at `0-0`."""
    state = f"?{call.options.upload_state}" if call.options.upload_state else ""
    headers = (
        ("Location", f"/v2/{call.name}/blobs/uploads/{upload.id}{state}"),
        ("Range", f"0-{max(0, upload.size_bytes - 1)}"),
        ("Docker-Upload-UUID", upload.id),
    )
    return Response(status=status, headers=headers)
