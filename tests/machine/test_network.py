"""Check the listening sockets, the firewall, and the limits of the app's network access."""

import ipaddress
import json

import pytest

from bake.config.providers import AWS_METADATA_SERVICES, METADATA_SERVICES


def test_only_ssh_and_web_listen_to_the_world(host):
    # With -e, ss prints the uid of a socket's creator. The app may have sockets (that of statsd's client looks like a
    # listener), but the firewall blocks them.
    lines = host.run("ss -Hlntue").stdout.splitlines()
    listeners = set()
    for line in lines:
        if " uid:800 " in line:
            continue
        protocol, _, _, _, local = line.split()[:5]
        address, port = local.rsplit(":", 1)
        # Ignore loopback addresses and DHCP clients, whose port is bound to one link.
        if not address.startswith(("127.", "[::1]")) and not (protocol == "udp" and port in {"68", "546"}):
            listeners.add((protocol, port))
    assert listeners == {("tcp", "22"), ("tcp", "80"), ("tcp", "443")}


def test_both_ip_versions_are_served(host):
    listening = host.run("ss -Hlnt").stdout
    for local in ("0.0.0.0:80", "0.0.0.0:443", "[::]:80", "[::]:443"):
        assert f" {local} " in listening


def chain(host, name):
    """Return the properties of a chain and the expressions of its rules, as in nft's JSON."""
    rows = json.loads(host.run("nft -j list chain inet app %s", name).stdout)["nftables"]
    return next(row["chain"] for row in rows if "chain" in row), [row["rule"]["expr"] for row in rows if "rule" in row]


def test_the_firewall_drops_other_ports(host):
    properties, rules = chain(host, "input")
    assert properties["policy"] == "drop" and properties["hook"] == "input"
    accepting = [rule for rule in rules if {"accept": None} in rule]
    ports = [
        expression["match"]["right"]
        for rule in accepting
        for expression in rule
        if expression.get("match", {}).get("left", {}).get("payload", {}).get("field") == "dport"
    ]
    # 546 is for DHCPv6 answers. The other three rules are for loopback, established connections and ICMP.
    assert ports == [{"set": [22, 80, 443]}, 546]
    assert len(accepting) == 5


def limits(host):
    """The names of the limits of connections. Debian 12's nft prints them as meters, Debian 13's as sets."""
    statements = [statement for rule in chain(host, "output")[1] for statement in rule]
    sets = {statement["set"]["set"].removeprefix("@") for statement in statements if "set" in statement}
    return sets | {statement["meter"]["name"] for statement in statements if "meter" in statement}


def test_an_address_cannot_take_all_connections_of_nginx(host):
    if not host.file("/srv/app/current/settings/web.nft").exists:
        pytest.skip("only bundles have the limit")
    assert limits(host) >= {"web4", "web6"}


def test_tries_of_passwords_are_limited(host):
    configuration = dict(line.partition(" ")[::2] for line in host.run("sshd -T").stdout.splitlines())
    if "persourcepenalties" in configuration:
        assert configuration["persourcepenalties"] != "no"
    elif host.file("/srv/app/current/settings/ssh.nft").exists:
        assert limits(host) >= {"ssh4", "ssh6"}
    else:
        pytest.skip("the document had no room for the limit")


@pytest.mark.parametrize(("name", "field"), [("from", "dport"), ("to", "sport")])
def test_visitors_and_the_app_cannot_fill_the_table_of_connections(host, name, field):
    rules = [rule for rule in chain(host, name)[1] if {"notrack": None} in rule]
    matches = [expression["match"] for rule in rules for expression in rule if "match" in expression]
    assert "lo" in [match["right"] for match in matches]
    ports = [match["right"]["set"] for match in matches if match["left"].get("payload", {}).get("field") == field]
    assert ports == [[22, 80, 443]]


def test_icmpv6_is_allowed(host):
    # nft prints the protocol's name if /etc/protocols exists, or else its number.
    rules = json.dumps(chain(host, "input")[1])
    assert "ipv6-icmp" in rules or "[1, 58]" in rules


@pytest.fixture(scope="module")
def allowed(host):
    """Return the denied addresses that the release opens: EC2's metadata service, if the app may use the role."""
    recipe = json.loads(host.file("/srv/app/current/recipe.json").content_string)
    return {*AWS_METADATA_SERVICES} if recipe.get("aws", {}).get("role") else set()


@pytest.fixture(scope="module")
def denied(host):
    """Return the networks that the app's unit denies, and those that the firewall denies to the app on every port."""
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
    networks = host.run("systemctl show --value --property IPAddressAllow app.service").stdout.split()
    assert {network.partition("/")[0] for network in networks} == allowed
    accepting = [str(rule) for rule in chain(host, "output")[1] if {"accept": None} in rule]
    assert len(accepting) == len(allowed)
    assert all("dport" in rule and any(address in rule for address in allowed) for rule in accepting)


def test_names_are_looked_up_through_resolved(host):
    assert host.file("/etc/resolv.conf").linked_to == "/run/systemd/resolve/stub-resolv.conf"
