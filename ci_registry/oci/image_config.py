"""Reads from the bytes of an image config what says for which platform it is."""

from ci_registry.oci.platform import Platform, normalise_platform
from ci_registry.strict import as_object, as_text, parse_json


def parse_config_platform(body: bytes, *, what: str) -> Platform:
    """Return the platform in the bytes of an image config.

    Raises:
        IntegrityError: they are no image config.
    """
    config = as_object(parse_json(body, what=what), what=what)
    os, architecture, variant = (
        as_text(config.get(key) or "", what=f"{what}.{key}")
        for key in ("os", "architecture", "variant")
    )
    return normalise_platform(os, architecture, variant)
