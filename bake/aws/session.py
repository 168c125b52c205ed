"""Find the AWS credentials and region as boto3 does, and turn AWS errors into errors with a hint.

boto3 is imported at its first use, so that other commands do not wait for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

import botocore.exceptions as faults
from botocore.parsers import ResponseParserError

from bake.aws import policy
from bake.errors import CloudError, CredentialsError, PolicyError, QuotaError

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ebs import EBSClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ssm import SSMClient
    from mypy_boto3_sts import STSClient

#: Parallel uploads of blocks. 16 blocks of 512 KiB use 200 Mbit/s if AWS answers in a third of a second.
WORKERS = 16
#: botocore's standard mode retries with backoff and jitter after throttling, 5xx and lost connections.
ATTEMPTS = 10
#: Fewer attempts for the first request (sts), so that an unreachable network is reported within a minute.
FIRST_ATTEMPTS = 3
#: Error codes for expired and unknown credentials, and for missing permissions (EC2 API reference, "Error codes").
EXPIRED_CODES = {"RequestExpired", "ExpiredToken", "ExpiredTokenException"}
UNKNOWN_CODES = {"AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
DENIED_CODES = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation"}
#: Maximum length of an unparsable response in a message.
MAX_TEXT = 300


@dataclass(frozen=True)
class Cloud:
    """An AWS account in one region. If `profile` or `region_override` is None, boto3's configuration decides."""

    profile: str | None = None
    region_override: str | None = None
    #: The command whose policy applies, as `bake aws-policy` names it.
    command: str = ""
    #: The boto3 session of another Cloud, so that a profile with MFA asks for a code only once.
    boto3_session: boto3.Session | None = field(default=None, compare=False, repr=False)
    #: boto3's clients by service and region.
    _clients: dict[tuple[str, str], object] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def session(self) -> boto3.Session:
        """Return boto3's session. Raises CloudError if no region is configured."""
        import boto3

        session = self.boto3_session or boto3.Session(profile_name=self.profile)
        if not (self.region_override or _region_from_environment() or session.region_name):
            raise CloudError("No AWS region is configured", "Pass --region, set AWS_REGION, or run `aws configure`.")
        return session

    @property
    def region(self) -> str:
        """Return the region's name."""
        return self.region_override or _region_from_environment() or str(self.session.region_name)

    @cached_property
    def account(self) -> str:
        """Return the account's number."""
        return self("sts").get_caller_identity()["Account"]

    def require(self) -> None:
        """Raise CloudError without a region, and CredentialsError without credentials that AWS accepts.

        Call it before work that takes long.
        """
        with aws_errors(self):
            assert self.account

    @overload
    def __call__(self, service: Literal["autoscaling"]) -> AutoScalingClient: ...
    @overload
    def __call__(self, service: Literal["ebs"]) -> EBSClient: ...
    @overload
    def __call__(self, service: Literal["ec2"]) -> EC2Client: ...
    @overload
    def __call__(self, service: Literal["ssm"]) -> SSMClient: ...
    @overload
    def __call__(self, service: Literal["sts"]) -> STSClient: ...

    def __call__(self, service: Literal["autoscaling", "ebs", "ec2", "ssm", "sts"]) -> object:
        """Return boto3's client for a service. Threads may share it."""
        key = service, self.region
        if key not in self._clients:
            from botocore.config import Config

            config = Config(
                retries={"mode": "standard", "total_max_attempts": FIRST_ATTEMPTS if service == "sts" else ATTEMPTS},
                max_pool_connections=WORKERS, connect_timeout=10, read_timeout=60,
            )  # fmt: skip
            self._clients[key] = self.session.client(service, region_name=self.region, config=config)
        return self._clients[key]

    def in_region(self, region: str) -> Cloud:
        """Return the same account in another region."""
        return Cloud(self.profile, region, self.command, self.session, self._clients)

    def for_command(self, command: str) -> Cloud:
        """Return the same account and region with another command's policy."""
        return Cloud(self.profile, self.region_override, command, self.session, self._clients)


def _region_from_environment() -> str | None:
    """Return AWS_REGION, which other tools of AWS read, but boto3 does not."""
    return os.environ.get("AWS_REGION")


