"""Errors that bake reports: one class for each kind of failure, with its exit code.

The codes are part of the interface, because scripts branch on them. The documentation
prints the docstrings of these classes. As usual, 1 is a crash of bake itself and 2 is
a wrong command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self


class BakeError(Exception):
    """A failure with a message (what failed and where) and a hint (the next command or edit).

    The command line prints `details`, such as the end of a log or a list of faults, before the message. `log` is the
    complete log where `details` has only its end.

    `reason` is the message without the name of a Debian version. `common_reason` is that without the version of its
    Python. The choice of a Debian version lists and compares them.
    """

    code = 1

    def __init__(self, message: str, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.log = ""
        self.reason = self.common_reason = message

    def with_reasons(self, reason: str, common_reason: str) -> Self:
        """Set `reason` and `common_reason`, and return the error."""
        self.reason, self.common_reason = reason, common_reason
        return self

    @classmethod
    def of_faults(cls, where: str, faults: Iterable[str], hint: str = "") -> Self:
        """Return the error for all faults in a file or in a command line, one on each line of `details`."""
        lines = list(faults)
        count = "a fault" if len(lines) == 1 else f"{len(lines)} faults"
        return cls(f"{where} has {count}", f"Correct it as listed above. {hint}".strip(), "\n".join(lines))


# The app's folder and its files.
class AppFolderError(BakeError):
    """The app's folder is missing, is not a folder, cannot be read, or contains too much Python."""

    code = 10


class NoAppError(BakeError):
    """No WSGI or ASGI callable was found, or the one named does not exist."""

    code = 11
    #: The lines of bake.yaml that bake proposes.
    proposal: tuple[str, ...] = ()


class SeveralAppsError(BakeError):
    """More than one WSGI or ASGI callable was found and none was chosen."""

    code = 12
    #: The values of `key` to choose from, each with the place of its app: {"app:app": "app.py:3"}.
    candidates: Mapping[str, str]
    #: The key of bake.yaml: `wsgi`, `asgi` or `run`.
    key: str

    def __init__(self, candidates: Mapping[str, str], key: str = "wsgi") -> None:
        lines = [f"{place}: to serve this one, write  {key}: {target}" for target, place in candidates.items()]
        super().__init__(
            f"bake found {len(candidates)} apps: {', '.join(candidates)}",
            "Add one of these lines to bake.yaml.",
            "\n".join(lines),
        )
        self.candidates, self.key = candidates, key


class AppSyntaxError(BakeError):
    """A file of the app is not valid in the target's version of Python."""

    code = 13


class AsgiAppError(BakeError):
    """`wsgi` names an ASGI app, or `asgi` names a WSGI app."""

    code = 14


class RecipeError(BakeError):
    """`bake.yaml` has faults; all of them are in `details`."""

    code = 15


class DocumentError(BakeError):
    """The document exceeds the provider's user-data limit, or its app needs an interpreter of its own."""

    code = 16


class SourceError(BakeError):
    """The app's source cannot be fetched, or differs from the one that `bake.yaml` names."""

    code = 17


class SettingsError(BakeError):
    """A launch setting is invalid, or a secret has no value."""

    code = 18


class SecretError(BakeError):
    """A file of the app contains a private key or a token, which a release would contain."""

    code = 19


# What the app needs.
class RequirementError(BakeError):
    """A requirement does not exist, or the file that lists them cannot be read."""

    code = 20


class ConflictError(BakeError):
    """The requirements conflict with each other."""

    code = 21


class WheelError(BakeError):
    """A dependency has no wheel that fits the target."""

    code = 22


class BuildError(BakeError):
    """A dependency has no wheel that fits the target, and bake could not build one from its source."""

    code = 23


class PythonError(BakeError):
    """The interpreter for `python` does not exist, has another digest than uv's list, or has no known layout."""

    code = 24


class AssetsError(BakeError):
    """The front end in `assets` could not be built, or bake cannot use its result."""

    code = 25


# The machine this runs on.
class ToolError(BakeError):
    """A program is missing or too old."""

    code = 30


class SpaceError(BakeError):
    """A disk has too little free space."""

    code = 31


class NetworkError(BakeError):
    """The Debian archive, the package index or a base image cannot be reached."""

    code = 32


class PortError(BakeError):
    """A required TCP port is in use."""

    code = 33


class PlaceError(BakeError):
    """bake cannot write to its cache or to the output folder."""

    code = 34


# The bake.
class BaseError(BakeError):
    """The base disk or builder root could not be built, or the base disk differs from the one in `bake.yaml`."""

    code = 40


class PackerError(BakeError):
    """Packer failed, or reported success without an artifact."""

    code = 41


class SetupError(BakeError):
    """The machine could not be set up: a step of app-setup failed."""

    code = 42


class AppStartError(BakeError):
    """The app does not start, for example because importing it raises an exception."""

    code = 43


class UnhealthyError(BakeError):
    """The app starts, but its health check fails."""

    code = 44


class BootError(BakeError):
    """A machine did not boot, became unreachable, or refused the login."""

    code = 45


class CheckError(BakeError):
    """One or more checks of a machine failed."""

    code = 46


class VulnerableError(BakeError):
    """`bake audit` found vulnerabilities that newer versions of the packages fix."""

    code = 47


class AdvisoryError(BakeError):
    """The advisories for `bake audit` cannot be fetched or read, so it claims nothing."""

    code = 48


class ProgramError(BakeError):
    """An external program failed unexpectedly."""

    code = 50


# AWS.
class CredentialsError(BakeError):
    """There are no credentials for AWS, or they have expired."""

    code = 60


class PolicyError(BakeError):
    """The credentials for AWS lack a permission."""

    code = 61


class QuotaError(BakeError):
    """The AWS account has reached a quota."""

    code = 62


class AmiError(BakeError):
    """The image cannot be published: it was not checked, or its AMI name is taken."""

    code = 63


class LaunchError(BakeError):
    """The launched instance did not become healthy; bake rolled the launch back."""

    code = 64


class RetireError(BakeError):
    """bake refuses to terminate the instance: bake did not create it, or its data has no other copy."""

    code = 65


class CloudError(BakeError):
    """AWS is unreachable, or rejected a request."""

    code = 69


class Cancelled(BakeError):
    """The command was interrupted by Ctrl-C or SIGTERM."""

    code = 130
