"""Stamps the time of the commit into the images of a layout, where BuildKit wrote the time of the build.

BuildKit can do that itself, but only with `SOURCE_DATE_EPOCH`, which is part of the cache key of every COPY
and WORKDIR: a new commit would build them and everything behind them again.
"""

import json
from datetime import UTC, datetime

from ci_registry.oci.manifest import Descriptor, Index, Manifest
from ci_registry.registry.content import bounded
from ci_registry.registry.layout import Layout
from ci_registry.strict import MAX_JSON_BYTES, as_list, as_object, parse_json


def stamp_creation_time(layout: Layout, epoch_s: int) -> None:
    """Set the creation time of every image, and bring later times of its history down to it.

    Raises:
        IntegrityError: a config or manifest is not what it should be.
        StorageError: the layout can't be written.
    """
    root = layout.root()
    stamped = _stamped(layout, root, datetime.fromtimestamp(epoch_s, UTC))
    if stamped.digest != root.digest:
        layout.set_root(stamped)


def _stamped(layout: Layout, entry: Descriptor, moment: datetime) -> Descriptor:
    """Return what takes the place of a manifest or index; the old documents are removed."""
    manifest = layout.fetch(entry.digest)
    document = as_object(parse_json(manifest.body, what=str(entry.digest)), what=str(entry.digest))
    if isinstance(manifest, Index):
        for child, item in zip(manifest.manifests, _items(document), strict=True):
            item.update(_place_of(_stamped(layout, child, moment)))
    else:
        config = as_object(document["config"], what="config")
        config.update(_place_of(_stamped_config(layout, manifest, moment)))
    written = layout.write_manifest(_dump(document), manifest.media_type)
    if written.digest != entry.digest:
        layout.blob_path(entry.digest).unlink()
    return written


def _items(document: dict[str, object]) -> list[dict[str, object]]:
    found = as_list(document["manifests"], what="manifests")
    return [as_object(item, what="manifests") for item in found]


def _stamped_config(layout: Layout, image: Manifest, moment: datetime) -> Descriptor:
    what = f"config {image.config.digest.short}"
    body = b"".join(bounded(layout.open(image.config.digest), MAX_JSON_BYTES, what=what))
    config = as_object(parse_json(body, what=what), what=what)
    config["created"] = _text(moment)
    for item in as_list(config.get("history") or [], what=f"{what}: history"):
        step = as_object(item, what=f"{what}: history")
        if _is_later(step.get("created"), moment):
            step["created"] = _text(moment)
    written = layout.write_blob((_dump(config),), image.config.media_type)
    if written.digest != image.config.digest:
        layout.blob_path(image.config.digest).unlink()
    return written


def _is_later(created: object, moment: datetime) -> bool:
    """Whether a step claims to be younger than the commit; a time that can't be read is replaced too."""
    if created is None:
        return False
    try:
        return datetime.fromisoformat(str(created)) > moment
    except (ValueError, TypeError):
        return True


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _place_of(descriptor: Descriptor) -> dict[str, object]:
    return {"digest": str(descriptor.digest), "size": descriptor.size}


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
