"""Build a wheel from a source in a builder root, as a user without privileges, network and environment.

The build sees the root, the source, its build requirements and a temporary folder. `cloud-init/builder/` has the
scripts: `enter.sh` prepares the namespaces, `wheel.sh` runs in them.
"""

from __future__ import annotations

import shutil
import signal
import tarfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from bake.bundle.builder_root import BuilderRoot
from bake.bundle.wheel_contents import require_safe
from bake.errors import ToolError, WheelError
from bake.host import paths, programs

#: The maximum duration of a build in seconds.
TIMEOUT = 1800
#: The beginning of the last line of a log if the build was killed.
KILLED = "The build was killed"
#: The environment of a build. SOURCE_DATE_EPOCH makes wheels reproducible; a zip archive cannot be older than 1980.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp/home",
    "LANG": "C.UTF-8",
    "SOURCE_DATE_EPOCH": "315532800",
}
#: The variables of build backends that compute a version from git's tags, which a source from a repository lacks.
VERSION_VARIABLES = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION")
#: Namespaces of their own: without a network, and without any process or mount of the host.
NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child")


def argv(root: BuilderRoot, folder: Path, version: str = "") -> list[str]:
    """Return the command that builds the source in `folder`. `version` is for backends that ask git for it.

    For users other than root, it is root of a namespace.
    """
    unshare = programs.which("unshare")
    if unshare is None:
        raise ToolError("unshare, which isolates builds, is not installed", "Run `bake doctor --install`.")
    script = paths.builder() / "enter.sh"
    variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    variables += [f"{name}={version}" for name in VERSION_VARIABLES if version]
    words = [str(unshare), *NAMESPACES, "--", "sh", str(script), str(root.folder), str(folder), str(TIMEOUT)]
    return ["env", "-i", *variables, *programs.as_root(), *words]


def build(root: BuilderRoot, source: Path, wheels: Sequence[Path], log: Path, version: str = "") -> Path | None:
    """Return the wheel built from a source with these build requirements, or None if the build fails.

    The wheel is in the source's folder. `log` gets the output of the build; `version` is that of `argv`. Raises
    WheelError for a wheel that is not safe to unpack.
    """
    folder, output = source.parent / "input", source.parent / "wheels.tar"
    for name, files in (("source", [source]), ("wheels", wheels), ("python", [root.python] if root.python else ())):
        (folder / name).mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, folder / name / file.name)
    shutil.copyfile(paths.builder() / "wheel.sh", folder / "build.sh")
    with output.open("wb") as stdout, log.open("ab") as stderr:
        process = programs.start(argv(root, folder, version), stdout=stdout, stderr=stderr)
        try:
            status = process.wait()
        finally:
            programs.stop(process)
    shutil.rmtree(folder)
    if is_killed(status):
        with log.open("a") as stream:
            stream.write(f"{KILLED}: it did not end within {TIMEOUT} s, or needed too much memory.\n")
    return None if status else _unpack(output)


def is_killed(status: int) -> bool:
    """Return whether the exit status of a build shows that it was killed, by its limit of time or of memory."""
    return status in (-signal.SIGKILL, 128 + signal.SIGKILL)


def _unpack(output: Path) -> Path | None:
    """Return the only wheel in an archive that a build wrote, or None. Its content is not to be trusted."""
    try:
        with tarfile.open(output) as tar:
            members = [member for member in tar if member.isfile()]
            if len(members) != 1:
                return None
            wheel = output.parent / members[0].name.rpartition("/")[2]
            parse_wheel_filename(wheel.name)
            stream = tar.extractfile(members[0])
            assert stream is not None
            with wheel.open("wb") as copy:
                shutil.copyfileobj(stream, copy)
    except (tarfile.TarError, InvalidWheelFilename):
        return None
    require_safe(wheel)
    return wheel


def require_match(wheel: Path, name: str, version: str) -> None:
    """Raise WheelError unless a wheel's file name has this name and version."""
    wheel_name, wheel_version, _, _ = parse_wheel_filename(wheel.name)
    if wheel_name != canonicalize_name(name) or wheel_version != Version(version):
        raise WheelError(
            f"The source of {name}=={version} builds {wheel.name}", "Require another version, or another package."
        )
