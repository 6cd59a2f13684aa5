"""Where an image is published: the registry prefixes joined with its repository."""

from ci_registry.config.model import Settings
from ci_registry.errors import UsageError
from ci_registry.oci.reference import Reference, parse_reference


def destinations(settings: Settings, image_name: str) -> tuple[Reference, ...]:
    """Return the repositories that get the image, without tags; empty when no registry is named at all.

    A `repository` with a host stands alone; any other is put below each of `registries` or `registry`.
    Upper case is lowered, because registries know none.

    Raises:
        UsageError: a registry or repository is malformed; says which.
    """
    image = settings.images.get(image_name)
    repository = ((image.repository if image else "") or image_name).lower()
    if _has_host(repository):
        return (_parse(repository, "repository"),)
    prefixes = settings.registries or ((settings.registry,) if settings.registry else ())
    found = [
        _parse(f"{_checked_prefix(prefix)}/{repository.strip('/')}", "repository")
        for prefix in prefixes
    ]
    return tuple(dict.fromkeys(found))


def no_destination_error(image_name: str) -> UsageError:
    """Return the error for an image that shall be pushed while no registry is named."""
    return UsageError(
        f"no registry is named for image {image_name!r}",
        hint="set `registry:` in the settings file, --registry or CIREG_REGISTRY, "
        "or give the image a full name such as ghcr.io/acme/api",
    )


def _has_host(text: str) -> bool:
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _checked_prefix(prefix: str) -> str:
    text = prefix.lower().rstrip("/")
    if "://" in text:
        hint = f"write {text.split('://')[1]}"
        raise UsageError(f"registry {prefix!r} must not have a scheme", hint=hint)
    if not _has_host(f"{text}/"):
        hint = f"for Docker Hub write docker.io/{text}"
        raise UsageError(f"registry {prefix!r} has no host", hint=hint)
    return text


def _parse(text: str, what: str) -> Reference:
    reference = parse_reference(text)
    if reference.tag or reference.digest:
        raise UsageError(
            f"{what} {text!r} must not have a tag or digest", hint="tags have their own setting"
        )
    return reference
