"""Builders, one module each; the interface is in `interface`."""
