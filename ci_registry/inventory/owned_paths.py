"""Tells which of the files that an OS package lists can carry language packages, so that only those are kept."""

_DESCRIPTIONS = (
    b"/METADATA",
    b"/PKG-INFO",
    b".egg-info",
    b"/package.json",
    b".cdx.json",
    b".gemspec",
    b".jar",
    b".war",
    b".ear",
    b".deps.json",
    b"/installed.json",
)
_NO_PROGRAMS = (b"usr/share/", b"usr/include/", b"usr/src/", b"etc/", b"usr/lib/modules/")
"""Folders without programs; what is described by a file of its own name is looked for there too."""
_NO_PROGRAM_ENDINGS = frozenset(
    b"a bmp c conf css desktop gif gz h hpp html js json la map md mo o patch pc pl png pm po py pyc"
    b" pyi rb service sh svg tcl timer ttf txt xml xz yaml yml".split()
)


def may_hold_packages(path: bytes) -> bool:
    """Whether the file at `path` (with or without a leading slash) can be a language package or a program."""
    if path.endswith(_DESCRIPTIONS):
        return True
    path = path.lstrip(b"./")
    name = path[path.rfind(b"/") + 1 :]
    _, dot, ending = name.rpartition(b".")
    if dot and ending.lower() in _NO_PROGRAM_ENDINGS:
        return False
    return bool(name) and not path.startswith(_NO_PROGRAMS)
