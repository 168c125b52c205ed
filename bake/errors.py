"""Every way in which a bake can fail: one class a kind, each with its exit code.

The codes are part of the interface (scripts branch on them). The documentation
lists them by the docstrings here. 1 is left to crashes of our own and 2 to a
wrong command line, as everywhere.
"""

from __future__ import annotations


class BakeError(Exception):
    """What went wrong and where (`message`), and the way out (`hint`).

    `details` is shown between the two, as it stands: a log's tail, a list of faults. `log` is the whole of a log that
    `details` has the end of.
    """

    code = 1

    def __init__(self, message: str, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.log = ""


# The app's folder and what is in it.
class AppFolderError(BakeError):
    """The app's folder is missing, is not a folder, cannot be read, or holds too much Python."""

    code = 10


class NoAppError(BakeError):
    """No WSGI callable was found, or the one named does not exist."""

    code = 11


class SeveralAppsError(BakeError):
    """More than one WSGI callable was found and none was chosen."""

    code = 12


class AppSyntaxError(BakeError):
    """A file of the app is not Python that the target can read."""

    code = 13


class AsgiAppError(BakeError):
    """The app speaks ASGI, which uWSGI does not serve."""

    code = 14


class RecipeError(BakeError):
    """`bake.yaml` has faults; all of them are in `details`."""

    code = 15


class DocumentError(BakeError):
    """The document is larger than its provider takes."""

    code = 16


class SourceError(BakeError):
    """The app's source cannot be fetched, or is not the one that was asked for."""

    code = 17


class SettingsError(BakeError):
    """A setting for a launch is wrong, or a secret has no value."""

    code = 18


# What the app needs.
class RequirementError(BakeError):
    """A requirement does not exist, or the file that lists them cannot be read."""

    code = 20


class ConflictError(BakeError):
    """The requirements cannot all be met at once."""

    code = 21


class WheelError(BakeError):
    """A dependency has no wheel that fits the target."""

    code = 22


# The machine this runs on.
class ToolError(BakeError):
    """A program is missing or too old."""

    code = 30


class SpaceError(BakeError):
    """Not enough room on a disk."""

    code = 31


class NetworkError(BakeError):
    """The Debian archive, the package index or a base image cannot be reached."""

    code = 32


class PortError(BakeError):
    """A TCP port that is needed is in use."""

    code = 33


class PlaceError(BakeError):
    """A folder of ours (cache, outputs) cannot be written."""

    code = 34


# The bake.
class BaseError(BakeError):
    """The base disk could not be built, or is not the one that was asked for."""

    code = 40


class PackerError(BakeError):
    """Packer failed, or said it succeeded and left no artifact."""

    code = 41


class SetupError(BakeError):
    """The machine could not be set up: a step of app-setup failed."""

    code = 42


class AppStartError(BakeError):
    """The app does not start: it raises on import, say."""

    code = 43


class UnhealthyError(BakeError):
    """The app starts, and does not answer its health path as it should."""

    code = 44


class BootError(BakeError):
    """A machine did not come up, went away, or lets nobody in."""

    code = 45


class CheckError(BakeError):
    """Checks of a machine failed."""

    code = 46


class ProgramError(BakeError):
    """A program we called failed in a way we have no better word for."""

    code = 50


# AWS.
class CredentialsError(BakeError):
    """There are no credentials for AWS, or they have expired."""

    code = 60


class PolicyError(BakeError):
    """The credentials for AWS lack a permission."""

    code = 61


class QuotaError(BakeError):
    """A quota of the AWS account is reached."""

    code = 62


class AmiError(BakeError):
    """The image cannot be published: it is not proved, or its name is taken."""

    code = 63


class LaunchError(BakeError):
    """The launched machine is not healthy; what was started has been removed."""

    code = 64


class RetireError(BakeError):
    """The machine may not be ended: it is not ours, or what would be lost with it is kept nowhere else."""

    code = 65


class CloudError(BakeError):
    """AWS cannot be reached, or refused something in a way we have no better word for."""

    code = 69


class Cancelled(BakeError):
    """Ctrl-C, or SIGTERM."""

    code = 130
