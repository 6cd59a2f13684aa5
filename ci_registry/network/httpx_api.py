"""Imports httpx without its command line client, which would bring rich and pygments along (35 ms)."""

import sys

_CLIENT = "httpx._main"

sys.modules.setdefault(_CLIENT, None)  # type: ignore[arg-type]  # None: such an import fails, as httpx expects
try:
    import httpx as httpx  # noqa: PLC0414 - handed on
finally:
    if sys.modules.get(_CLIENT) is None:
        del sys.modules[_CLIENT]
