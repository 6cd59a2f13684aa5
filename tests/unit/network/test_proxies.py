"""Which proxy a host is reached through."""

import pytest

from ci_registry.errors import SetupError
from ci_registry.network.message import origin_of
from ci_registry.network.proxies import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "env", "expected"),
    [
        ("https://r.example", {}, ""),
        ("https://r.example", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://r.example", {"https_proxy": "proxy.example:3128"}, PROXY),
        ("https://r.example", {"HTTP_PROXY": PROXY}, ""),
        ("http://r.example", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://r.example", {"ALL_PROXY": PROXY}, PROXY),
        ("http://localhost:5000", {"HTTP_PROXY": PROXY}, ""),
        ("http://127.0.0.9:5000", {"HTTP_PROXY": PROXY}, ""),
        ("http://[::1]:5000", {"HTTP_PROXY": PROXY}, ""),
    ],
)
def test_proxy_comes_from_the_variable_of_the_scheme(
    url: str, env: dict[str, str], expected: str
) -> None:
    assert proxy_for(origin_of(url), env) == expected


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("https://registry.local", "registry.local", True),
        ("https://a.registry.local", "registry.local", True),
        ("https://a.registry.local", ".registry.local", True),
        ("https://a.registry.local", "*.registry.local", True),
        ("https://myregistry.local", "registry.local", False),
        ("https://registry.local:5000", "registry.local:5000", True),
        ("https://registry.local:5001", "registry.local:5000", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::1]", "fd00::/8", True),
        ("https://registry.local", "other, registry.local ,x", True),
        ("https://registry.local", "other registry.local", True),
        ("https://registry.local.", "registry.local", True),
        ("https://registry.local", ".registry.local.", True),
        ("https://[fd00::1]:5000", "[fd00::1]:5000", True),
        ("https://registry.local", "*", True),
        ("https://registry.local", "", False),
    ],
)
def test_no_proxy_exempts_hosts_ports_and_networks(url: str, no_proxy: str, direct: bool) -> None:
    env = {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert proxy_for(origin_of(url), env) == ("" if direct else PROXY)


def test_a_kind_of_proxy_that_we_cannot_use_is_said() -> None:
    with pytest.raises(SetupError, match="socks5 proxy") as caught:
        proxy_for(origin_of("https://r.example"), {"ALL_PROXY": "socks5://u:secret@p:1080"})
    assert "secret" not in caught.value.message + caught.value.hint
