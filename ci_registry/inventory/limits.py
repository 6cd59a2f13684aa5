"""How much of a foreign image we are willing to read before we call it hostile."""

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one inspection; the defaults are far above any honest image."""

    layer_bytes: int = 64 * GIB
    """Largest inflated layer."""
    ratio: int = 250
    """Largest inflated size as a multiple of the compressed one, counted above `ratio_free_bytes`."""
    ratio_free_bytes: int = GIB
    """A layer below this inflated size may have any ratio: zeros pack a thousandfold."""
    entries_count: int = 2_000_000
    """Most tar entries of one layer."""
    path_bytes: int = 4096
    """Longest path or link target; Linux's own `PATH_MAX`."""
    kept_bytes: int = 256 * MIB
    """Most bytes of package files kept from one layer; what is beyond is reported as unread."""
    manifests_count: int = 200
    """Most manifests in an index, nested ones included."""
    index_depth: int = 4
    """Deepest nesting of indexes."""
    layers_count: int = 500
    """Most layers of one image."""


DEFAULT_LIMITS = Limits()
