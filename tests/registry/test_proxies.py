"""Which proxy a URL goes through."""

from __future__ import annotations

import pytest

from runner.registry.proxies import bypasses, proxies_for
from runner.settings import Proxy

PROXY = Proxy(http="http://p:1", https="http://p:2", no_proxy="x.example,.corp,10.0.0.0/8,y:81")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example/v2/", {"http": "http://p:1"}),
        ("https://a.example/v2/", {"https": "http://p:2"}),
        ("https://x.example/", {}),
        ("https://sub.x.example/", {}),
        ("https://notx.example/", {"https": "http://p:2"}),
        ("https://a.corp:5000/", {}),
        ("http://10.1.2.3/", {}),
        ("http://11.1.2.3/", {"http": "http://p:1"}),
        ("http://y:81/", {}),
        ("http://y:82/", {"http": "http://p:1"}),
        ("http://localhost:5000/", {}),
        ("http://127.0.0.1/", {}),
        ("http://[::1]:5000/", {}),
    ],
)
def test_the_settings_decide(url: str, expected: dict[str, str]) -> None:
    assert proxies_for(url, PROXY) == expected


def test_a_star_means_all() -> None:
    assert bypasses("a.example", None, "*")


def test_only_one_scheme() -> None:
    assert proxies_for("https://a.example", Proxy(http="http://p")) == {}


def test_the_environment_counts_where_the_settings_are_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://env:3")
    assert proxies_for("https://a.example", Proxy())["https"] == "http://env:3"
    assert proxies_for("https://a.example", Proxy(no_proxy="b")) == {}
    monkeypatch.setenv("no_proxy", "a.example")
    assert proxies_for("https://a.example", Proxy()) == {}
