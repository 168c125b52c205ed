"""The networks of trusted proxies."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from bake.config import loader, proxies
from bake.errors import RecipeError


@pytest.mark.parametrize(
    ("trust", "fault"),
    [
        ("10.0.0.0/8", "should be a list of networks"), ([], "should be a list"), (["0.0.0.0/0"], "is every address"),
        (["::/0"], "is every address"), (["10.0.0.1/8"], "write 10.0.0.0/8"), (["proxy.example"], "is not a network"),
        (["cloudflare"], r"`proxy: \{trust: cloudflare\}`"), ("CloudFlare", r"`proxy: \{trust: cloudflare\}`"),
    ],
)  # fmt: skip
def test_a_fault_in_the_trusted_networks_is_reported(trust: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        proxies.networks(trust)


@pytest.mark.parametrize("text", ["cloudflare", "[10.0.0.0/8]", "{trust: [cloudflare]}"])
def test_a_proxy_in_the_wrong_form_is_shown_the_right_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "bake.yaml").write_text(f"proxy: {text}\n")
    with pytest.raises(RecipeError) as caught:
        loader.read(tmp_path)
    assert "`proxy: {trust: cloudflare}`" in caught.value.details


def test_an_address_is_a_network() -> None:
    assert proxies.networks(["10.0.0.7", "2001:db8::/32"]) == ("10.0.0.7/32", "2001:db8::/32")


def test_cloudflare_s_networks_are_public_and_apart() -> None:
    networks = [ipaddress.ip_network(text) for text in proxies.networks("cloudflare")]
    assert all(network.is_global for network in networks)
    assert proxies.networks(list(proxies.CLOUDFLARE)) == proxies.CLOUDFLARE
