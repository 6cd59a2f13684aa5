"""One packaged CI step for container images; importing this package does no work."""

__version__ = "0.1.0"
