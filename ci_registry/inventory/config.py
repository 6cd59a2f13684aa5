"""Reads of an image config what an inspection needs: platform and diff ids."""

from dataclasses import dataclass

from ci_registry.errors import IntegrityError
from ci_registry.oci.digest import Digest, digest_of
from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.strict import as_list, as_object, as_text, parse_json


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """The verified facts of one image config."""

    platform: Platform
    has_variant: bool
    """Whether the config itself names a variant; older builders leave it out."""
    diff_ids: tuple[Digest, ...]


def parse_image_config(body: bytes) -> ImageConfig:
    """Parse an image config (image-spec `config.md`).

    Raises:
        IntegrityError: no strict JSON, a member is missing, or two members differ only in case, which
            Go programs read as one.
    """
    what = f"config {digest_of(body).short}"
    data = as_object(parse_json(body, what=what), what=what)
    rootfs = as_object(data.get("rootfs"), what=f"{what}.rootfs")
    for part in (data, rootfs):
        lowered = [key.casefold() for key in part]
        if len(set(lowered)) != len(lowered):
            raise IntegrityError(f"{what}: two members have the same name in other case")
    os = as_text(data.get("os"), what=f"{what}.os")
    architecture = as_text(data.get("architecture"), what=f"{what}.architecture")
    variant = as_text(data.get("variant") or "", what=f"{what}.variant")
    if not os or not architecture:
        raise IntegrityError(f"{what}: does not say for which platform it is")
    diff_ids = as_list(rootfs.get("diff_ids") or [], what=f"{what}.rootfs.diff_ids")
    return ImageConfig(
        platform=normalise_platform(os, architecture, variant),
        has_variant=bool(variant),
        diff_ids=tuple(Digest(as_text(d, what=f"{what}.rootfs.diff_ids")) for d in diff_ids),
    )
