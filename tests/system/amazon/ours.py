"""What Amazon documents and moto lacks, as a model of ours.

It answers EBS's direct APIs whole (moto is told of starts and ends, so that EC2 there knows the snapshots), and adds to
a few of EC2's answers. From the EBS direct APIs' reference and user guide, unless a rule says that it is a guess.
"""

import base64
import copy
import hashlib
import json
import re
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

#: Bytes. The only size there is.
BLOCK = 512 * 1024
GIB_BLOCKS = 1024**3 // BLOCK
#: Seconds. A block's token is good for a week.
TOKEN_LIFE = 7 * 86400
ACCOUNT = "123456789012"
#: What moto's StartSnapshot does not know.
UNKNOWN_TO_MOTO = ("ParentSnapshotId", "ClientToken", "Timeout", "Encrypted", "KmsKeyArn")


class Refused(Exception):
    """A rule was broken: HTTP status, error code, message, and the reason that EBS names."""

    def __init__(self, status, code, message, reason=""):
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason


def invalid(message, reason="INVALID_PARAMETER_VALUE"):
    return Refused(400, "ValidationException", message, reason)


@dataclass
class Snapshot:
    """A snapshot: `put` are the digests of its own blocks by index, `blocks` those that it is read as."""

    id: str
    region: str
    size: int
    timeout: int
    touched: float
    said: dict
    lineage: str
    blocks: dict = field(default_factory=dict)
    put: dict = field(default_factory=dict)
    status: str = "pending"
    looks: int = 0


