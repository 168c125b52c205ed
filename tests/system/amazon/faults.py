"""How each of Amazon's protocols says no: the codes and forms of their API references.

EC2 answers in XML of its own, the other query services (STS, IAM, Auto Scaling) in another, SSM and its like in JSON
by a target, EBS in JSON by its path, S3 in XML again.
"""

import json
from xml.sax.saxutils import escape

#: Answered by the gate itself.
ANSWERED = ("throttle", "500", "denied", "expired", "unknown-key", "quota")
KINDS = (*ANSWERED, "drop", "drop-after", "delay")
#: Status and code by kind and protocol.
CODES = {
    "throttle": {
        "ec2": (503, "RequestLimitExceeded"), "query": (400, "Throttling"), "json": (400, "ThrottlingException"),
        "ebs": (400, "RequestThrottledException"), "s3": (503, "SlowDown"),
    },
    "500": {
        "ec2": (500, "InternalError"), "query": (500, "InternalFailure"), "json": (500, "InternalServerError"),
        "ebs": (500, "InternalServerException"), "s3": (500, "InternalError"),
    },
    "denied": {
        "ec2": (403, "UnauthorizedOperation"), "query": (403, "AccessDenied"), "json": (400, "AccessDeniedException"),
        "ebs": (403, "AccessDeniedException"), "s3": (403, "AccessDenied"),
    },
    "expired": {
        "ec2": (400, "RequestExpired"), "query": (403, "ExpiredToken"), "json": (400, "ExpiredTokenException"),
        "ebs": (403, "ExpiredTokenException"), "s3": (400, "ExpiredToken"),
    },
    "unknown-key": {
        "ec2": (401, "AuthFailure"), "query": (403, "InvalidClientTokenId"),
        "json": (400, "UnrecognizedClientException"), "ebs": (403, "UnrecognizedClientException"),
        "s3": (403, "InvalidAccessKeyId"),
    },
    "quota": {
        "ec2": (400, "ResourceLimitExceeded"), "query": (400, "LimitExceeded"),
        "json": (400, "ServiceQuotaExceededException"), "ebs": (402, "ServiceQuotaExceededException"),
        "s3": (400, "TooManyBuckets"),
    },
}  # fmt: skip
#: Quotas that have a code of their own.
QUOTAS = {
    "RunInstances": "InstanceLimitExceeded", "CreateSnapshot": "SnapshotLimitExceeded",
    "CopySnapshot": "SnapshotLimitExceeded", "CreateVolume": "VolumeLimitExceeded",
    "AllocateAddress": "AddressLimitExceeded", "CreateSecurityGroup": "SecurityGroupLimitExceeded",
    "AuthorizeSecurityGroupIngress": "RulesPerSecurityGroupLimitExceeded", "PutParameter": "ParameterLimitExceeded",
}  # fmt: skip
REASONS = {
    "RequestThrottledException": "RESOURCE_LEVEL_THROTTLE",
    "AccessDeniedException": "UNAUTHORIZED_ACCOUNT",
    "ServiceQuotaExceededException": "DEPENDENCY_SERVICE_QUOTA_EXCEEDED",
}


def protocol(call):
    """Whose form an answer has."""
    if call.service in ("ec2", "ebs", "s3"):
        return call.service
    return "json" if call.headers.get("X-Amz-Target") else "query"


def answer(kind, call):
    """Status, headers and body of a fault."""
    form = protocol(call)
    status, code = CODES[kind][form]
    if kind == "quota":
        code = QUOTAS.get(call.action, code)
    if kind == "throttle" and form == "ebs" and not call.action.endswith("SnapshotBlock"):
        # A snapshot's own limit is of its blocks; the others are of the account.
        code = "ThrottlingException"
    who, what = "arn:aws:iam::123456789012:user/tester", f"{call.service}:{call.action}"
    messages = {
        "throttle": "Rate exceeded",
        "500": "An internal error has occurred",
        "denied": f"User: {who} is not authorized to perform: {what} because no identity-based policy "
        f"allows the {what} action",
        "expired": "The security token included in the request is expired",
        "unknown-key": "The security token included in the request is invalid",
        "quota": f"You have reached a quota of your account: {what}",
    }
    if form == "ec2" and kind == "denied":
        messages["denied"] = f"You are not authorized to perform this operation. {messages['denied']}"
    return error(call, status, code, messages[kind], REASONS.get(code, ""))


def error(call, status, code, message, reason=""):
    """Status, headers and body of an error, in the form of the call's protocol."""
    form, request = protocol(call), "00000000-0000-0000-0000-000000000000"
    if form in ("json", "ebs"):
        name = "__type" if form == "json" else "Reason"
        told = {"Message": message} | ({name: code if form == "json" else reason} if form == "json" or reason else {})
        kind = "application/x-amz-json-1.1" if form == "json" else "application/json"
        headers = [("Content-Type", kind), ("x-amzn-RequestId", request)]
        return status, headers + [("x-amzn-ErrorType", code)] * (form == "ebs"), json.dumps(told).encode()
    inside = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    text = {
        "ec2": f"<Response><Errors><Error>{inside}</Error></Errors><RequestID>{request}</RequestID></Response>",
        "query": f"<ErrorResponse><Error><Type>Sender</Type>{inside}</Error><RequestId>{request}</RequestId>"
        "</ErrorResponse>",
        "s3": f"<Error>{inside}<RequestId>{request}</RequestId></Error>",
    }[form]
    return status, [("Content-Type", "text/xml")], f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
