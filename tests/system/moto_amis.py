"""moto's server, with what it leaves out of AMIs: python moto_amis.py PORT.

moto 5.2.5 keeps of RegisterImage and CopyImage nothing but name and description, and knows no deprecation. What is
here is ours, after the EC2 API reference: mappings, tags, boot mode, ImdsSupport, names that are taken, snapshots that
are in use.
"""

import sys

from moto import server
from moto.ec2.exceptions import EC2ClientError, InvalidSnapshotIdError
from moto.ec2.models import amis as models
from moto.ec2.responses import amis as responses
from moto.ec2.utils import random_ami_id


class Ami(models.Ami):
    """An AMI that consists of a snapshot that was there before."""

    # moto sorts its classes by this.
    __module__ = models.__name__

    ena_support = imds_support = deprecation_time = None

    @property
    def block_device_mappings(self):
        ebs = {
            "SnapshotId": self.ebs_snapshot.id, "VolumeSize": self.ebs_snapshot.volume.size,
            "DeleteOnTermination": True, "VolumeType": self.volume_type, "Encrypted": self.ebs_snapshot.encrypted,
        }  # fmt: skip
        return [{"DeviceName": self.root_device_name, "Ebs": ebs}]


def made(backend, name, snapshot, like, tags):
    """A new AMI of a snapshot, with an other one's or a request's attributes."""
    if any(other.name == name and other.owner_id == backend.account_id for other in backend.amis.values()):
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI")
    ami = Ami(backend, random_ami_id(), name=name, **like["shown"])
    # What moto makes of itself for every AMI.
    backend.snapshots.pop(ami.ebs_snapshot.id)
    ami.ebs_snapshot, snapshot.from_ami = snapshot, ami.id
    for key, value in like["more"].items():
        setattr(ami, key, value)
    ami.add_tags(tags)
    ami.like = like
    backend.amis[ami.id] = ami
    return ami


def register_image(self):
    """RegisterImage, of one snapshot."""
    self.error_on_dryrun()
    (mapping,) = self._get_param("BlockDeviceMappings") or self._get_param("BlockDeviceMapping")
    snapshot = self.ec2_backend.snapshots.get(mapping["Ebs"]["SnapshotId"])
    if snapshot is None:
        raise InvalidSnapshotIdError()
    like = {
        "shown": {
            "description": self._get_param("Description", ""), "architecture": self._get_param("Architecture"),
            "virtualization_type": self._get_param("VirtualizationType"), "boot_mode": self._get_param("BootMode"),
            "root_device_type": "ebs", "root_device_name": self._get_param("RootDeviceName"),
        },
        "more": {
            "ena_support": self._get_param("EnaSupport"), "imds_support": self._get_param("ImdsSupport"),
            "volume_type": mapping["Ebs"].get("VolumeType"),
        },
    }  # fmt: skip
    tags = self._parse_tag_specification().get("image", {})
    ami = made(self.ec2_backend, self._get_param("Name"), snapshot, like, tags)
    return responses.ActionResult({"ImageId": ami.id})


def copy_image(self):
    """CopyImage, of an AMI of this kind, between regions."""
    from moto.ec2.models import ec2_backends

    there = ec2_backends[self.current_account][self._get_param("SourceRegion")]
    source = there.describe_images(ami_ids=[self._get_param("SourceImageId")])[0]
    volume = self.ec2_backend.create_volume(
        size=source.ebs_snapshot.volume.size, zone_name=f"{self.ec2_backend.region_name}a"
    )
    copy = self.ec2_backend.create_snapshot(volume.id, f"Copied for {source.id}")
    self.ec2_backend.delete_volume(volume.id)
    tags = self._parse_tag_specification()
    copy.add_tags(tags.get("snapshot", {}))
    ami = made(self.ec2_backend, self._get_param("Name"), copy, source.like, tags.get("image", {}))
    return responses.ActionResult({"ImageId": ami.id})


def enable_image_deprecation(self):
    """EnableImageDeprecation."""
    ami = self.ec2_backend.describe_images(ami_ids=[self._get_param("ImageId")])[0]
    ami.deprecation_time = str(self._get_param("DeprecateAt"))
    return responses.ActionResult({"Return": True})


responses.AmisResponse.register_image = register_image
responses.AmisResponse.copy_image = copy_image
responses.AmisResponse.enable_image_deprecation = enable_image_deprecation

if __name__ == "__main__":
    server.main(["-H", "127.0.0.1", "-p", sys.argv[1]])
