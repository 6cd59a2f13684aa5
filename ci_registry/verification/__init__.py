"""Verifies signatures with a public key: whom we trust, and the table of checks."""
