"""Strict reading of the shapes that signed documents share: exact member sets and canonical base64."""

import base64
import binascii
from collections.abc import Iterable

from ci_registry.errors import IntegrityError
from ci_registry.strict import as_object


def exact_members(
    value: object, required: Iterable[str], *, what: str, optional: Iterable[str] = ()
) -> dict[str, object]:
    """Return a JSON object that has all `required` members and no other than those and `optional`.

    A reader that skips what it does not know can be told two stories by one signed document.

    Raises:
        IntegrityError: no object, or a member too few or too many.
    """
    data = as_object(value, what=what)
    needed = set(required)
    if missing := sorted(needed - data.keys()):
        raise IntegrityError(f"{what}: member {missing[0]!r} is missing")
    if foreign := sorted(data.keys() - needed - set(optional)):
        raise IntegrityError(f"{what}: unknown member {foreign[0][:60]!r}")
    return data


def decode_base64(text: str, *, what: str, url_safe: bool = False) -> bytes:
    """Decode base64 that is exactly what an encoder writes: no junk, line break or missing padding.

    Args:
        text: the encoded text.
        what: names it in the error.
        url_safe: accept the URL-safe alphabet too, as the DSSE specification asks of readers.

    Raises:
        IntegrityError: the text differs from the canonical encoding of any bytes.
    """
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise IntegrityError(f"{what}: not base64") from error
    if url_safe and (b"-" in raw or b"_" in raw):
        if b"+" in raw or b"/" in raw:
            raise IntegrityError(f"{what}: base64 with two alphabets mixed")
        raw = raw.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        data = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError) as error:
        raise IntegrityError(f"{what}: not base64") from error
    if base64.b64encode(data) != raw:
        raise IntegrityError(f"{what}: base64 is not canonical")
    return data


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")
