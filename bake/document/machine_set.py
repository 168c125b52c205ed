"""The machine's own files as a set with a version, and as an archive that `renew.py` installs on a running machine."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from bake import __version__
from bake.config.debian import Target
from bake.document import cloud_config, machine_files
from bake.document.machine_files import File
from bake.host import paths

#: Each path outside of /usr/lib/app that a set has, or once had. An upgrade removes the files that its set lacks.
PATHS = (
    "/etc/apt/apt.conf.d/52app",
    "/etc/letsencrypt/renewal-hooks/deploy/app",
    "/etc/ssh/sshd_config.d/50-app.conf",
    "/etc/systemd/journald.conf.d/50-app.conf",
    "/etc/systemd/resolved.conf.d/50-app.conf",
    "/etc/systemd/system/app-build.service.d/50-sandbox.conf",
    "/etc/systemd/system/app-configure.service",
    "/etc/systemd/system/app-job@.service",
    "/etc/systemd/system/app-job@.service.d/50-sandbox.conf",
    "/etc/systemd/system/app-next.service",
    "/etc/systemd/system/app-next.service.d/50-sandbox.conf",
    "/etc/systemd/system/app-next.socket",
    "/etc/systemd/system/app-setup.service",
    "/etc/systemd/system/app.service",
    "/etc/systemd/system/app.service.d/50-sandbox.conf",
    "/etc/systemd/system/app.socket",
    "/etc/systemd/system/certbot.service.d/50-app.conf",
    "/etc/systemd/system/nftables.service.d/50-app.conf",
    "/etc/systemd/system/nginx.service.d/50-app.conf",
    "/usr/lib/sysusers.d/app.conf",
    "/usr/lib/tmpfiles.d/app.conf",
)


def programs() -> Path:
    """Return the folder of the programs that install a set. They come with it."""
    return paths.tree() / "cloud-init" / "upgrade"


def rows(files: list[File]) -> dict[str, str]:
    """Return the mode and the digest of each file, by its path. `renew.py` returns the same for a machine."""
    return {file.path: f"{file.mode:o} {hashlib.sha256(file.content).hexdigest()}" for file in files}


def digest(files: list[File]) -> str:
    """Return the digest of files: of their paths, modes and contents. `renew.py` returns the same for a machine."""
    return hashlib.sha256("".join(f"{row} {name}\n" for name, row in sorted(rows(files).items())).encode()).hexdigest()


@dataclass(frozen=True)
class MachineSet:
    """The files of every machine of a Debian version, by this version of bake."""

    files: list[File]

    @classmethod
    def of(cls, target: Target) -> MachineSet:
        """Return the set for a Debian version."""
        return cls(machine_files.files(target))

    @property
    def version(self) -> str:
        """Return the set's version: that of bake, and the digest of the files."""
        return f"{__version__}+{digest(self.files)[:12]}"

    def is_digest(self, other: str) -> bool:
        """Return whether a machine with this digest has the set. A document may have brought it without comments."""
        return other == digest(self.files) or other == digest([cloud_config.strip(file) for file in self.files])

    def write(self, out: Path, stanza: File | None) -> None:
        """Write the archive that `renew.py install` takes, with its programs. `stanza` names a new release."""
        description = {"version": self.version, "files": rows(self.files), "paths": PATHS}
        members = {path.name: path.read_bytes() for path in sorted(programs().iterdir()) if path.is_file()}
        members["set.json"] = json.dumps(description, indent=1).encode()
        if stanza:
            members["source.json"] = stanza.content
        members |= {f"files{file.path}": file.content for file in self.files}
        with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
