"""Random pairs of versions in the shapes of each ecosystem, half of them near neighbours."""

import random
from collections.abc import Callable, Sequence

Make = Callable[[random.Random], str]
_NUMBERS = ("0", "0", "1", "1", "2", "3", "9", "10", "11", "100", "20240101")


def _numbers(rng: random.Random, most: int, least: int = 1) -> str:
    return ".".join(rng.choice(_NUMBERS) for _ in range(rng.randint(least, most)))


def _deb(rng: random.Random) -> str:
    def part(length: int) -> str:
        return rng.choice("0123456789") + "".join(
            rng.choice("0001239abz.+~") for _ in range(rng.randrange(length))
        )

    epoch = f"{rng.randrange(3)}:" if rng.random() < 0.2 else ""
    return epoch + part(7) + (f"-{part(5)}" if rng.random() < 0.6 else "")


def _rpm(rng: random.Random) -> str:
    def part(length: int) -> str:
        return rng.choice("0123456789") + "".join(
            rng.choice("0012789abzA.._+~^") for _ in range(rng.randrange(length))
        )

    release = rng.choice(("", "-1.el9", "-1.el9_2.3", f"-{part(5)}", "-2.module+el8.6.0+1+abc"))
    epoch = f"{rng.randrange(2)}:" if rng.random() < 0.2 else ""
    return epoch + part(8) + release


def _apk(rng: random.Random) -> str:
    text = _numbers(rng, 4) + rng.choice(("", "", "", "a", "b", "z"))
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        text += f"_{rng.choice(APK_SUFFIXES)}{rng.choice(('', '1', '2', '10', '20230101'))}"
    return text + rng.choice(("", "-r0", "-r1", "-r9", "-r10"))


APK_SUFFIXES = ("alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p")


def _pep440(rng: random.Random) -> str:
    text = rng.choice(("", "", "1!")) + _numbers(rng, 4)
    text += rng.choice(("", "", "a1", "b2", "rc1", "rc10", "-alpha.2", ".c1"))
    text += rng.choice(("", "", ".post1", "-2", ".post10"))
    return text + rng.choice(("", "", ".dev0", ".dev3"))


def _semver(rng: random.Random) -> str:
    text = _numbers(rng, 3, 3)
    if rng.random() < 0.5:
        part = (
            "0",
            "1",
            "2",
            "10",
            "alpha",
            "beta",
            "rc",
            "x-y",
            "1a",
            "A",
            "20210101000000-abcdef",
        )
        text += "-" + ".".join(rng.choice(part) for _ in range(rng.randint(1, 3)))
    return text + rng.choice(("", "", "", "+build.1", "+incompatible"))


def _go(rng: random.Random) -> str:
    if rng.random() < 0.3:
        stamp = f"202{rng.randrange(6)}0{rng.randint(1, 9)}01120000"
        before = rng.choice(("v0.0.0-", "v1.2.3-0.", "v1.2.3-pre.0."))
        return f"{before}{stamp}-{rng.choice(('abcdef012345', '0123456789ab'))}"
    return rng.choice(("v", "")) + _semver(rng)


def _toolchain(rng: random.Random) -> str:
    text = f"go1.{rng.choice((2, 9, 18, 20, 21, 22, 23))}"
    return text + rng.choice(("", ".1", ".3", ".10", "beta1", "rc1", "rc2", ".0", ".3-acme"))


def _maven(rng: random.Random) -> str:
    if rng.random() < 0.3:
        parts = ("0", "1", "2", ".", "-", ".", "-", ".", "-", "a", "rc", "x", "sp", "ga", "10")
        return "1" + "".join(rng.choice(parts) for _ in range(rng.randrange(8)))
    text = _numbers(rng, 4)
    for _ in range(rng.randrange(3)):
        text += rng.choice("-.") + rng.choice(MAVEN_WORDS)
        text += rng.choice(("", "-", ".")) + rng.choice(("", "1", "2", "0", "10", "01"))
    return text


MAVEN_WORDS = (
    *("alpha", "beta", "rc", "cr", "ga", "final", "snapshot", "sp", "m", "a", "b", "x", "jre"),
    *(
        "release",
        "pre",
        "milestone",
        "RC",
        "Final",
        "redhat",
        "Alpha",
        "xyz",
        "SNAPSHOT",
        "RELEASE",
    ),
)


def _gem(rng: random.Random) -> str:
    text = _numbers(rng, 4)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        text += rng.choice((".", ".", "-")) + rng.choice(
            ("pre", "rc1", "a", "beta", "b2", "0", "1")
        )
        text += rng.choice(("", ".0", ".1", ".10"))
    return text


def _nuget(rng: random.Random) -> str:
    text = _numbers(rng, 4)
    if rng.random() < 0.5:
        part = ("0", "1", "2", "10", "alpha", "Alpha", "beta", "RC", "rc", "x-y", "preview")
        text += "-" + ".".join(rng.choice(part) for _ in range(rng.randint(1, 3)))
    return text + rng.choice(("", "", "+build"))


def _composer(rng: random.Random) -> str:
    text = rng.choice(("", "v")) + ".".join(
        rng.choice(_NUMBERS[:9]) for _ in range(rng.randint(1, 4))
    )
    if rng.random() < 0.5:
        words = ("alpha", "a", "beta", "b", "RC", "rc", "patch", "p", "pl", "stable", "Beta")
        text += rng.choice(("-", "", ".", "_")) + rng.choice(words)
        text += rng.choice(("", "1", "2", "10", ".3", "-4", "1.2"))
    return text + rng.choice(("", "", "", "-dev", "+build"))


def _bitnami(rng: random.Random) -> str:
    return _numbers(rng, 3, 3) + rng.choice(("", "", "-0", "-1", "-2", "-10"))


GRAMMARS: dict[str, Make] = {
    "apk": _apk,
    "bitnami": _bitnami,
    "composer": _composer,
    "deb": _deb,
    "gem": _gem,
    "go": _go,
    "maven": _maven,
    "npm": _semver,
    "nuget": _nuget,
    "pep440": _pep440,
    "rpm": _rpm,
    "toolchain": _toolchain,
}

ECOSYSTEMS = {
    "apk": "Alpine:v3.20",
    "bitnami": "Bitnami",
    "composer": "Packagist",
    "deb": "Debian:12",
    "gem": "RubyGems",
    "go": "Go",
    "maven": "Maven",
    "npm": "npm",
    "nuget": "NuGet",
    "pep440": "PyPI",
    "rpm": "AlmaLinux:9",
    "toolchain": "Go",
}
"""Grammar → the ecosystem whose comparator it is for."""


def random_pairs(grammar: str, count: int, *, real: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return pairs of versions: unrelated ones, ones that differ in one piece, and real ones."""
    rng = random.Random(f"{grammar} {count}")
    make = GRAMMARS[grammar]
    pairs = []
    for _ in range(count):
        seed = rng.getrandbits(64)
        if real and rng.random() < 0.3:
            pairs.append((rng.choice(real), rng.choice(real)))
        elif rng.random() < 0.4:  # the same choices up to some point
            first = make(random.Random(seed))
            pairs.append((first, _neighbour(first, rng, make)))
        else:
            pairs.append((make(rng), make(rng)))
    return pairs


def _neighbour(version: str, rng: random.Random, make: Make) -> str:
    """Return another version that shares the longest beginning of some tries."""
    tries = [make(rng) for _ in range(12)]

    def shared(other: str) -> int:
        return next(
            (n for n, (a, b) in enumerate(zip(version, other, strict=False)) if a != b),
            min(len(version), len(other)),
        )

    return max(tries, key=shared)