class Rules:
    """Our own model of snapshots: parents, tokens, timeouts, sizes, checksums, states.

    Guesses, where Amazon's reference is silent, each the harder case for who calls:
    - CompleteSnapshot of a snapshot that is not pending any more is refused, also when it is a repetition.
    - A parent that is not there is ResourceNotFoundException; one of another region too.
    - RegisterImage of a snapshot that is not completed is IncorrectState.

    And of EC2, as AWS does it and moto does not:
    - DescribeSnapshots tells the state that EBS knows, and of its owners' snapshots alone; a start leaves no volume.
    - RegisterImage takes its tags, refuses a name that is taken, and DescribeImages tells what it was asked for; the
      snapshot that moto invents for each image is not shown. CopyImage and CopySnapshot bring along what we know.
    - DeleteSnapshot refuses what a registered image stands on.
    """

    def __init__(self, folder, forward):
        """Blocks go into `folder`, by digest; `forward(call, body, headers)` asks moto."""
        self.folder, self.forward = folder, forward
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self.clear()

    def clear(self):
        """Know of no snapshot, and of the right time."""
        #: Seconds since the epoch; a test may set another clock.
        self.now = time.time
        #: How often DescribeSnapshots says `pending` still, once a snapshot is complete. In AWS it takes minutes.
        self.pending_looks = 0
        self.snapshots, self.tokens, self.images = {}, {}, {}
        #: Images that were registered, also those that are gone.
        self.registered = set()

    def answer(self, call):
        """Status, headers and body for a call, moto's or ours."""
        own = getattr(self, f"_{call.service}_{re.sub(r'(?<!^)(?=[A-Z])', '_', call.action).lower()}", None)
        if own is None:
            return self.forward(call)
        if call.action == "PutSnapshotBlock":
            return own(call)
        with self._lock:
            return own(call)

    # EBS

    def _find(self, name, region):
        snapshot = self.snapshots.get(name)
        if snapshot is None or snapshot.region != region:
            message = f"The snapshot '{name}' does not exist."
            raise Refused(404, "ResourceNotFoundException", message, "SNAPSHOT_NOT_FOUND")
        if snapshot.status == "pending" and self.now() - snapshot.touched > snapshot.timeout * 60:
            snapshot.status = "error"
        return snapshot

    def _completed(self, name, region):
        snapshot = self._find(name, region)
        if self._state(snapshot) != "completed":
            raise invalid(f"The snapshot '{name}' is not completed.", "INVALID_SNAPSHOT_ID")
        return snapshot

    def _state(self, snapshot):
        return "pending" if snapshot.status == "completed" and snapshot.looks > 0 else snapshot.status

    def _ebs_start_snapshot(self, call):
        asked = dict(call.params)
        token, again = asked.pop("ClientToken", None), self.tokens.get(call.params.get("ClientToken"))
        if token and again:
            if again[0] != asked:
                raise Refused(409, "ConflictException", "The client token was used with other parameters.")
            return again[1]
        size, timeout = asked.get("VolumeSize", 0), asked.get("Timeout", 60)
        if not 1 <= size <= 65536:
            raise invalid("VolumeSize is 1 to 65536 GiB.", "INVALID_VOLUME_SIZE")
        if not 10 <= timeout <= 4320:
            raise invalid("Timeout is 10 to 4320 minutes.")
        parent = None
        if "ParentSnapshotId" in asked:
            if {"Encrypted", "KmsKeyArn"} & asked.keys():
                raise invalid("Encrypted and KmsKeyArn cannot be given with ParentSnapshotId.")
            parent = self._completed(asked["ParentSnapshotId"], call.region)
            if parent.size > size:
                raise invalid("VolumeSize is less than the parent's.", "INVALID_VOLUME_SIZE")
        known = {name: value for name, value in asked.items() if name not in UNKNOWN_TO_MOTO}
        status, headers, body = self.forward(call, json.dumps(known).encode())
        if status >= 300:
            return status, headers, body
        said = json.loads(body) | {"Status": "pending", "BlockSize": BLOCK}
        if parent:
            said["ParentSnapshotId"] = parent.id
            if "KmsKeyArn" in parent.said:
                said["KmsKeyArn"] = parent.said["KmsKeyArn"]
        elif asked.get("Encrypted"):
            key = f"arn:aws:kms:{call.region}:{ACCOUNT}:key/default"
            said["KmsKeyArn"] = asked.get("KmsKeyArn", key)
        name = said["SnapshotId"]
        self._drop_volume(call, name)
        self.snapshots[name] = Snapshot(
            name, call.region, size, timeout, self.now(), said, parent.lineage if parent else name,
            dict(parent.blocks) if parent else {},
        )  # fmt: skip
        answer = 201, [("Content-Type", "application/json")], json.dumps(said).encode()
        if token:
            self.tokens[token] = asked, answer
        return answer

    def _ebs_put_snapshot_block(self, call):
        index, data = int(call.params["BlockIndex"]), call.body
        digest = hashlib.sha256(data).digest()
        checksum = base64.b64encode(digest).decode()
        with self._lock:
            self._writable(call, index)
        if call.headers.get("x-amz-Data-Length") != str(BLOCK) or len(data) != BLOCK:
            raise invalid(f"The data length must be {BLOCK}.", "INVALID_BLOCK")
        if call.headers.get("x-amz-Checksum-Algorithm") != "SHA256" or call.headers.get("x-amz-Checksum") != checksum:
            raise invalid("The checksum is not that of the data.", "INVALID_BLOCK")
        place = self.folder / digest.hex()
        if not place.exists():
            part = place.with_suffix(f".{threading.get_ident()}")
            part.write_bytes(data)
            part.replace(place)
        with self._lock:
            snapshot = self._writable(call, index)
            snapshot.put[index] = snapshot.blocks[index] = digest
            snapshot.touched = self.now()
        return 201, [("x-amz-Checksum", checksum), ("x-amz-Checksum-Algorithm", "SHA256")], b""

    def _writable(self, call, index):
        snapshot = self._find(call.params["SnapshotId"], call.region)
        if snapshot.status != "pending":
            raise invalid(f"The snapshot '{snapshot.id}' is not pending.", "INVALID_SNAPSHOT_ID")
        if not 0 <= index < snapshot.size * GIB_BLOCKS:
            raise invalid(f"The volume has no block {index}.", "INVALID_BLOCK")
        return snapshot

    def _ebs_complete_snapshot(self, call):
        snapshot = self._find(call.params["SnapshotId"], call.region)
        if snapshot.status != "pending":
            raise invalid(f"The snapshot '{snapshot.id}' is not pending.", "INVALID_SNAPSHOT_ID")
        if int(call.headers.get("x-amz-ChangedBlocksCount", -1)) != len(snapshot.put):
            raise invalid(f"ChangedBlocksCount is not the {len(snapshot.put)} blocks that were put.")
        checksum = call.headers.get("x-amz-Checksum")
        if checksum is not None:
            how = [call.headers.get(f"x-amz-Checksum-{what}") for what in ("Algorithm", "Aggregation-Method")]
            # In ascending order of the index, as bytes (so does Amazon's own coldsnap).
            whole = hashlib.sha256(b"".join(digest for _, digest in sorted(snapshot.put.items()))).digest()
            if how != ["SHA256", "LINEAR"] or checksum != base64.b64encode(whole).decode():
                raise invalid("The checksum is not that of the blocks' checksums.")
        status, headers, body = self.forward(call)
        if status >= 300:
            return status, headers, body
        snapshot.status, snapshot.looks = "completed", self.pending_looks
        return 202, [("Content-Type", "application/json")], json.dumps({"Status": self._state(snapshot)}).encode()

    def _token(self, snapshot, index):
        if index not in snapshot.blocks:
            return None
        text = f"{snapshot.id} {index} {snapshot.blocks[index].hex()}"
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()

    def _ebs_get_snapshot_block(self, call):
        snapshot, index = self._completed(call.params["SnapshotId"], call.region), int(call.params["BlockIndex"])
        if call.params.get("blockToken") != (self._token(snapshot, index) or ""):
            raise invalid("The block token is not of this block.", "INVALID_BLOCK_TOKEN")
        digest = snapshot.blocks[index]
        headers = [
            ("x-amz-Data-Length", str(BLOCK)),
            ("x-amz-Checksum", base64.b64encode(digest).decode()),
            ("x-amz-Checksum-Algorithm", "SHA256"),
            ("Content-Type", "application/octet-stream"),
        ]
        return 200, headers, (self.folder / digest.hex()).read_bytes()

    def _ebs_list_snapshot_blocks(self, call):
        snapshot = self._completed(call.params["SnapshotId"], call.region)
        listed = [
            {"BlockIndex": index, "BlockToken": self._token(snapshot, index)} for index in sorted(snapshot.blocks)
        ]
        return self._page(call, snapshot, "Blocks", listed)

    def _ebs_list_changed_blocks(self, call):
        second = self._completed(call.params["SecondSnapshotId"], call.region)
        given = call.params.get("firstSnapshotId")
        first = self._completed(given, call.region) if given else None
        if first and first.lineage != second.lineage:
            raise invalid("The snapshots have no common ancestor.", "UNRELATED_SNAPSHOTS")
        old = first.blocks if first else {}
        listed = []
        for index in sorted(old.keys() | second.blocks.keys()):
            if old.get(index) != second.blocks.get(index):
                tokens = {
                    "FirstBlockToken": self._token(first, index) if first else None,
                    "SecondBlockToken": self._token(second, index),
                }
                listed.append({"BlockIndex": index} | {name: token for name, token in tokens.items() if token})
        return self._page(call, second, "ChangedBlocks", listed)

    def _page(self, call, snapshot, name, listed):
        # Fewer than 100 cannot be asked for, and 10,000 is the most.
        most = min(max(int(call.params.get("maxResults", 10000)), 100), 10000)
        start = int(call.params.get("startingBlockIndex", 0))
        token = call.params.get("pageToken")
        if token:
            found = re.fullmatch(r"after-(\d+)", token)
            if not found:
                raise invalid("The page token is none of ours.", "INVALID_PAGE_TOKEN")
            start = int(found[1]) + 1
        left = [block for block in listed if block["BlockIndex"] >= start]
        told = {
            name: left[:most],
            "ExpiryTime": self.now() + TOKEN_LIFE,
            "VolumeSize": snapshot.size,
            "BlockSize": BLOCK,
        }
        if len(left) > most:
            told["NextToken"] = f"after-{left[most - 1]['BlockIndex']}"
        return 200, [("Content-Type", "application/json")], json.dumps(told).encode()

    # EC2

    def _ask(self, call, action, region="", **params):
        """Ask moto's EC2 something else, in the place of who calls."""
        form = {"Action": action, "Version": "2016-11-15", **params}
        asked = copy.copy(call)
        asked.method, asked.path = "POST", "/"
        own = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAMADEUPMADEUPMADE/20260101/"
            f"{region or call.region}/ec2/aws4_request, SignedHeaders=host, Signature=0",
        }
        asked.headers = {}
        _, _, body = self.forward(asked, urllib.parse.urlencode(form).encode(), own)
        return ET.fromstring(body)

    def _drop_volume(self, call, snapshot):
        """Remove the volume that moto makes for a start."""
        for volume in self._ask(call, "DescribeSnapshots", **{"SnapshotId.1": snapshot}).iter():
            if volume.tag.endswith("}volumeId"):
                self._ask(call, "DeleteVolume", VolumeId=volume.text)

    def _ec2_describe_snapshots(self, call):
        # moto has every snapshot completed: who asks for a state is answered by ours.
        form, states = dict(call.params), None
        for name, value in call.params.items():
            if re.fullmatch(r"Filter\.\d+\.Name", name) and value == "status":
                values = [each for each in form if each.startswith(name.replace("Name", "Value"))]
                states = {form[each] for each in values}
                form |= dict.fromkeys(values, "completed")
        status, headers, body = self.forward(call, urllib.parse.urlencode(form).encode())
        if status != 200:
            return status, headers, body
        owners = {value for name, value in call.params.items() if name.startswith("Owner.")}
        tree = ET.fromstring(body)
        for group in tree.findall("{*}snapshotSet"):
            for item in group.findall("{*}item"):
                invented = re.match("Auto-created snapshot for AMI (ami-.*)", item.findtext("{*}description") or "")
                self._tell_state(item)
                owner = item.findtext("{*}ownerId")
                wrong = states is not None and item.findtext("{*}status") not in states
                strange = owners and not owners & {owner, "self" if owner == ACCOUNT else owner}
                if wrong or strange or (invented and invented[1] in self.registered):
                    group.remove(item)
        return status, headers, _text(tree)

    def _tell_state(self, item):
        snapshot = self.snapshots.get(item.findtext("{*}snapshotId"))
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
        answer = self.forward(call)
        if answer[0] == 200:
            self.snapshots.pop(name, None)
        return answer

    def _ec2_copy_snapshot(self, call):
        answer = self.forward(call)
        source = self.snapshots.get(call.params.get("SourceSnapshotId"))
        if answer[0] == 200 and source:
            copied = copy.deepcopy(source)
            copied.id = copied.lineage = ET.fromstring(answer[2]).findtext("{*}snapshotId")
            copied.region, copied.looks = call.region, self.pending_looks
            if call.params.get("Encrypted") == "true":
                key = f"arn:aws:kms:{call.region}:{ACCOUNT}:key/default"
                copied.said["KmsKeyArn"] = call.params.get("KmsKeyId", key)
            self.snapshots[copied.id] = copied
        return answer

    def _ec2_register_image(self, call):
        asked = call.params
        taken = {"Owner.1": "self", "Filter.1.Name": "name", "Filter.1.Value.1": asked["Name"]}
        for image in self._ask(call, "DescribeImages", **taken).iter():
            if image.tag.endswith("}imageId"):
                message = f"AMI name {asked['Name']} is already in use by AMI {image.text}"
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
        image = ET.fromstring(answer[2]).findtext("{*}imageId")
        self.registered.add(image)
        apart = {"Action", "Version", "Name", "Description", "DryRun"}
        self.images[image] = {name: value for name, value in asked.items() if name not in apart}
        tags = {
            f"Tag.{name.partition('.Tag.')[2]}": value
            for name, value in asked.items()
            if re.match(r"TagSpecification\.1\.Tag\.", name)
        }
        if tags:
            self._ask(call, "CreateTags", **{"ResourceId.1": image}, **tags)
        return answer

    def _ec2_copy_image(self, call):
        answer = self.forward(call)
        source = self.images.get(call.params.get("SourceImageId"))
        if answer[0] == 200 and source:
            image = ET.fromstring(answer[2]).findtext("{*}imageId")
            # The copy stands on a snapshot of its own, which moto makes.
            for item in self._ask(call, "DescribeImages", **{"ImageId.1": image}).iter():
                if item.tag.endswith("}snapshotId"):
                    own = item.text
            self.images[image] = {
                name: own if name.endswith(".SnapshotId") else value for name, value in source.items()
            }
        return answer

    def _ec2_deregister_image(self, call):
        answer = self.forward(call)
        if answer[0] == 200:
            self.images.pop(call.params.get("ImageId"), None)
        return answer

    def _ec2_describe_images(self, call):
        status, headers, body = self.forward(call)
        if status != 200:
            return status, headers, body
        tree = ET.fromstring(body)
        for item in tree.findall("{*}imagesSet/{*}item"):
            asked = self.images.get(item.findtext("{*}imageId"))
            if asked is None:
                continue
            _set(item, "rootDeviceType", "ebs")
            for name, value in asked.items():
                if "." not in name:
                    _set(item, name[0].lower() + name[1:], value)
            devices = item.find("{*}blockDeviceMapping")
            devices.clear()
            for name, value in sorted(asked.items()):
                if name.startswith("BlockDeviceMapping."):
                    _, number, *path = name.split(".")
                    place = devices
                    for step in (f"item{number}", *path):
                        place = _child(place, step[0].lower() + step[1:])
                    place.text = value
            for device in devices:
                device.tag = re.sub(r"\d+$", "", device.tag)
        return status, headers, _text(tree)


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
