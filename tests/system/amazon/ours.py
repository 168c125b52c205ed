"""What Amazon documents and moto lacks, as a model of ours."""

import re
import threading
import time

from .blocks import Blocks, Refused
from .images import Images
from .instances import Instances


class Rules(Blocks, Images, Instances):
    """Our own model of snapshots: parents, tokens, timeouts, sizes, checksums, states.

    Guesses, where Amazon's reference is silent, each the harder case for who calls:
    - CompleteSnapshot of a snapshot that is not pending any more is refused, also when it is a repetition.
    - A parent that is not there is ResourceNotFoundException; one of another region too.
    - RegisterImage of a snapshot that is not completed is IncorrectState.

    And of EC2, as AWS does it and moto does not:
    - DescribeSnapshots tells the state that EBS knows, and of its owners' snapshots alone; a start leaves no volume.
    - RegisterImage takes its tags, refuses a name that is taken, and DescribeImages tells what it was asked for and
      finds by it; the snapshot that moto invents for each image is not shown. CopyImage and CopySnapshot bring along
      what we know. CreateImage tags its snapshots; IMDS support and a date of deprecation are kept.
    - A call with a client token is done once (moto starts an instance each time).
    - DeleteSnapshot refuses what a registered image stands on.
    - RunInstances tags the network interface as well, if asked to, and takes an AMI's disk without its size said anew.
    - TerminateInstances lets go of volumes and addresses that stay and deletes the network interface; AttachVolume
      refuses a volume that another machine has.
    - DeleteSecurityGroup is refused while a machine has it, and for some looks more (`held_looks`).
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
        #: How often DeleteSecurityGroup says DependencyViolation still, once its machine has ended.
        self.held_looks = 0
        #: How many calls AWS needs to learn of what was just made, or let go of: the first blocks of a snapshot, looks
        #: for an AMI, deletions of a snapshot whose AMI has gone. How many it is at AWS nobody says.
        self.lag, self._lags, self._left_alone = 0, {}, set()
        #: Whether the account encrypts by default (EBS user guide, "Encryption outcomes for EBS direct APIs").
        self.encrypts = False
        self.snapshots, self.tokens, self.images = {}, {}, {}
        #: Images that were registered, also those that are gone.
        self.registered = set()

    def _is_late(self, what):
        """Whether AWS does not know yet; each question brings it nearer."""
        left = self._lags.setdefault(what, self.lag)
        self._lags[what] = max(0, left - 1)
        return left > 0

    def answer(self, call):
        """Status, headers and body for a call, moto's or ours."""
        own = getattr(self, f"_{call.service}_{re.sub(r'(?<!^)(?=[A-Z])', '_', call.action).lower()}", None)
        if own is None and not call.params.get("ClientToken"):
            return self.forward(call)
        if call.action == "PutSnapshotBlock":
            return own(call)
        with self._lock:
            return self._once(call, own or self.forward)

    def _once(self, call, own):
        """A call with a token is done once, however often it is made (so does boto3, after a lost answer)."""
        token = call.service, call.region, call.action, call.params.get("ClientToken")
        if not token[-1]:
            return own(call)
        if token in self.tokens:
            asked, answer = self.tokens[token]
            if asked != call.params:
                status, code = (
                    (409, "ConflictException") if call.service == "ebs" else (400, "IdempotentParameterMismatch")
                )
                raise Refused(status, code, "The client token was used with other parameters.")
            return answer
        answer = own(call)
        if answer[0] < 300:
            self.tokens[token] = call.params, answer
        return answer
