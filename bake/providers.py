"""A VPS provider as data: how large a document may be, how that is counted, and where the figure is from."""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of plain text that every provider takes whose limit is known, and what is kept to where none is.
EVERYWHERE = 16_384


@dataclass(frozen=True)
class Provider:
    """What a provider takes as user-data.

    `limit` is in bytes, of the document itself or, where `base64`, of its base64 text; None: nobody says.
    `text`: it must be plain text; else bytes are taken too, as base64.
    """

    name: str
    limit: int | None
    base64: bool
    text: bool
    source: str
    remark: str = ""
    #: Releases whose cloud-init does not know it.
    unknown_to: tuple[str, ...] = ()

    @property
    def capacity(self) -> int:
        """Bytes of a document."""
        if self.limit is None:
            return EVERYWHERE
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
            "Its own Debian images carry no cloud-init: take one that does, and put the document under `user-data`.",
        ),
        Provider("azure", 65_535, False, False, "Azure REST API, OSProfile.customData: 65535 bytes, decoded"),
        Provider(
            # 32,000 bytes hold the SSH keys too: 2,000 are left to them.
            "oci", 30_000, True, False, "OCI, UpdateInstance: metadata of 32,000 bytes, SSH keys included",
        ),
        Provider("scaleway", None, False, True, "none found; plain text only, as its documentation says"),
    )
}  # fmt: skip
