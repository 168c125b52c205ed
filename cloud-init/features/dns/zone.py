"""Proves names by records in their zone (DNS-01), whose name server takes dynamic updates from here (RFC 2136).

Part of releases whose recipe says `certificate.dns`; certificate.py has it. Orders and renewals are made by certbot's
own plugin. dnspython, which that one brings along, asks before an order whether it would come to something.
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

#: The TSIG key's value; root's alone.
KEY = Path("/etc/app/dns.key")
#: What certbot reads, at renewals too: it remembers the path.
CREDENTIALS = Path("/etc/letsencrypt/dns.ini")
#: Seconds for an answer of the name server's.
PATIENCE = 10


def needed(names: list[str]) -> list[str]:
    """The names that no wildcard among them stands for: an authority refuses to be asked for both."""
    return [name for name in names if name[0] == "*" or "*." + name.partition(".")[2] not in names]


class Zone:
    """The name server, as the recipe names it, and the key."""

    def __init__(self, said: dict) -> None:
        """Renewals find what is said now: the key may be another than at the last order."""
        self.said, self.secret = said, KEY.read_text().strip() if KEY.exists() else ""
        if self.secret:
            given = {name: said[name] for name in ("server", "port", "algorithm")}
            # certbot 2 signs its questions unasked, and certbot 4 where it is told to.
            given |= {"name": said["key"], "secret": self.secret, "sign_query": "true"}
            text = "".join(f"dns_rfc2136_{name} = {value}\n" for name, value in given.items())
            if not CREDENTIALS.exists() or CREDENTIALS.read_text() != text:
                write(CREDENTIALS, text, 0o600)

    @property
    def options(self) -> list:
        """certbot's."""
        plugin = "--dns-rfc2136"
        return [plugin, f"{plugin}-credentials", CREDENTIALS, f"{plugin}-propagation-seconds", self.said["wait"]]

    def refusal(self, name: str, token: str) -> str | None:
        """Why the name server would not take a record for a name; None where it would."""
        if not self.secret:
            return f"{name}: {KEY} is missing"
        try:
            problem = self.tried(dns.name.from_text("_acme-challenge." + name.removeprefix("*.")), token)
        except (OSError, EOFError, ValueError, dns.exception.DNSException) as error:
            problem = str(error) or type(error).__name__
        server = self.said["server"]
        return problem and f"{name}: the name server {server}: {problem}"

    def tried(self, record: dns.name.Name, token: str) -> str | None:
        """What comes of taking away a record that is not there: key, zone and rights are tried, and nothing changes."""
        key = dns.tsig.Key(self.said["key"], self.secret, self.said["algorithm"].lower())
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
        """Whether the name server answers for a zone of this name."""
        question = dns.message.make_query(zone, "SOA")
        question.flags = 0
        question.use_tsig(key)
        answer = self.ask(question)
        if answer.rcode() == dns.rcode.NOTAUTH:
            raise ValueError("it rejects the key")
        found = answer.get_rrset(dns.message.ANSWER, zone, dns.rdataclass.IN, dns.rdatatype.SOA)
        return bool(found and answer.flags & dns.flags.AA)

    def ask(self, message: dns.message.Message) -> dns.message.Message:
        """The name server's answer; raises what dnspython and a network raise."""
        return dns.query.tcp(message, self.said["server"], PATIENCE, self.said["port"])
