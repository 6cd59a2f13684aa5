"""Strict reading of PEM text: what kind of block it is and the bytes inside."""

import base64
import re
from dataclasses import dataclass

from ci_registry.attestations.shape import decode_base64
from ci_registry.errors import IntegrityError, SetupError

MAX_PEM_BYTES = 64 * 1024
_BLOCK = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\n([A-Za-z0-9+/=\s]*?)-----END \1-----", re.ASCII
)
_BEGIN = re.compile(r"-----BEGIN ")


@dataclass(frozen=True, slots=True, kw_only=True)
class PemBlock:
    """One PEM block; `content` may be secret, so it stays out of `repr`."""

    label: str
    content: bytes

    def __repr__(self) -> str:
        return f"PemBlock(label={self.label!r})"


def parse_pem(text: str, *, what: str) -> tuple[PemBlock, ...]:
    """Return the PEM blocks of `text`, at least one; text between blocks is ignored as usual.

    Raises:
        SetupError: too long, no block, a block cut short, or not base64; never quotes the text.
    """
    if len(text) > MAX_PEM_BYTES:
        raise SetupError(f"{what} is longer than {MAX_PEM_BYTES} characters")
    text = text.replace("\r\n", "\n")
    found = _BLOCK.findall(text)
    if not found or len(found) != len(_BEGIN.findall(text)):
        raise SetupError(f"{what} is not a PEM file", hint=_hint(text))
    return tuple(PemBlock(label=label, content=_decode(body, what)) for label, body in found)


def _decode(body: str, what: str) -> bytes:
    try:
        return decode_base64("".join(body.split()), what=what)
    except IntegrityError as error:
        raise SetupError(f"{what} is not a PEM file: its content is not base64") from error


def _hint(text: str) -> str:
    if "\\n" in text:
        return "it has \\n written out instead of line breaks: store the key file as it is"
    if text.lstrip().startswith("LS0tLS1CRUdJTi"):
        return "it looks base64-encoded: store the key file as it is"
    if text.startswith("/") and "\n" not in text.strip():
        return "it looks like a path: set the path itself as the key's source, without env://"
    return "expected a block that starts with -----BEGIN and ends with -----END"


def write_pem(label: str, content: bytes) -> str:
    """Return one PEM block with lines of 64 characters, as cosign writes it."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
