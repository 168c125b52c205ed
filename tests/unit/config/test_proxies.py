"""The networks of trusted proxies."""

from __future__ import annotations

import ipaddress

import pytest

from bake.config import proxies


@pytest.mark.parametrize(
    ("trust", "fault"),
    [
        ("10.0.0.0/8", "should be a list of networks"), ([], "should be a list"), (["0.0.0.0/0"], "is every address"),
        (["::/0"], "is every address"), (["10.0.0.1/8"], "write 10.0.0.0/8"), (["proxy.example"], "is not a network"),
    ],
)  # fmt: skip
def test_a_fault_in_the_trusted_networks_is_reported(trust: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        proxies.networks(trust)


def test_an_address_is_a_network() -> None:
    assert proxies.networks(["10.0.0.7", "2001:db8::/32"]) == ("10.0.0.7/32", "2001:db8::/32")


def test_cloudflare_s_networks_are_public_and_apart() -> None:
    networks = [ipaddress.ip_network(text) for text in proxies.networks("cloudflare")]
    assert all(network.is_global for network in networks)
    assert proxies.networks(list(proxies.CLOUDFLARE)) == proxies.CLOUDFLARE
