"""Fixtures that several tests with real programs share."""

from tests.support.docker import dockerd, dockerd_classic
from tests.support.place import place

__all__ = ["dockerd", "dockerd_classic", "place"]
