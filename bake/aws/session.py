"""Who we are at AWS and where, as boto3's own chain finds it, and what AWS's refusals mean for a person.

boto3 is imported where it is first asked: commands that need no AWS need not wait for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import botocore.exceptions as faults
from botocore.parsers import ResponseParserError

from bake.aws import policy
from bake.errors import CloudError, CredentialsError, PolicyError, QuotaError

#: Blocks that are uploaded at once. Sixteen of 512 KiB keep 200 Mbit/s busy at a third of a second an answer.
WORKERS = 16
#: botocore's standard mode: backoff with jitter, on throttling, 5xx and connections that break.
RETRIES = {"mode": "standard", "total_max_attempts": 10}
#: For the first question of all, whom AWS takes us for: who has no network should not wait a minute to hear so.
FIRST_RETRIES = {"mode": "standard", "total_max_attempts": 3}
#: Error codes of services, by what they mean. EC2's are in its API reference, "Error codes".
EXPIRED = {"RequestExpired", "ExpiredToken", "ExpiredTokenException"}
UNKNOWN = {"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
#: Characters that are shown of an answer that nobody understands.
SHOWN = 300
DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation"}


@dataclass(frozen=True)
class Cloud:
    """An account at AWS, seen from one region. `profile` and `region` None: whatever boto3's chain says."""

    profile: str | None = None
    wanted: str | None = None
    #: Whose policy what is asked goes by, as `bake aws-policy` names it.
    command: str = ""
    #: boto3's, of another one that this was made of: a profile that wants a code of a person's asks for it once.
    shared: Any = field(default=None, compare=False, repr=False)
    #: By service and region.
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def session(self) -> Any:
        """boto3's. Raises CloudError where no region is named anywhere."""
        import boto3

        made = self.shared or boto3.Session(profile_name=self.profile)
        if not (self.wanted or made.region_name):
            raise CloudError("No AWS region is named", "Say --region, set AWS_REGION, or run `aws configure`.")
        return made

    @property
    def region(self) -> str:
        """The region's name."""
        return self.wanted or str(self.session.region_name)

    @cached_property
    def account(self) -> str:
        """The account's number."""
        return str(self("sts").get_caller_identity()["Account"])

    def __call__(self, service: str) -> Any:
        """boto3's client for a service; threads may share it."""
        where = service, self.region
        if where not in self._clients:
            from botocore.config import Config

            retries = FIRST_RETRIES if service == "sts" else RETRIES
            config = Config(retries=retries, max_pool_connections=WORKERS, connect_timeout=10, read_timeout=60)
            self._clients[where] = self.session.client(service, region_name=self.region, config=config)
        return self._clients[where]

    def elsewhere(self, region: str) -> Cloud:
        """The same account in another region."""
        return Cloud(self.profile, region, self.command, self.session, self._clients)

    def acting_as(self, command: str) -> Cloud:
        """The same, by another command's policy."""
        return Cloud(self.profile, self.wanted, command, self.session, self._clients)

    def pages(self, service: str, operation: str, key: str, **words: Any) -> Iterator[dict[str, Any]]:
        """All the items that an operation lists under `key`, page by page."""
        for page in self(service).get_paginator(operation).paginate(**words):
            yield from page[key]


def code_of(error: Exception) -> str:
    """AWS's word for what is wrong; empty for what is not AWS's refusal."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, faults.ClientError) else ""


@contextmanager
def refusals(cloud: Cloud) -> Iterator[None]:
    """Turn what boto3 raises inside into errors that say the way out."""
    try:
        yield
    except faults.ClientError as error:
        raise _refused(error, cloud) from error
    except (faults.NoCredentialsError, faults.PartialCredentialsError, faults.CredentialRetrievalError) as error:
        raise CredentialsError(
            f"There are no credentials for AWS: {error}",
            "Set AWS_PROFILE or --profile, or run `aws configure` or `aws sso login`.",
        ) from error
    except (faults.SSOError, faults.TokenRetrievalError, faults.RefreshWithMFAUnsupportedError) as error:
        raise CredentialsError(f"The login to AWS is over: {error}", "Run `aws sso login` again.") from error
    except (faults.ProfileNotFound, faults.ConfigNotFound, faults.ConfigParseError) as error:
        raise CredentialsError(f"{error}", "`aws configure list-profiles` names those that exist.") from error
    except (faults.EndpointConnectionError, faults.ConnectTimeoutError, faults.HTTPClientError) as error:
        raise CloudError(
            f"AWS cannot be reached: {error}", f"Is the region's name right, {cloud.wanted or 'as configured'}?"
        ) from error
    except ResponseParserError as error:
        raise CloudError(
            "What answered is not AWS", "Is there a proxy in between, or is AWS_ENDPOINT_URL set?", str(error)[:SHOWN]
        ) from error
    except faults.BotoCoreError as error:
        raise CloudError(f"AWS could not be asked: {error}", "Are region and profile spelt right?") from error


def partition_of(region: str | None) -> str:
    """The first part of ARNs of a region's; `aws` where none is named."""
    import boto3

    try:
        return str(boto3.Session().get_partition_for_region(region)) if region else "aws"
    except faults.UnknownRegionError as error:
        raise CloudError(f"There is no region {region}", "Is it spelt right?") from error


def _refused(error: faults.ClientError, cloud: Cloud) -> CloudError | CredentialsError | PolicyError | QuotaError:
    code, operation = code_of(error), error.operation_name
    said = str(error.response["Error"].get("Message", "")).partition(" Encoded authorization")[0].strip()
    if code in EXPIRED:
        return CredentialsError(f"The credentials for AWS have expired ({code})", "Log in again: `aws sso login`, say.")
    if code in UNKNOWN:
        return CredentialsError(
            f"AWS does not know these credentials ({code}): {said}", "Are they of this account, and whole?"
        )
    if code in DENIED:
        named = re.search(r"perform: ([a-z0-9-]+:\w+)", said)
        action = named[1] if named else policy.action_of(operation)
        return PolicyError(
            f"AWS does not allow {action} to these credentials",
            policy.way_out(cloud.command, action),
            said,
        )
    if code in ("InsufficientInstanceCapacity", "Unsupported"):
        return QuotaError(
            f"AWS has no such machine there ({code}): {said}", "Another --subnet, in another zone, or --type may do."
        )
    # Of calls, not of things: boto3 has asked again for a while.
    if code not in ("RequestLimitExceeded", "FilterLimitExceeded") and re.search(
        r"LimitExceeded|QuotaExceeded|MaxSpotInstanceCount", code
    ):
        return QuotaError(
            f"A quota of this account is reached ({code}): {said}",
            "Raise it under Service Quotas, or make room: `bake prune`, `bake ls`, `bake down`.",
        )
    if code == "OptInRequired" or code == "InvalidRegion":
        return CloudError(
            f"This account cannot use this region: {said}", "Enable it at AWS, or name another: --region."
        )
    return CloudError(f"AWS refused {operation} ({code}): {said}")
