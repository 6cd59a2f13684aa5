"""Reads which crates a Rust program was built of, from the data that `cargo auditable` puts into it."""

from collections.abc import Iterator, Sequence

from ci_registry.errors import IntegrityError
from ci_registry.findings import Package
from ci_registry.inventory.reading import ImageFile, Reading, printable, purl_part, read_each
from ci_registry.strict import as_list, as_object, as_text, parse_json

_MOST_CRATES = 20_000
_MOST_BYTES = 16 << 20


def read_rust(files: Sequence[ImageFile]) -> Reading:
    """Return the crates that are in the programs; what was only needed to build them is left out."""
    return read_each("cargo", files, _crates)


def _crates(file: ImageFile) -> Iterator[Package]:
    what = "audit data"
    data = parse_json(file.content, what=what, max_bytes=_MOST_BYTES, strict=False)
    crates = as_list(as_object(data, what=what).get("packages"), what=f"{what}: packages")
    if len(crates) > _MOST_CRATES:
        raise IntegrityError(f"{what}: {len(crates)} crates")
    for item in crates:
        crate = as_object(item, what=f"{what}: crate")
        name = as_text(crate.get("name"), what=f"{what}: name")
        version = as_text(crate.get("version"), what=f"{what}: version")
        if (
            not name
            or not version
            or not (name + version).isprintable()
            or len(name + version) > 400
        ):
            raise IntegrityError(f"{what}: malformed crate {name[:80]!r}")
        if crate.get("kind", "runtime") != "runtime":
            continue
        yield Package(
            ecosystem="cargo",
            name=name,
            version=version,
            purl=f"pkg:cargo/{purl_part(name)}@{purl_part(version)}",
            layer=file.diff_id,
            path=printable(file.path),
        )