def code_of(error: Exception) -> str:
    """Return AWS's error code, or an empty string for other exceptions."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, faults.ClientError) else ""


@contextmanager
def aws_errors(cloud: Cloud) -> Iterator[None]:
    """Turn boto3's exceptions in the block into BakeErrors with a hint."""
    try:
        yield
    except faults.ClientError as error:
        raise _translate(error, cloud) from error
    except (faults.NoCredentialsError, faults.PartialCredentialsError, faults.CredentialRetrievalError) as error:
        raise CredentialsError(
            f"There are no credentials for AWS: {error}",
            "Set AWS_PROFILE or --profile, or run `aws configure` or `aws sso login`.",
        ) from error
    except (faults.SSOError, faults.TokenRetrievalError, faults.RefreshWithMFAUnsupportedError) as error:
        raise CredentialsError(f"The login to AWS has expired: {error}", "Run `aws sso login` again.") from error
    except (faults.ProfileNotFound, faults.ConfigNotFound, faults.ConfigParseError) as error:
        raise CredentialsError(f"{error}", "`aws configure list-profiles` lists the profiles.") from error
    except (faults.EndpointConnectionError, faults.ConnectTimeoutError, faults.HTTPClientError) as error:
        raise CloudError(
            f"AWS is unreachable: {error}",
            f"Check the network and the region's name ({cloud.region_override or 'as configured'}).",
        ) from error
    except ResponseParserError as error:
        raise CloudError(
            "The response is not from AWS",
            "Check for a proxy, and whether AWS_ENDPOINT_URL is set.",
            str(error)[:MAX_TEXT],
        ) from error
    except faults.BotoCoreError as error:
        raise CloudError(
            f"The request to AWS failed: {error}", "Check the spelling of --region and --profile."
        ) from error


def partition_of(region: str | None) -> str:
    """Return the partition of a region's ARNs, or `aws` without a region. Raises CloudError for an unknown region."""
    import boto3

    try:
        return str(boto3.Session().get_partition_for_region(region)) if region else "aws"
    except faults.UnknownRegionError as error:
        raise CloudError(f"There is no AWS region {region}", "Correct --region.") from error


def _translate(error: faults.ClientError, cloud: Cloud) -> CloudError | CredentialsError | PolicyError | QuotaError:
    code, operation = code_of(error), error.operation_name
    message = str(error.response["Error"].get("Message", "")).partition(" Encoded authorization")[0].strip()
    if code in EXPIRED_CODES:
        return CredentialsError(
            f"The AWS credentials have expired ({code})", "Log in again, for example with `aws sso login`."
        )
    if code in UNKNOWN_CODES:
        return CredentialsError(
            f"AWS does not recognise the credentials ({code}): {message}",
            "Check that they are complete: `aws sts get-caller-identity`.",
        )
    if code in DENIED_CODES:
        match = re.search(r"perform: ([a-z0-9-]+:\w+)", message)
        action = match[1] if match else policy.action_of(operation)
        return PolicyError(
            f"The AWS credentials lack the permission for {action}",
            policy.denial_hint(cloud.command, action),
            message,
        )
    if code in ("InsufficientInstanceCapacity", "Unsupported"):
        return QuotaError(
            f"AWS cannot provide this instance type there ({code}): {message}",
            "Try another --type, or a --subnet in another zone.",
        )
    # Exclude the limits of API requests, which are no quotas. boto3 has retried already.
    if code not in ("RequestLimitExceeded", "FilterLimitExceeded") and re.search(
        r"LimitExceeded|QuotaExceeded|MaxSpotInstanceCount", code
    ):
        return QuotaError(
            f"The AWS account has reached a quota ({code}): {message}",
            "Raise it under Service Quotas, or remove resources: `bake prune`, `bake ls`, `bake down`.",
        )
    if code == "OptInRequired" or code == "InvalidRegion":
        return CloudError(
            f"The AWS account cannot use this region: {message}", "Enable it at AWS, or choose another: --region."
        )
    return CloudError(f"AWS rejected {operation} ({code}): {message}")
