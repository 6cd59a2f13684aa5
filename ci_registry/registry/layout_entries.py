"""The entries of a layout's `index.json`: which tag each has, and what they are after a change."""

import dataclasses

from ci_registry.oci.manifest import Descriptor, Index, Manifest

TAG_ANNOTATION = "org.opencontainers.image.ref.name"


def tag_of(entry: Descriptor) -> str:
    """Return the tag of an entry, empty without one."""
    return entry.annotations.get(TAG_ANNOTATION, "")


def entry_of(descriptor: Descriptor, tag: str) -> dict[str, object]:
    """Return the entry for a manifest, under `tag` when given."""
    annotations = {k: v for k, v in descriptor.annotations.items() if k != TAG_ANNOTATION}
    if tag:
        annotations[TAG_ANNOTATION] = tag
    return dataclasses.replace(descriptor, annotations=annotations).to_json()


def raw_tag(entry: dict[str, object]) -> str:
    """Return the tag of an entry as it is in the file, empty without one."""
    annotations = entry.get("annotations")
    tag = annotations.get(TAG_ANNOTATION) if isinstance(annotations, dict) else None
    return tag if isinstance(tag, str) else ""


def without_tag(entry: dict[str, object]) -> dict[str, object]:
    """Return an entry of `index.json` that names its manifest but no tag."""
    annotations = entry.get("annotations")
    kept = annotations.items() if isinstance(annotations, dict) else ()
    rest = {key: value for key, value in kept if key != TAG_ANNOTATION}
    bare = {key: value for key, value in entry.items() if key != "annotations"}
    return bare | ({"annotations": rest} if rest else {})


def with_entry(
    entries: list[dict[str, object]], manifest: Manifest | Index, descriptor: Descriptor, tag: str
) -> list[dict[str, object]]:
    """Return the entries after a push: a tag moves, a tagged or contained manifest needs no bare entry."""
    covered = {str(descriptor.digest)} if tag else set()
    if isinstance(manifest, Index):
        covered |= {str(child.digest) for child in manifest.manifests}
    kept = [
        entry
        for entry in entries
        if (raw_tag(entry) != tag if raw_tag(entry) else entry.get("digest") not in covered)
    ]
    if tag or all(entry.get("digest") != descriptor.digest for entry in kept):
        kept.append(entry_of(descriptor, tag))
    return kept
