"""Metadata services as clouds have them at 169.254.169.254, and what QEMU has to say for cloud-init to ask them.

Of each, what cloud-init asks for. EC2 is IMDSv2's: without a token from a PUT, nothing is told.
"""

import http.server
import json
import secrets

#: In the guest's network the host has this address, so that what listens on the host's loopback answers there.
NETWORK = "net=169.254.0.0/16,host=169.254.169.254,dhcpstart=169.254.10.15,dns=169.254.10.3"
MAC = "52:54:00:12:34:56"
UUID = "ec2e1916-9099-4caf-9d21-012345abcdef"


def ec2(user_data, key):
    """EC2's tree, below its versions and `latest`; and the words for QEMU."""
    interface = f"meta-data/network/interfaces/macs/{MAC}"
    tree = {
        "user-data": user_data,
        "meta-data/instance-id": "i-0123456789abcdef0",
        "meta-data/ami-id": "ami-0123456789abcdef0",
        "meta-data/hostname": "ip-169-254-10-15.ec2.example",
        "meta-data/local-hostname": "ip-169-254-10-15.ec2.example",
        "meta-data/local-ipv4": "169.254.10.15",
        "meta-data/mac": MAC,
        "meta-data/placement/availability-zone": "xx-test-1a",
        "meta-data/public-keys/": "0=test",
        "meta-data/public-keys/0/": "openssh-key",
        "meta-data/public-keys/0/openssh-key": key,
        f"{interface}/device-number": "0",
        f"{interface}/local-ipv4s": "169.254.10.15",
        f"{interface}/subnet-ipv4-cidr-block": "169.254.0.0/16",
        f"{interface}/mac": MAC,
        "dynamic/instance-identity/document": json.dumps({"region": "xx-test-1", "instanceId": "i-0123456789abcdef0"}),
    }
    return Ec2(tree), ("-smbios", f"type=1,manufacturer=Amazon EC2,uuid={UUID},serial={UUID}")


def role(region):
    """Pages of EC2's for a machine that is in a region and has a role there."""
    given = {"Code": "Success", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret", "Token": "token"}
    return {
        "meta-data/placement/region": region,
        "meta-data/iam/security-credentials/": "machine-role",
        "meta-data/iam/security-credentials/machine-role": json.dumps(given),
    }


def hetzner(user_data, key):
    """Hetzner's two pages, and the words for QEMU."""
    card = {"type": "physical", "name": "eth0", "mac_address": MAC, "subnets": [{"type": "dhcp", "ipv4": True}]}
    network = json.dumps({"version": 1, "config": [card]})
    meta = f"instance-id: 1234567\nhostname: pasted\npublic-keys:\n- {key}\nlocal-ipv4: ''\nregion: xx\n"
    meta += f"network-config: {network}\n"
    pages = {
        "/hetzner/v1/metadata": meta,
        "/hetzner/v1/userdata": user_data,
        "/hetzner/v1/metadata/instance-id": "1234567",
    }
    return Pages(pages), ("-smbios", "type=1,manufacturer=Hetzner,product=vServer,serial=1234567")


class Pages:
    """A service that tells anybody."""

    def __init__(self, pages):
        self.pages = pages

    def answer(self, method, path, headers):
        """Status and text."""
        return (200, self.pages[path]) if path in self.pages else (404, "")


class Ec2(Pages):
    """A service that answers requests with a token. As on EC2, each token that it gave is valid."""

    def __init__(self, *words):
        super().__init__(*words)
        self.tokens = set()

    def answer(self, method, path, headers):
        """Status and text; a folder's is the list of what is in it."""
        if path == "/latest/api/token":
            token = secrets.token_urlsafe(16)
            self.tokens.add(token)
            return (200, token) if method == "PUT" else (405, "")
        if headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return 401, ""
        name = path.lstrip("/").partition("/")[2]
        if name in self.pages:
            return 200, self.pages[name]
        folder = name.rstrip("/") + "/" if name else ""
        inside = {
            rest.partition("/")[0] + "/" * ("/" in rest)
            for rest in (path.removeprefix(folder) for path in self.pages if path.startswith(folder))
        }
        return (200, "\n".join(sorted(inside))) if inside else (404, "")


def server(service):
    """The service, on the port where guests look for it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = service.answer(self.command, self.path, self.headers)
            content = text if isinstance(text, bytes) else text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_GET

        def log_message(self, *words):
            pass

    return http.server.ThreadingHTTPServer(("127.0.0.1", 80), Handler)
