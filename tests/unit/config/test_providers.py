"""Providers: their limits, and what those come to."""

from __future__ import annotations

import base64
import ipaddress
import re

import pytest
from conftest import PROGRAMS

from bake.config.providers import AWS_METADATA_SERVICES, METADATA_SERVICES, PROVIDERS, SMALLEST_LIMIT, Provider

KNOWN = [provider for provider in PROVIDERS.values() if provider.limit is not None]


@pytest.mark.parametrize("provider", KNOWN, ids=lambda provider: provider.name)
def test_a_document_of_the_capacity_is_taken_and_one_of_more_is_not(provider: Provider) -> None:
    def sent(size: int) -> int:
        return len(base64.b64encode(bytes(size))) if provider.base64 else size

    assert provider.limit is not None
    assert sent(provider.capacity) <= provider.limit < sent(provider.capacity + 1)


def test_what_fits_everywhere_fits_every_one() -> None:
    assert min(provider.capacity for provider in PROVIDERS.values()) == SMALLEST_LIMIT


def test_where_nobody_states_a_limit_the_smallest_is_kept() -> None:
    unknown = [provider for provider in PROVIDERS.values() if provider.limit is None]
    assert unknown
    assert {provider.capacity for provider in unknown} == {SMALLEST_LIMIT}


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_each_goes_by_its_name_and_says_where_its_figure_is_from(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.name == name
    assert len(provider.source) > 5
    assert provider.remark == "" or provider.remark.endswith(".")


def test_a_machine_denies_exactly_the_metadata_services_of_the_table() -> None:
    unit = (PROGRAMS.parents[2] / "etc/systemd/system/app.service.d/50-sandbox.conf").read_text()
    assert " ".join(re.findall("^IPAddressDeny=(.+)$", unit, re.M)).split() == sorted(METADATA_SERVICES, key=unit.index)
    firewall = (PROGRAMS / "firewall.nft").read_text()
    rules = re.findall(r"^ +meta skuid 800 (ip6?) daddr \{ (.*) \} reject$", firewall, re.M)
    assert [kind for kind, _ in rules] == ["ip", "ip6"]
    for kind, addresses in rules:
        own = [address for address in METADATA_SERVICES if (":" in address) == (kind == "ip6")]
        assert sorted(addresses.split(", ")) == sorted(own)


def test_each_metadata_service_is_in_the_network_that_is_denied_for_it() -> None:
    for network, services in METADATA_SERVICES.items():
        assert services and all(services.values())
        assert all(ipaddress.ip_address(address) in ipaddress.ip_network(network) for address in services)


def test_what_a_role_opens_is_denied_without_one() -> None:
    assert {*AWS_METADATA_SERVICES} <= {address for services in METADATA_SERVICES.values() for address in services}
