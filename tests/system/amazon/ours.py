"""What Amazon documents and moto lacks, as a model of ours."""

import re

from .account import Refused
from .blocks import Blocks
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

    def answer(self, call):
        """Status, headers and body for a call, moto's or ours."""
        own = getattr(self, f"_{call.service}_{re.sub(r'(?<!^)(?=[A-Z])', '_', call.action).lower()}", None)
        if own is None and not call.params.get("ClientToken"):
            return self.forward(call)
        if own and call.action == "PutSnapshotBlock":
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
