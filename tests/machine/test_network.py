"""Who may come in, and where the app may not go."""

import ipaddress
import json

import pytest

from bake.config.providers import AWS_METADATA_SERVICES, METADATA_SERVICES


def test_only_ssh_and_web_listen_to_the_world(host):
    # With -e, ss names who made a socket. An app may have sockets of its own (statsd's client has one that looks like a
    # server's); the firewall keeps the world from them.
    lines = host.run("ss -Hlntue").stdout.splitlines()
    found = set()
    for line in lines:
        if " uid:800 " in line:
            continue
        protocol, _, _, _, local = line.split()[:5]
        address, port = local.rsplit(":", 1)
        # The loopback addresses, and DHCP's clients, whose port is bound to one link.
        if not address.startswith(("127.", "[::1]")) and not (protocol == "udp" and port in {"68", "546"}):
            found.add((protocol, port))
    assert found == {("tcp", "22"), ("tcp", "80"), ("tcp", "443")}


def test_both_ip_versions_are_served(host):
    listening = host.run("ss -Hlnt").stdout
    for local in ("0.0.0.0:80", "0.0.0.0:443", "[::]:80", "[::]:443"):
        assert f" {local} " in listening


def chain(host, name):
    """A chain's own facts and its rules, as nft's JSON has them."""
    rows = json.loads(host.run("nft -j list chain inet app %s", name).stdout)["nftables"]
    return next(row["chain"] for row in rows if "chain" in row), [row["rule"]["expr"] for row in rows if "rule" in row]


def test_the_firewall_drops_what_is_not_named(host):
    facts, rules = chain(host, "input")
    assert facts["policy"] == "drop" and facts["hook"] == "input"
    accepting = [rule for rule in rules if {"accept": None} in rule]
    ports = [
        expression["match"]["right"]
        for rule in accepting
        for expression in rule
        if expression.get("match", {}).get("left", {}).get("payload", {}).get("field") == "dport"
    ]
    # DHCPv6's answers; loopback, what was asked for, and ICMP are the other three.
    assert ports == [{"set": [22, 80, 443]}, 546]
    assert len(accepting) == 5


def test_icmpv6_is_allowed(host):
    # nft names a protocol where /etc/protocols is there to tell.
    said = json.dumps(chain(host, "input")[1])
    assert "ipv6-icmp" in said or "[1, 58]" in said


@pytest.fixture(scope="module")
def allowed(host):
    """What the release opens to its app again: EC2's metadata service, where its role is for the app."""
    recipe = json.loads(host.file("/srv/app/current/recipe.json").content_string)
    return {*AWS_METADATA_SERVICES} if recipe.get("aws", {}).get("role") else set()


@pytest.fixture(scope="module")
def denied(host):
    """The networks that the app's unit and the machine's firewall deny it, whatever the port."""
    unit = host.run("systemctl show --value --property IPAddressDeny app.service").stdout.split()
    sets = [
        expression["match"]["right"]["set"]
        for rule in chain(host, "output")[1]
        if any("reject" in expression for expression in rule) and "dport" not in str(rule)
        for expression in rule
        if expression.get("match", {}).get("left", {}).get("payload", {}).get("field") == "daddr"
        if "set" in expression["match"]["right"]
    ]
    firewall = [
        "{addr}/{len}".format(**item["prefix"]) if isinstance(item, dict) else item for part in sets for item in part
    ]
    return [{ipaddress.ip_network(address) for address in part} for part in (unit, firewall)]


@pytest.mark.parametrize("address", METADATA_SERVICES)
def test_the_app_reaches_no_metadata_service(denied, address):
    unit, firewall = denied
    assert ipaddress.ip_network(address) in unit
    assert ipaddress.ip_network(address) in firewall


def test_a_role_opens_the_metadata_service_of_ec2_alone(host, allowed):
    shown = host.run("systemctl show --value --property IPAddressAllow app.service").stdout.split()
    assert {address.partition("/")[0] for address in shown} == allowed
    accepting = [str(rule) for rule in chain(host, "output")[1] if {"accept": None} in rule]
    assert len(accepting) == len(allowed)
    assert all("dport" in rule and any(address in rule for address in allowed) for rule in accepting)


def test_names_are_looked_up_through_resolved(host):
    assert host.file("/etc/resolv.conf").linked_to == "/run/systemd/resolve/stub-resolv.conf"
