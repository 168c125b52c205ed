"""The command that finds known vulnerabilities: `audit`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click

from bake.audit import inventory, tracker, wheels
from bake.audit.finding import Finding, ordered
from bake.audit.inventory import Inventory
from bake.cli import tables
from bake.errors import AppFolderError, VulnerableError
from bake.host import cache
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.vm import ssh

errors = Terminal()
#: The next step, by what was audited.
HINTS = {
    "folder": "Raise the versions in the app's requirements, then `bake push` or `bake image --refresh`.",
    "image": "`bake image --refresh` bakes an image with today's packages.",
    "machine": "For wheels: `bake push`. For Debian packages, on the machine: `sudo apt-get update && sudo apt-get "
    "upgrade`.",
}


@click.command("audit")
@click.argument("subject", metavar="[APP|IMAGE|HOST]", default=".")
@click.option(
    "-i", "--identity", type=click.Path(path_type=Path, exists=True), help="Private key to log in to HOST with."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--wheel-advisories", metavar="URL", help="Another server with OSV's API (default: that of uv).")
@click.option(
    "--debian-advisories", metavar="URL", default=tracker.ADDRESS, show_default=True,
    help="Another copy of the data of Debian's security tracker.",
)  # fmt: skip
def audit_command(
    subject: str, identity: Path | None, as_json: bool, wheel_advisories: str | None, debian_advisories: str
) -> None:
    """Print the known vulnerabilities of the packages of an app, an image or a machine.

    For APP (a folder), bake audits the wheels that it would install. For IMAGE and HOST, it audits the installed wheels
    and Debian packages. HOST is ssh://user@host[:port] or user@host.

    The command fails if a newer version of a package fixes a vulnerability. It fails with another code if the
    advisories cannot be fetched.
    """
    report = Reporter(errors)
    kind, installed = _inventory(subject, identity, report)
    with cache.work_folder() as work:
        with report.phase("wheels"):
            findings = wheels.find(installed.wheels, wheel_advisories, work)
        if installed.sources is not None:
            with report.phase("Debian") as phase:
                findings += tracker.find(installed.sources, installed.suite, debian_advisories, work, phase.progress)
    findings = ordered(findings)
    fixable = [finding for finding in findings if finding.fixed]
    click.echo(_json(installed, findings) if as_json else _table(findings), nl=False)
    sources = "" if installed.sources is None else f" and {len(installed.sources)} Debian source packages"
    errors.print(
        f"audited {len(installed.wheels)} wheels{sources}: {len(fixable)} vulnerabilities with a fixed version, "
        f"{len(findings) - len(fixable)} without",
        soft_wrap=True,
    )
    if fixable:
        names = ", ".join(dict.fromkeys(finding.package for finding in fixable))
        raise VulnerableError(f"{installed.name} has packages with vulnerabilities that newer versions fix: {names}",
                              HINTS[kind])  # fmt: skip


def _inventory(subject: str, identity: Path | None, report: Reporter) -> tuple[str, Inventory]:
    """Return the kind of the subject, and its packages."""
    path = Path(subject)
    if path.is_dir():
        return "folder", inventory.of_folder(path, report)
    if path.exists():
        return "image", inventory.of_image(path)
    if "@" not in subject and "://" not in subject:
        raise AppFolderError(
            f"{subject} does not exist", "Give an app's folder, an image, or a machine: ssh://user@host."
        )
    try:
        login = ssh.Login.at(subject, identity)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST") from None
    with login.connected() as connected:
        return "machine", inventory.of_machine(connected)


def _json(installed: Inventory, findings: Sequence[Finding]) -> str:
    """Return the result as JSON. `debian` is null if the Debian packages were not audited."""
    debian_count = None if installed.sources is None else len(installed.sources)
    values = {
        "subject": installed.name,
        "audited": {"wheels": len(installed.wheels), "debian": debian_count},
        "vulnerabilities": [dataclasses.asdict(finding) for finding in findings],
    }
    return json.dumps(values, indent=2) + "\n"


def _table(findings: Sequence[Finding]) -> str:
    rows = list(_rows(findings))
    return tables.lines(rows) if rows else ""


def _rows(findings: Sequence[Finding]) -> Iterator[dict[str, str]]:
    """Yield a row for each package and its fixed versions, with the names of the vulnerabilities."""
    for key, group in groupby(findings, lambda item: (item.kind, item.package, item.version, item.fixed)):
        kind, package, version, fixed = key
        names = ", ".join(finding.name for finding in group)
        row = {"kind": kind, "package": package, "version": version, "fixed": ", ".join(fixed)}
        yield row | {"vulnerabilities": names}


COMMANDS = (audit_command,)
