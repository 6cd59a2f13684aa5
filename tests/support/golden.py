"""Cases that are folders: an input file and the text expected of it."""

import os
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"


def golden_cases(area: str) -> list[Path]:
    """Return the case folders below `tests/golden/<area>`, sorted."""
    return sorted(path for path in (GOLDEN / area).iterdir() if path.is_dir())


def assert_golden(folder: Path, text: str, name: str = "expected.txt") -> None:
    """Compare with the expected text; with UPDATE_GOLDEN=1 write it instead."""
    path = folder / name
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
