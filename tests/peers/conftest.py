"""Fixtures that several tests with real programs share."""

from tests.support.docker import dockerd, dockerd_classic

__all__ = ["dockerd", "dockerd_classic"]
