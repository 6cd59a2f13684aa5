"""The error that says: this text is no version of that scheme."""


class UnparsableVersionError(ValueError):
    """A version that can't be parsed; the match is undecided, never a silent "not affected"."""

    def __init__(self, version: str, scheme: str) -> None:
        """Name the text and the scheme it does not follow."""
        super().__init__(f"{version[:100]!r} is no {scheme} version")
        self.version = version
        self.scheme = scheme
