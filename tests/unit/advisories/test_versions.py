"""Version order of each ecosystem, also against another implementation."""

import random
from functools import cmp_to_key

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from univers.versions import DebianVersion, PypiVersion, SemverVersion

from ci_registry.advisories.ecosystems import LANGUAGE_ECOSYSTEMS
from ci_registry.advisories.versions import UnparsableVersionError, can_compare, compare
from tests.support.version_pairs import ECOSYSTEMS, GRAMMARS


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
        ("Go", "v1.2.3-0.20240101000000-abcdefabcdef", "v1.2.3"),
        ("Go", "go1.22rc1", "1.22.0"),
        ("Go", "1.22.0-0", "go1.22rc1"),
        ("Go", "go1.22", "go1.22.0"),
        ("Go", "go1.22.9", "go1.22.10"),
        ("crates.io", "0.9.9-alpha", "0.9.9"),
        ("AlmaLinux:9", "1.0~rc1-1.el9", "1.0-1.el9"),
        ("AlmaLinux:9", "1.0-1.el9", "1.0^git1-1.el9"),
        ("AlmaLinux:9", "1.0^git1-1.el9", "1.0.1-1.el9"),
        ("AlmaLinux:9", "9-1", "1:1-1"),
        ("AlmaLinux:9", "3.0.7-6.el9_2", "3.0.7-16.el9_2"),
        ("Rocky Linux:9", "1.a", "1.1"),
        ("Red Hat:enterprise_linux:9", "2.el9", "2.el9_0"),
        ("Alpine:v3.20", "1.2_alpha1", "1.2_beta"),
        ("Alpine:v3.20", "1.2_rc9", "1.2"),
        ("Alpine:v3.20", "1.2-r0", "1.2_git20230101-r0"),
        ("Alpine:v3.20", "1.2_git20230101-r0", "1.2_p1-r0"),
        ("Alpine:v3.20", "1.2", "1.2a"),
        ("Alpine:v3.20", "1.2a", "1.2.1"),
        ("Alpine:v3.20", "1.2-r9", "1.2-r10"),
        ("Alpine:v3.20", "1.2_rc1_git1-r0", "1.2_rc2-r0"),
        ("Alpine:v3.20", "1.010", "1.02"),
        ("Alpine:v3.20", "1.01", "1.1"),
        ("Alpine:v3.20", "1.2-r3", "1.2~abc123-r3"),
        ("Wolfi", "1.2.3-r1", "1.2.3-r2"),
        ("Maven", "1.0-alpha-1", "1.0-beta"),
        ("Maven", "1.0-SNAPSHOT", "1.0"),
        ("Maven", "1.0", "1.0-sp"),
        ("Maven", "1.0-rc9", "1.0-rc10"),
        ("Maven", "31.0-android", "31.0-jre"),
        ("Maven", "2.9.10.7", "2.9.10.8"),
        ("RubyGems", "1.0.0.pre1", "1.0.0"),
        ("RubyGems", "1.0.0-1", "1.0.0"),
        ("RubyGems", "1.0.a10", "1.0.b1"),
        ("NuGet", "1.0.0-Beta", "1.0.0-rc"),
        ("NuGet", "1.0.0.1", "1.0.0.2"),
        ("NuGet", "1.0.0-9", "1.0.0-a"),
        ("Packagist", "1.0.0-RC1", "1.0.0"),
        ("Packagist", "1.0.0", "1.0.0-patch1"),
        ("Packagist", "1.0-dev", "1.0-alpha"),
        ("Packagist", "v9.52.15", "v9.52.16"),
        ("Bitnami", "7.0.11", "7.0.11-1"),
        ("Bitnami", "7.0.11-9", "7.0.11-10"),
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
        ("Go", "v1.2.3+incompatible", "1.2.3"),
        ("Go", "go1.22.3-acme X:boringcrypto", "v1.22.3"),
        ("AlmaLinux:9", "0:1.0-1", "1.0-1"),
        ("AlmaLinux:9", "1.0.", "1.0"),
        ("AlmaLinux:9", "1_0", "1.0"),
        ("Maven", "1.0.0", "1"),
        ("Maven", "1.0-ga", "1.0.Final"),
        ("Maven", "1.0-cr1", "1.0-RC1"),
        ("RubyGems", "1.0.0", "1"),
        ("NuGet", "1.0.0.0", "1.0"),
        ("NuGet", "1.0.0-BETA", "1.0.0-beta"),
        ("Packagist", "v1.0", "1.0.0.0"),
        ("Packagist", "1.0-b2", "1.0.0-beta2"),
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
        ("Go", "(devel)"),
        ("Go", "go1.2.3.4"),
        ("Go", "devel +abcdef"),
        ("AlmaLinux:9", ""),
        ("AlmaLinux:9", "gtk+3.0-3.24.8-1.1.mga7"),
        ("AlmaLinux:9", "1.0 2"),
        ("Alpine:v3.20", "1.2.x"),
        ("Alpine:v3.20", "1.2_foo1"),
        ("Alpine:v3.20", "1.2-r"),
        ("Alpine:v3.20", "1.2-1"),
        ("Alpine:v3.20", "a.1"),
        ("Maven", "${revision}"),
        ("Maven", "[1.0,2.0)"),
        ("Maven", "LATEST"),
        ("Maven", ""),
        ("RubyGems", "1.0.0-x86_64-linux"),
        ("RubyGems", ""),
        ("NuGet", "1.2.3.4.5"),
        ("NuGet", "1.*"),
        ("Packagist", "dev-main"),
        ("Packagist", "1.x-dev"),
        ("Packagist", "9999999-dev"),
        ("Bitnami", "1.2.3.4"),
        ("Hackage", "1.2"),
    ],
)
def test_what_is_no_version_is_an_error_and_not_an_order(ecosystem: str, text: str) -> None:
    with pytest.raises(UnparsableVersionError):
        compare(ecosystem, text, "1.0")


def test_ecosystems_without_a_comparator_are_known_to_have_none() -> None:
    assert can_compare("Debian:12")
    assert all(can_compare(ecosystem) for ecosystem in LANGUAGE_ECOSYSTEMS.values())
    assert not can_compare("Hackage")


@pytest.mark.parametrize("grammar", sorted(GRAMMARS))
def test_order_of_every_scheme_is_an_order(grammar: str) -> None:
    """Antisymmetric and transitive, or sorting the events of a range would mean nothing."""
    ecosystem, rng = ECOSYSTEMS[grammar], random.Random(grammar)
    made = sorted({GRAMMARS[grammar](rng) for _ in range(150)})

    def order(a: str, b: str) -> int:
        return compare(ecosystem, a, b)

    ordered = sorted(made, key=cmp_to_key(order))
    for _ in range(2000):
        low, high = sorted(rng.sample(range(len(ordered)), 2))
        assert compare(ecosystem, ordered[low], ordered[high]) <= 0
        assert compare(ecosystem, ordered[high], ordered[low]) >= 0


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
