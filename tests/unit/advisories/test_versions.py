"""Version order of each ecosystem, also against another implementation."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from univers.versions import DebianVersion, PypiVersion, SemverVersion

from ci_registry.advisories.versions import UnparsableVersionError, can_compare, compare


@pytest.mark.parametrize(
    ("ecosystem", "lower", "higher"),
    [
        ("Debian:12", "1.0~rc1-1", "1.0-1"),
        ("Debian:12", "1.0-1", "1.0-1+b1"),
        ("Debian:12", "1.9", "1.10"),
        ("Debian:12", "9", "1:1"),
        ("Debian:12", "1.0", "1.0a"),
        ("Debian:12", "1.0a", "1.0+"),
        ("Debian:12", "3.0.11-1~deb12u1", "3.0.11-1~deb12u2"),
        ("Debian:12", "2.36-9+deb12u4", "2.36-9+deb12u10"),
        ("Ubuntu:22.04:LTS", "1.2-3ubuntu1", "1.2-3ubuntu1.1"),
        ("PyPI", "1.0rc1", "1.0"),
        ("PyPI", "1.0.dev1", "1.0a1"),
        ("PyPI", "1.9", "1!1.0"),
        ("npm", "1.0.0-alpha", "1.0.0-alpha.1"),
        ("npm", "1.0.0-alpha.9", "1.0.0-alpha.10"),
        ("npm", "1.0.0-9", "1.0.0-a"),
        ("npm", "1.0.0-rc.1", "1.0.0"),
        ("Go", "v0.0.0-20200220183623-bac4c82f6975", "0.0.0"),
    ],
)
def test_order(ecosystem: str, lower: str, higher: str) -> None:
    assert compare(ecosystem, lower, higher) == -1
    assert compare(ecosystem, higher, lower) == 1
    assert compare(ecosystem, lower, lower) == 0


@pytest.mark.parametrize(
    ("ecosystem", "a", "b"),
    [
        ("Debian:12", "0:1.0-1", "1.0-1"),
        ("Debian:12", "1.0-0", "1.0"),
        ("Debian:12", "1.001", "1.1"),
        ("PyPI", "1.0", "1.0.0"),
        ("PyPI", "2.0.0+cu117", "2.0.0"),
        ("npm", "1.2.3+build5", "1.2.3"),
        ("npm", "v1.2", "1.2.0"),
    ],
)
def test_equal_spellings(ecosystem: str, a: str, b: str) -> None:
    assert compare(ecosystem, a, b) == 0


@pytest.mark.parametrize(
    ("ecosystem", "text"),
    [
        ("Debian:12", ""),
        ("Debian:12", "1.0_2"),
        ("Debian:12", "a:1.0"),
        ("Debian:12", "1.0-"),
        ("Debian:12", "1 0"),
        ("Debian:12", "9" * 6000),
        ("PyPI", "latest"),
        ("PyPI", "2004d-x"),
        ("npm", "1.2.3.4"),
        ("npm", "git+ssh://x"),
        ("npm", ""),
        ("Alpine:v3.20", "1.2-r0"),
    ],
)
def test_what_is_no_version_is_an_error_and_not_an_order(ecosystem: str, text: str) -> None:
    with pytest.raises(UnparsableVersionError):
        compare(ecosystem, text, "1.0")


def test_ecosystems_without_a_comparator_are_known_to_have_none() -> None:
    assert can_compare("Debian:12")
    assert not can_compare("Alpine:v3.20")


_DEB = st.from_regex(r"(?:[0-3]:)?[0-9][0-9a-zA-Z.+~]{0,6}(?:-[0-9a-z.+~]{1,4})?", fullmatch=True)


@settings(max_examples=100, deadline=None)
@given(_DEB, _DEB)
def test_debian_order_is_antisymmetric(a: str, b: str) -> None:
    assert compare("Debian", a, b) == -compare("Debian", b, a)


def _random_deb(rng: random.Random) -> str:
    def part(first: str, length: int) -> str:
        return rng.choice(first) + "".join(
            rng.choice("0123456789012abz.+~") for _ in range(rng.randrange(length))
        )

    epoch = f"{rng.randrange(3)}:" if rng.random() < 0.2 else ""
    revision = f"-{part('0123456789', 4)}" if rng.random() < 0.6 else ""
    return f"{epoch}{part('0123456789', 6)}{revision}"


def test_debian_order_agrees_with_univers() -> None:
    rng = random.Random(20260601)
    for _ in range(3000):
        a, b = _random_deb(rng), _random_deb(rng)
        left, right = DebianVersion(a), DebianVersion(b)
        assert compare("Debian", a, b) == (left > right) - (left < right), (a, b)


def test_python_order_agrees_with_univers() -> None:
    rng = random.Random(7)
    for _ in range(500):
        a, b = (
            f"{rng.randrange(3)}.{rng.randrange(12)}{rng.choice(['', 'a1', 'rc2', '.post1', '.dev3'])}"
            for _ in range(2)
        )
        left, right = PypiVersion(a), PypiVersion(b)
        assert compare("PyPI", a, b) == (left > right) - (left < right), (a, b)


def test_semver_order_agrees_with_univers() -> None:
    rng = random.Random(8)
    for _ in range(1000):
        a, b = (
            f"{rng.randrange(3)}.{rng.randrange(12)}.{rng.randrange(3)}"
            + rng.choice(["", "-1", "-alpha", "-alpha.2", "-alpha.10", "-beta", "-rc.1.x"])
            for _ in range(2)
        )
        left, right = SemverVersion(a), SemverVersion(b)
        assert compare("npm", a, b) == (left > right) - (left < right), (a, b)
