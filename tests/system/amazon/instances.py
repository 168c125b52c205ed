"""Instances, and what hangs on them, in EC2's answers, as a model of ours on top of moto's."""

import re
import urllib.parse
import xml.etree.ElementTree as ET

from .account import Account, Refused


class Instances(Account):
    """What `Rules` answers for EC2, or adds to moto's answers."""

    def _ec2_run_instances(self, call):
        # A disk of the AMI's that is only changed has the AMI's size.
        sizes = {
            name.replace(".Encrypted", ".VolumeSize"): "1"
            for name in call.params
            if re.fullmatch(r"BlockDeviceMapping\.\d+\.Ebs\.Encrypted", name)
        }
        status, headers, body = self.forward(call, urllib.parse.urlencode(sizes | call.params).encode())
        if status == 200:
            found = [
                item.text for item in ET.fromstring(body).iter() if item.tag.endswith("}networkInterfaceId")
            ]  # fmt: skip
            self._tag(call, {"network-interface": found})
        return status, headers, body

    def _ec2_terminate_instances(self, call):
        names = [value for key, value in call.params.items() if key.startswith("InstanceId.")]
        held = {name: {"Filter.1.Name": "attachment.instance-id", "Filter.1.Value.1": name} for name in names}
        interfaces = [
            item.findtext("{*}networkInterfaceId")
            for name in names
            for item in self._ask(call, "DescribeNetworkInterfaces", **held[name]).findall(
                "{*}networkInterfaceSet/{*}item"
            )
        ]
        answer = self.forward(call)
        if answer[0] == 200:
            for name in names:
                for item in self._ask(call, "DescribeVolumes", **held[name]).findall("{*}volumeSet/{*}item"):
                    self._ask(call, "DetachVolume", VolumeId=item.findtext("{*}volumeId"), InstanceId=name)
                filters = {"Filter.1.Name": "instance-id", "Filter.1.Value.1": name}
                for item in self._ask(call, "DescribeAddresses", **filters).findall("{*}addressesSet/{*}item"):
                    self._ask(call, "DisassociateAddress", AssociationId=item.findtext("{*}associationId"))
            for name in interfaces:
                self._ask(call, "DeleteNetworkInterface", NetworkInterfaceId=name)
        return answer

    def _ec2_attach_volume(self, call):
        asked = self._ask(call, "DescribeVolumes", **{"VolumeId.1": call.params["VolumeId"]})
        for holder in asked.findall("{*}volumeSet/{*}item/{*}attachmentSet/{*}item/{*}instanceId"):
            message = f"{call.params['VolumeId']} is already attached to {holder.text}"
            raise Refused(400, "VolumeInUse", message)
        return self.forward(call)

    def _ec2_delete_security_group(self, call):
        group = call.params.get("GroupId", "")
        alive = {"Filter.1.Name": "instance.group-id", "Filter.1.Value.1": group}
        alive |= {"Filter.2.Name": "instance-state-name"}
        alive |= {f"Filter.2.Value.{n}": state for n, state in enumerate(("pending", "running", "stopped"), 1)}
        held = self._ask(call, "DescribeInstances", **alive).find("{*}reservationSet/{*}item") is not None
        if held or self.held_looks:
            self.held_looks = max(0, self.held_looks - 1)
            raise Refused(400, "DependencyViolation", f"resource {group} has a dependent object")
        return self.forward(call)
