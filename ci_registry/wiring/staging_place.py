"""Which repository holds an image for the time of a registry-side scan."""

from ci_registry.config.model import Settings
from ci_registry.errors import SetupError, UsageError
from ci_registry.oci.reference import Reference, parse_reference


def staging_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the registry of the staging repository, which the given password is for too."""
    place = staging_place(settings)
    return (place.registry,) if place else ()


def staging_place(settings: Settings) -> Reference | None:
    """Return the staging repository of the settings.

    Raises:
        SetupError: what they name is no repository.
    """
    if not settings.scan.staging:
        return None
    try:
        place = parse_reference(settings.scan.staging)
    except UsageError as error:
        raise SetupError(f"scan.staging: {error.message}", hint=error.hint) from error
    if place.tag:
        raise SetupError(
            f"scan.staging is {settings.scan.staging}, which has a tag",
            hint=f"name the repository alone: {place.name}",
        )
    return place
