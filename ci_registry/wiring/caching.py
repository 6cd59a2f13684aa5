"""Opens the cache of a run: its place, its limit, and the tree that belongs to the trust in the run."""

from collections.abc import Mapping
from pathlib import Path

from ci_registry.cache import DiskCache
from ci_registry.ci.context import CiContext
from ci_registry.config.model import Settings
from ci_registry.files import cache_folder

TRUSTED, CHANGES = "trusted", "changes"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def open_cache(settings: Settings, ci: CiContext, env: Mapping[str, str]) -> DiskCache:
    """Return the cache of this run; a change request never writes what a protected branch reads.

    Args:
        settings: its limit, and its folder when one is set.
        ci: decides the tree.
        env: where the folder is otherwise, see `files.cache_folder`.
    """
    return DiskCache(
        folder=cache_root(settings, env) / tree_of(ci),
        max_bytes=size_bytes(settings.runtime.cache_max_size),
    )


def tree_of(ci: CiContext) -> str:
    """Return the tree that this run may write: what one of more trust reads is never in it."""
    return CHANGES if ci.is_change_request else TRUSTED


def cache_root(settings: Settings, env: Mapping[str, str]) -> Path:
    """Return the folder of all caches: the one in the settings, else see `files.cache_folder`."""
    place = {"CIREG_CACHE_DIR": settings.cache_dir} if settings.cache_dir else {}
    return cache_folder({**env, **place})


def size_bytes(text: str) -> int:
    """Return a size such as `2GiB` in bytes; the settings have checked its form."""
    return int(text[:-3]) * _UNITS[text[-3:]]
