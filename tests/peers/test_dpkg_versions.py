"""Debian version order against dpkg itself."""

import random
import subprocess

import pytest

from ci_registry.advisories.versions import compare

_SCRIPT = """
while read -r a b; do
  if dpkg --compare-versions "$a" lt "$b"; then echo -1
  elif dpkg --compare-versions "$a" gt "$b"; then echo 1
  else echo 0; fi
done
"""


def _part(rng: random.Random, length: int) -> str:
    return rng.choice("0123456789") + "".join(
        rng.choice("0001239abz.+~") for _ in range(rng.randrange(length))
    )


def _version(rng: random.Random) -> str:
    epoch = f"{rng.randrange(3)}:" if rng.random() < 0.2 else ""
    revision = f"-{_part(rng, 5)}" if rng.random() < 0.6 else ""
    hyphen = f"-{_part(rng, 2)}" if revision and rng.random() < 0.1 else ""
    return f"{epoch}{_part(rng, 7)}{hyphen}{revision}"


def _near(rng: random.Random, version: str) -> str:
    """Return a version that differs in little, where the order is hardest."""
    at = rng.randrange(version.find(":") + 2, len(version) + 1)
    changed = version[:at] + rng.choice(["", "~", "+", ".", "a", "0", "1"]) + version[at:]
    return changed if not changed.endswith("-") else version


@pytest.mark.peer("dpkg")
def test_order_is_that_of_dpkg_for_thousands_of_pairs() -> None:
    rng = random.Random(20260601)
    pairs = []
    for _ in range(3000):
        first = _version(rng)
        pairs.append((first, _near(rng, first) if rng.random() < 0.5 else _version(rng)))
    done = subprocess.run(
        ["bash", "-c", _SCRIPT],
        input="".join(f"{a} {b}\n" for a, b in pairs),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [int(line) for line in done.stdout.split()]
    assert len(theirs) == len(pairs)
    wrong = [
        (a, b, expected)
        for (a, b), expected in zip(pairs, theirs, strict=True)
        if compare("Debian:12", a, b) != expected
    ]
    assert wrong == []
    assert {-1, 0, 1} == set(theirs)
