"""Describe VPS providers as data: the limit of a document, how the provider counts it, and the source of the figure."""

from __future__ import annotations

from dataclasses import dataclass

#: Addresses where providers serve a machine's identity, its role's credentials and its user-data, with the sources, by
#: the network that contains them. A machine's firewall and its app's unit deny these networks to the app, on all ports.
#: The app needs none of them: the services for DNS and time run as other users. The link-local ranges (RFC 3927, RFC
#: 4291) are denied completely.
METADATA_SERVICES = {
    "169.254.0.0/16": {"169.254.169.254": "most providers", "169.254.42.42": "Scaleway (cloud-init, Scaleway)"},
    "fe80::/10": {"fe80::a9fe:a9fe": "OpenStack (Nova, Metadata service), Linode (Metadata service API)"},
    "fd00:ec2::/32": {
        "fd00:ec2::254": "EC2 (User Guide, Instance metadata)", "fd00:ec2::23": "EKS (User Guide, Pod Identity)",
    },
    "fd00:a9fe:a9fe::1": {"fd00:a9fe:a9fe::1": "Akamai, i. e. Linode (cloud-init, Akamai)"},
    "fd00:42::42": {"fd00:42::42": "Scaleway (cloud-init, Scaleway)"},
    "fd00:c1::a9fe:a9fe": {"fd00:c1::a9fe:a9fe": "OCI (its Python SDK, instance principals)"},
    "fd20:ce::254": {"fd20:ce::254": "GCP (Compute Engine, IPv6-only instances)"},
    "168.63.129.16": {"168.63.129.16": "Azure's WireServer (Virtual Network, What is IP address 168.63.129.16)"},
    "100.100.100.200": {"100.100.100.200": "Alibaba (cloud-init, Aliyun)"},
}  # fmt: skip
#: Addresses that `aws: {role: true}` opens to the app, on port 80 (EC2 User Guide, Instance metadata).
AWS_METADATA_SERVICES = ("169.254.169.254", "fd00:ec2::254")
#: The smallest known limit, in bytes of plain text. It is also the default where a provider's limit is unknown.
SMALLEST_LIMIT = 16_384


@dataclass(frozen=True)
class Provider:
    """A provider's rules for user-data.

    `limit` is in bytes: of the document itself or, if `base64` is true, of its base64 text. None means that the
    provider documents no limit. If `text` is true, the provider takes only plain text; otherwise it also takes bytes
    as base64.
    """

    name: str
    limit: int | None
    base64: bool
    text: bool
    source: str
    remark: str = ""
    #: Debian releases whose cloud-init does not support this provider.
    unknown_to: tuple[str, ...] = ()

    @property
    def capacity(self) -> int:
        """Return the maximum size of a document in bytes."""
        if self.limit is None:
            return SMALLEST_LIMIT
        return self.limit // 4 * 3 if self.base64 else self.limit


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            "aws", 16_384, False, False,
            "EC2 User Guide, Add user data: 16 KB, in raw form, before it is base64-encoded",
        ),
        Provider(
            "digitalocean", 65_536, False, True,
            "DigitalOcean API, droplet_create: plain text, may not exceed 64 KiB",
        ),
        Provider("hetzner", 32_768, False, True, "Hetzner's terraform provider, server: limited to 32KiB"),
        Provider(
            "linode", 16_384, False, True,
            "Linode's cluster-api provider refuses more than 16,384 decoded bytes; the API's reference says 65,535",
            unknown_to=("debian-12",),
        ),
        Provider("vultr", None, False, True, "none found"),
        Provider("openstack", 65_535, True, False, "Nova's API schema, user_data: base64, maxLength 65535"),
        Provider(
            "gcp", 262_144, False, True, "Compute Engine, custom metadata: 256 KB a value",
            "Google's Debian images have no cloud-init. Use an image that has it, and paste the document under the "
            "metadata key `user-data`.",
        ),
        Provider("azure", 65_535, False, False, "Azure REST API, OSProfile.customData: 65535 bytes, decoded"),
        Provider(
            # The 32,000 bytes include the SSH keys, for which 2,000 bytes are reserved.
            "oci", 30_000, True, False, "OCI, UpdateInstance: metadata of 32,000 bytes, SSH keys included",
        ),
        Provider("scaleway", None, False, True, "none found; plain text only, as its documentation says"),
    )
}  # fmt: skip
