"""Conditional requests (RFC 9110, 13): `If-Match`, `If-None-Match`, `If-Range` against digests."""

from ci_registry.oci.digest import Digest
from ci_registry.registry_server.call import Call
from ci_registry.registry_server.message import RefusalError


def _names(header: str, digest: Digest | None) -> bool:
    """Whether a header names the entity that is there; `*` is any."""
    names = [name.strip().removeprefix("W/").strip('"') for name in header.split(",")]
    return digest is not None and ("*" in names or digest in names)


def is_known(call: Call, digest: Digest) -> bool:
    """Whether the client has what it asks for: the answer is 304."""
    return call.options.etag and _names(call.request.header("if-none-match"), digest)


def wants_range(call: Call, digest: Digest) -> bool:
    """Whether `Range` counts: always, unless `If-Range` names something else."""
    condition = call.request.header("if-range").strip()
    return not condition or condition == f'"{digest}"'


def check_read(call: Call, digest: Digest) -> None:
    """Refuse to answer with something else than `If-Match` names."""
    condition = call.request.header("if-match")
    if call.options.etag and condition and not _names(condition, digest):
        raise RefusalError(412, "PRECONDITION_FAILED", f"it is {digest}")


def check_write(call: Call, what: str, current: Digest | None) -> None:
    """Refuse to change what is not as the client believes it to be."""
    if not call.options.conditional_put:
        return
    if_match, if_none_match = (call.request.header(h) for h in ("if-match", "if-none-match"))
    is_other = if_match and not _names(if_match, current)
    if is_other or (if_none_match and _names(if_none_match, current)):
        raise RefusalError(412, "PRECONDITION_FAILED", f"{what} is at {current}")
