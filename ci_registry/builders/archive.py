"""The reader of Docker's image archives, under the name by which the builders know it."""

from ci_registry.registry.docker_archive import compressed, convert_archive

__all__ = ["compressed", "convert_archive"]
