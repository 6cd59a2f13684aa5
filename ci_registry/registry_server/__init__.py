"""The embedded registry: a pure request handler, its storage, and the socket shell around it.

It is what `ci-registry serve` runs, what a dry run publishes to, and the test double of every
registry quirk. Importing this package imports no server: `serve.py` loads uvicorn when it starts.
"""
