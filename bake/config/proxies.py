"""Name the proxies that a machine can trust: Cloudflare's networks, or those that a recipe lists."""

from __future__ import annotations

import ipaddress

#: The networks of Cloudflare's proxies. Source: https://www.cloudflare.com/ips/, changed last on 2023-09-28. Checked on
#: 2026-11-29, against copies of the list.
CLOUDFLARE = (
    "173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18", "108.162.192.0/18",
    "190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13",
    "104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22",
    "2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29",
    "2c0f:f248::/32",
)  # fmt: skip

#: The key for Cloudflare, as errors show it.
EXAMPLE = "`proxy: {trust: cloudflare}`"


def networks(value: object) -> tuple[str, ...]:
    """Return the networks of trusted proxies: Cloudflare's for `cloudflare`, or those in a list. Raises ValueError."""
    if value == "cloudflare":
        return CLOUDFLARE
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"should be a list of networks, such as [10.0.0.0/16]; for Cloudflare: {EXAMPLE}")
    if "cloudflare" in value:
        raise ValueError(f"should have cloudflare without brackets: {EXAMPLE}")
    return tuple(_network(str(text)) for text in value)


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/16, nor an IP address") from None
    if not network.prefixlen:
        raise ValueError(f"{text!r} is every address: each visitor could forge an address and a scheme")
    if "/" in text and str(network.network_address) != str(ipaddress.ip_interface(text).ip):
        raise ValueError(f"{text!r} is an address in a network; write {network} for the network")
    return str(network)
