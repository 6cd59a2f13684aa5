"""Says what is wrong with a file that is no tar archive: compressed, cut off, or something else."""

import tarfile
from pathlib import Path

from ci_registry.errors import IntegrityError
from ci_registry.files import storage_error

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ": ("xz", "unxz -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
}
_CUT_OFF = ("unexpected end of data", "truncated header")


def tar_trouble(path: Path, error: tarfile.TarError) -> IntegrityError:
    """Return the error for an archive that tarfile does not read; the first bytes of the file are looked at.

    Raises:
        StorageError: the file can't be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as trouble:
        raise storage_error(trouble, path, "read") from trouble
    for magic, (name, program) in _COMPRESSED.items():
        if head.startswith(magic):
            return IntegrityError(
                f"{path} is compressed with {name}", hint=f"unpack it first: {program} {path}"
            )
    if head[257:262] == b"ustar" and any(words in str(error) for words in _CUT_OFF):
        return IntegrityError(
            f"{path} is cut off: {error}", hint="copy or download the archive again"
        )
    return IntegrityError(
        f"{path} is no tar archive: {error}",
        hint="oci-archive: and docker-archive: name tar files, oci: a folder",
    )
