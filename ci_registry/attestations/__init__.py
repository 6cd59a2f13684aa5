"""What is signed and how it is wrapped: bytes in, values out; nothing here does I/O.

Formats: cosign's simple signing (`.sig`), DSSE envelopes, in-toto statements, Sigstore bundles v0.3.
"""
