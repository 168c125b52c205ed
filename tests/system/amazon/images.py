"""Snapshots and images in EC2's answers, as a model of ours on top of moto's."""

import copy
import fnmatch
import re
import urllib.parse
import xml.etree.ElementTree as ET

from .account import ACCOUNT, Account, Refused

#: What DescribeImages may be asked by, and moto does not know of what was registered.
TOLD_BY_OURS = {
    "architecture", "root-device-type", "root-device-name", "virtualization-type", "boot-mode", "ena-support",
    "imds-support", "block-device-mapping.snapshot-id",
}  # fmt: skip


class Images(Account):
    """What `Rules` answers for EC2, or adds to moto's answers."""

    def _ec2_describe_snapshots(self, call):
        # moto has every snapshot completed.
        form, left = _filters(call.params, {"status"})
        status, headers, body = self.forward(call, form)
        if status != 200:
            return status, headers, body
        owners = {value for name, value in call.params.items() if name.startswith("Owner.")}
        tree = ET.fromstring(body)
        for group in tree.findall("{*}snapshotSet"):
            for item in group.findall("{*}item"):
                invented = re.match("Auto-created snapshot for AMI (ami-.*)", item.findtext("{*}description") or "")
                self._tell_state(item)
                owner = item.findtext("{*}ownerId")
                strange = owners and not owners & {owner, "self" if owner == ACCOUNT else owner}
                if not _fits(item, left) or strange or (invented and invented[1] in self.registered):
                    group.remove(item)
        return status, headers, _text(tree)

    def _tell_state(self, item):
        snapshot = self.snapshots.get(item.findtext("{*}snapshotId", ""))
        if snapshot is None:
            return
        self._find(snapshot.id, snapshot.region)
        item.find("{*}status").text = self._state(snapshot)
        _set(item, "encrypted", "true" if "KmsKeyArn" in snapshot.said else "false")
        if "KmsKeyArn" in snapshot.said:
            _set(item, "kmsKeyId", snapshot.said["KmsKeyArn"])
        # A look is one of DescribeSnapshots.
        snapshot.looks = max(0, snapshot.looks - 1)

    def _ec2_delete_snapshot(self, call):
        name = call.params.get("SnapshotId", "")
        for image, told in self.images.items():
            if name in told.values():
                message = f"The snapshot {name} is currently in use by {image}"
                raise Refused(400, "InvalidSnapshot.InUse", message)
        if name in self._left_alone and self._is_late(f"{name} let go of"):
            raise Refused(400, "InvalidSnapshot.InUse", f"The snapshot {name} is currently in use by an AMI")
        answer = self.forward(call)
        if answer[0] == 200:
            self.snapshots.pop(name, None)
        return answer

    def _ec2_copy_snapshot(self, call):
        answer = self.forward(call)
        source = self.snapshots.get(call.params.get("SourceSnapshotId"))
        if answer[0] == 200 and source:
            copied = copy.deepcopy(source)
            copied.id = copied.lineage = ET.fromstring(answer[2]).findtext("{*}snapshotId", "")
            copied.region, copied.looks = call.region, self.pending_looks
            if call.params.get("Encrypted") == "true":
                key = f"arn:aws:kms:{call.region}:{ACCOUNT}:key/default"
                copied.said["KmsKeyArn"] = call.params.get("KmsKeyId", key)
            self.snapshots[copied.id] = copied
        return answer

    def _ec2_register_image(self, call):
        asked = call.params
        taken = {"Owner.1": "self", "Filter.1.Name": "name", "Filter.1.Value.1": asked["Name"]}
        for image in self._texts(call, "DescribeImages", "imageId", **taken):
            message = f"AMI name {asked['Name']} is already in use by AMI {image}"
            raise Refused(400, "InvalidAMIName.Duplicate", message)
        for name, value in asked.items():
            if name.startswith("BlockDeviceMapping.") and name.endswith(".Ebs.SnapshotId"):
                known = self._ask(call, "DescribeSnapshots", **{"SnapshotId.1": value})
                if known.find("{*}snapshotSet") is None:
                    raise Refused(400, "InvalidSnapshot.NotFound", f"The snapshot '{value}' does not exist.")
                if value in self.snapshots and self._state(self._find(value, call.region)) != "completed":
                    raise Refused(400, "IncorrectState", f"The snapshot '{value}' is not completed.")
        answer = self.forward(call)
        if answer[0] != 200:
            return answer
        made = ET.fromstring(answer[2]).findtext("{*}imageId", "")
        self.registered.add(made)
        apart = {"Action", "Version", "Name", "Description", "DryRun"}
        self.images[made] = {name: value for name, value in asked.items() if name not in apart}
        self._tag(call, {"image": [made]})
        return answer

    def _ec2_copy_image(self, call):
        answer = self.forward(call)
        source = self.images.get(call.params.get("SourceImageId"))
        if answer[0] == 200 and source:
            image = ET.fromstring(answer[2]).findtext("{*}imageId", "")
            # The copy stands on a snapshot of its own, which moto makes.
            [own] = self._texts(call, "DescribeImages", "snapshotId", **{"ImageId.1": image})
            self.images[image] = {
                name: own if name.endswith(".SnapshotId") else value
                for name, value in source.items()
                if name != "DeprecationTime"
            }
            self._tag(call, {"image": [image], "snapshot": [own]})
        return answer

    def _ec2_deregister_image(self, call):
        answer = self.forward(call)
        if answer[0] == 200:
            told = self.images.pop(call.params.get("ImageId"), {})
            self._left_alone |= {value for name, value in told.items() if name.endswith(".SnapshotId")}
        return answer

    def _ec2_create_image(self, call):
        # moto takes no tags for the snapshots.
        asked = {name: value for name, value in call.params.items() if not name.startswith("TagSpecification.")}
        answer = self.forward(call, urllib.parse.urlencode(asked).encode())
        if answer[0] == 200:
            image = ET.fromstring(answer[2]).findtext("{*}imageId", "")
            self.images[image] = {}
            snapshots = self._texts(call, "DescribeImages", "snapshotId", **{"ImageId.1": image})
            self._tag(call, {"image": [image], "snapshot": snapshots})
        return answer

    def _ec2_modify_image_attribute(self, call):
        answer = self.forward(call)
        if answer[0] == 200 and "ImdsSupport.Value" in call.params:
            self.images.setdefault(call.params["ImageId"], {})["ImdsSupport"] = call.params["ImdsSupport.Value"]
        return answer

    def _ec2_enable_image_deprecation(self, call):
        return self._deprecate(call, call.params["DeprecateAt"])

    def _ec2_disable_image_deprecation(self, call):
        return self._deprecate(call, None)

    def _deprecate(self, call, when):
        image = call.params["ImageId"]
        if image not in self.images:
            raise Refused(400, "InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
        self.images[image].pop("DeprecationTime", None)
        if when:
            self.images[image]["DeprecationTime"] = when
        text = f"<{call.action}Response><return>true</return></{call.action}Response>"
        return 200, [("Content-Type", "text/xml")], text.encode()

    def _ec2_describe_images(self, call):
        form, left = _filters(call.params, TOLD_BY_OURS)
        status, headers, body = self.forward(call, form)
        if status != 200:
            return status, headers, body
        tree = ET.fromstring(body)
        for group in tree.findall("{*}imagesSet"):
            for item in group.findall("{*}item"):
                self._tell_image(item)
                name = item.findtext("{*}imageId", "")
                if not _fits(item, left) or (name in self.registered and self._is_late(name)):
                    group.remove(item)
        return status, headers, _text(tree)

    def _tell_image(self, item):
        asked = self.images.get(item.findtext("{*}imageId", ""))
        if asked is None:
            return
        _set(item, "rootDeviceType", "ebs")
        devices = item.find("{*}blockDeviceMapping")
        if any(name.startswith("BlockDeviceMapping.") for name in asked):
            devices.clear()
        for name, value in sorted(asked.items()):
            if "." not in name:
                _set(item, name[0].lower() + name[1:], value)
            elif name.startswith("BlockDeviceMapping."):
                _, number, *path = name.split(".")
                place = devices
                for step in (f"item{number}", *path):
                    place = _child(place, step[0].lower() + step[1:])
                place.text = value
        for device in devices:
            device.tag = re.sub(r"\d+$", "", device.tag)


def _filters(params, ours):
    """A form without those of its filters that are `ours` to apply, and these: names with patterns."""
    form = {name: value for name, value in params.items() if not name.startswith("Filter.")}
    taken, number = {}, 0
    for name, value in params.items():
        given = re.fullmatch(r"(Filter\.\d+\.)Name", name)
        if not given:
            continue
        values = [text for each, text in params.items() if each.startswith(f"{given[1]}Value")]
        if value in ours:
            taken[value] = values
            continue
        number += 1
        form[f"Filter.{number}.Name"] = value
        form |= {f"Filter.{number}.Value.{place}": text for place, text in enumerate(values, 1)}
    return urllib.parse.urlencode(form).encode(), taken


def _fits(item, filters):
    """Whether an answer's item passes all of these."""
    for name, patterns in filters.items():
        tag = "}" + re.sub("-(.)", lambda found: found[1].upper(), name.rpartition(".")[2])
        inside = item.iter() if "." in name else list(item)
        told = [element.text or "" for element in inside if element.tag.endswith(tag)]
        if not any(fnmatch.fnmatchcase(text, pattern) for text in told for pattern in patterns):
            return False
    return True


def _child(element, name):
    """The child of that name, made where there is none, in its parent's namespace."""
    found = element.find(f"{{*}}{name}")
    space = element.tag.partition("}")[0] + "}" if element.tag.startswith("{") else ""
    return found if found is not None else ET.SubElement(element, f"{space}{name}")


def _set(element, name, text):
    _child(element, name).text = text


def _text(tree):
    """The document, its namespace without a prefix as EC2 has it."""
    if tree.tag.startswith("{"):
        ET.register_namespace("", tree.tag[1:].partition("}")[0])
    return ET.tostring(tree, encoding="UTF-8", xml_declaration=True)
