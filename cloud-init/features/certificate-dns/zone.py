"""Prove names by records in their zone (DNS-01), whose name server accepts dynamic updates (RFC 2136).

Part of releases whose recipe has `certificate.dns`; certificate.py loads it. certbot's plugin orders and renews. Before
an order, this module checks with dnspython, a dependency of the plugin, whether the order can succeed.
"""

from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
from step import write

#: The value of the TSIG key. Only root can read it.
KEY = Path("/etc/app/dns.key")
#: The settings of certbot's plugin. certbot remembers the path for renewals.
CREDENTIALS = Path("/etc/letsencrypt/dns.ini")
#: Seconds for an answer of the name server.
PATIENCE = 10


def needed(names: list[str]) -> list[str]:
    """Return the names that no wildcard among them covers, because authorities refuse orders for both."""
    return [name for name in names if name[0] == "*" or "*." + name.partition(".")[2] not in names]


class Zone:
    """The name server of the recipe, and the key for it."""

    def __init__(self, settings: dict) -> None:
        """Write the plugin's settings, because renewals read them, and the key may have changed since the last order.

        `settings` is `certificate.dns` of the recipe.
        """
        self.settings, self.secret = settings, KEY.read_text().strip() if KEY.exists() else ""
        if self.secret:
            values = {name: settings[name] for name in ("server", "port", "algorithm")}
            # certbot 2 always signs its queries. certbot 4 needs the option.
            values |= {"name": settings["key"], "secret": self.secret, "sign_query": "true"}
            text = "".join(f"dns_rfc2136_{name} = {value}\n" for name, value in values.items())
            if not CREDENTIALS.exists() or CREDENTIALS.read_text() != text:
                write(CREDENTIALS, text, 0o600)

    @property
    def options(self) -> list:
        """Return the options for certbot."""
        plugin = "--dns-rfc2136"
        return [plugin, f"{plugin}-credentials", CREDENTIALS, f"{plugin}-propagation-seconds", self.settings["wait"]]

    def refusal(self, name: str, token: str) -> str | None:
        """Return the reason why the name server would refuse a record for a name; None if it would accept one."""
        if not self.secret:
            return f"{name}: {KEY} is missing"
        try:
            problem = self.tried(dns.name.from_text("_acme-challenge." + name.removeprefix("*.")), token)
        except (OSError, EOFError, ValueError, dns.exception.DNSException) as error:
            problem = str(error) or type(error).__name__
        server = self.settings["server"]
        return problem and f"{name}: the name server {server}: {problem}"

    def tried(self, record: dns.name.Name, token: str) -> str | None:
        """Delete a record that does not exist, and return the problem, or None.

        This tests the key, the zone and the permissions without a change.
        """
        key = dns.tsig.Key(self.settings["key"], self.secret, self.settings["algorithm"].lower())
        zone = record
        while not self.serves(zone, key):
            if zone == dns.name.root:
                return f"it has no zone for {record}"
            zone = zone.parent()
        update = dns.update.UpdateMessage(zone, keyring=key)
        update.delete(record.relativize(zone), "TXT", token)
        code = self.ask(update).rcode()
        return None if code == dns.rcode.NOERROR else f"update refused: {dns.rcode.to_text(code)}"

    def serves(self, zone: dns.name.Name, key: dns.tsig.Key) -> bool:
        """Return whether the name server is authoritative for a zone of this name."""
        question = dns.message.make_query(zone, "SOA")
        question.flags = 0
        question.use_tsig(key)
        answer = self.ask(question)
        if answer.rcode() == dns.rcode.NOTAUTH:
            raise ValueError("it rejects the key")
        record = answer.get_rrset(dns.message.ANSWER, zone, dns.rdataclass.IN, dns.rdatatype.SOA)
        return bool(record and answer.flags & dns.flags.AA)

    def ask(self, message: dns.message.Message) -> dns.message.Message:
        """Return the name server's answer. Raises OSError, EOFError and dnspython's errors."""
        return dns.query.tcp(message, self.settings["server"], PATIENCE, self.settings["port"])
