"""Makes ELF files by hand that carry lists of packages, as Go's linker and `cargo auditable` do."""

import json
import struct
import zlib

_MARK = b"\xff Go buildinf:"
_START = bytes.fromhex("3077af0c9274080241e1c107e6d618e6")
_END = bytes.fromhex("f932433186182072008242104116d8f2")
_BASE = 0x400000
MODULES = (
    "path\texample.com/acme/app\n"
    "mod\texample.com/acme/app\t(devel)\t\n"
    "dep\tgithub.com/Acme/Lib\tv1.2.3\th1:x=\n"
    "dep\tgolang.org/x/text\tv0.3.0\n"
    "=>\tgolang.org/x/text\tv0.3.7\th1:y=\n"
    "build\t-compiler=gc\n"
)


def elf(body: bytes, *, note: bool = True, order: str = "<", sections: bytes = b"") -> bytes:
    """Return a 64-bit ELF file with one segment, its body from offset 4096 on.

    Args:
        body: what is loaded.
        note: whether it has the note of Go's linker.
        order: `<` or `>`.
        sections: ready table of section headers; the last names the sections.
    """
    at = 4096 + len(body)
    ident = b"\x7fELF" + bytes((2, 1 if order == "<" else 2, 1)) + bytes(9)
    head = ident + struct.pack(
        f"{order}HHIQQQIHHHHHH",
        2,
        62,
        1,
        _BASE,
        64,
        at,
        0,
        64,
        56,
        1,
        64,
        len(sections) // 64,
        max(0, len(sections) // 64 - 1),
    )
    head += struct.pack(f"{order}IIQQQQQQ", 1, 6, 0, _BASE, _BASE, at, at, 4096)
    if note:
        head += struct.pack(f"{order}III", 4, 20, 4) + b"Go\0\0" + bytes(20)
    return head.ljust(4096, b"\0") + body + sections


def _varint(number: int) -> bytes:
    raw = bytearray()
    while number > 127:
        raw.append(number & 127 | 128)
        number >>= 7
    return bytes((*raw, number))


def go_program(
    modules: str = MODULES,
    version: str = "go1.22.1",
    *,
    in_front: int = 5000,
    behind: int = 3000,
    note: bool = True,
) -> bytes:
    """Return a program as Go makes it since 1.18; the mark is at a multiple of 16.

    Args:
        modules: the text about modules; empty for a program without.
        version: of Go.
        in_front: bytes of the body before the mark.
        behind: bytes after it.
        note: whether it has the note of Go's linker.
    """
    text = _START + modules.encode() + _END if modules else b""
    info = (_MARK + bytes((0, 2))).ljust(32, b"\0")
    for part in (version.encode(), text):
        info += _varint(len(part)) + part
    body = bytes(in_front + -in_front % 16) + info + bytes(behind)
    return elf(body, note=note)


def old_go_program(modules: str = MODULES, version: str = "go1.17.2", *, order: str = "<") -> bytes:
    """Return a program as Go made it from 1.13 to 1.17, with addresses behind the mark."""
    text = _START + modules.encode() + _END
    texts = b"xgo1.4" + version.encode() + b"77" + text
    texts += bytes(-len(texts) % 16)
    address = _BASE + 4096
    mark_at = address + len(texts)
    flags = 1 if order == ">" else 0
    info = (
        _MARK + bytes((8, flags)) + struct.pack(f"{order}QQ", mark_at + 32, mark_at + 48)
    ).ljust(32, b"\0")
    headers = struct.pack(f"{order}QQ", address + 6, len(version))
    headers += struct.pack(f"{order}QQ", address + 6 + len(version) + 2, len(text))
    return elf(texts + info + headers, order=order)


def rust_program(audit: object, *, packed: bytes | None = None, in_front: int = 5000) -> bytes:
    """Return a program with the section that `cargo auditable` makes.

    Args:
        audit: what is in it.
        packed: instead, the bytes of the section.
        in_front: bytes of the body before it.
    """
    data = zlib.compress(json.dumps(audit).encode()) if packed is None else packed
    names = b"\0.text\0.dep-v0\0.shstrtab\0"
    body = bytes(in_front) + data + names
    start = 4096 + in_front
    section = struct.Struct("<IIQQQQIIQQ")
    table = section.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    table += section.pack(1, 1, 6, 0, 4096, in_front, 0, 0, 1, 0)
    table += section.pack(7, 1, 0, 0, start, len(data), 0, 0, 1, 0)
    table += section.pack(15, 3, 0, 0, start + len(data), len(names), 0, 0, 1, 0)
    return elf(body, note=False, sections=table)
