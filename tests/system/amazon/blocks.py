"""EBS's direct APIs, as a model of ours: parents, timeouts, sizes, checksums, states, pages.

From the reference of the EBS direct APIs and their user guide. moto has snapshots and blocks, none of these rules.
"""

import base64
import hashlib
import json
import re
import threading

from .account import ACCOUNT, Account, Refused, Snapshot

#: Bytes. The only size there is.
BLOCK = 512 * 1024
GIB_BLOCKS = 1024**3 // BLOCK
#: Seconds. A block's token is good for a week.
TOKEN_LIFE = 7 * 86400
#: What moto's StartSnapshot does not know.
UNKNOWN_TO_MOTO = ("ParentSnapshotId", "ClientToken", "Timeout", "Encrypted", "KmsKeyArn")


def invalid(message, reason="INVALID_PARAMETER_VALUE"):
    return Refused(400, "ValidationException", message, reason)


class Blocks(Account):
    """What `Rules` answers for EBS. moto is told of starts and ends, so that EC2 there knows the snapshots."""

    def _completed(self, name, region):
        snapshot = self._find(name, region)
        if self._state(snapshot) != "completed":
            raise invalid(f"The snapshot '{name}' is not completed.", "INVALID_SNAPSHOT_ID")
        return snapshot

    def _drop_volume(self, call, snapshot):
        """Remove the volume that moto makes for a start."""
        for volume in self._texts(call, "DescribeSnapshots", "volumeId", **{"SnapshotId.1": snapshot}):
            self._ask(call, "DeleteVolume", VolumeId=volume)

    def _ebs_start_snapshot(self, call):
        asked = call.params
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
            if self.encrypts and "KmsKeyArn" not in parent.said:
                raise invalid("Where encryption is the default, an unencrypted snapshot is nobody's parent.")
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
        elif asked.get("Encrypted") or self.encrypts:
            key = f"arn:aws:kms:{call.region}:{ACCOUNT}:key/default"
            said["KmsKeyArn"] = asked.get("KmsKeyArn", key)
        name = said["SnapshotId"]
        self._drop_volume(call, name)
        self.snapshots[name] = Snapshot(
            name, call.region, size, timeout, self.now(), said, parent.lineage if parent else name,
            dict(parent.blocks) if parent else {},
        )  # fmt: skip
        return 201, [("Content-Type", "application/json")], json.dumps(said).encode()

    def _ebs_put_snapshot_block(self, call):
        index, data = int(call.params["BlockIndex"]), call.body
        digest = hashlib.sha256(data).digest()
        checksum = base64.b64encode(digest).decode()
        with self._lock:
            if self._is_late(call.params["SnapshotId"]):
                message = f"The snapshot '{call.params['SnapshotId']}' does not exist."
                raise Refused(404, "ResourceNotFoundException", message, "SNAPSHOT_NOT_FOUND")
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
