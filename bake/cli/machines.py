"""The commands for a running machine: `push`, `upgrade`, `check`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bake.bundle.app_source import AppSource
from bake.cli import options
from bake.deploy import push, upgrade
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.verify import checks
from bake.verify.checks import Host, Suites
from bake.vm import ssh

errors = Terminal()
IDENTITY = click.option(
    "-i", "--identity", type=click.Path(path_type=Path, exists=True), help="Private key to log in with."
)


def _login(host: str, identity: Path | None) -> ssh.Login:
    try:
        return ssh.Login.at(host, identity)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="HOST") from None


def _source(app: Path, report: Reporter) -> push.Source:
    return push.Source(app, lambda base: AppSource.read_unresolved(app, report, base))


@click.command("push")
@click.argument("host")
@options.APP
@IDENTITY
@click.option("--back", is_flag=True, help="Roll back to the previous release; APP is ignored.")
def push_command(host: str, app: Path, identity: Path | None, back: bool) -> None:
    """Push APP (a folder) as a new release to a running machine.

    HOST is ssh://user@host[:port] or user@host. The user is root, or has sudo without a password.

    No request fails during the switch. If the health check fails, bake rolls back to the previous release.
    Prints the digest of the release that serves, then requests its pages as a visitor would.
    """
    report = Reporter(errors)
    with _login(host, identity).connected() as login:
        if back:
            click.echo(push.roll_back(login, report))
        else:
            digest = push.push(login, _source(app, report), report)
            click.echo(digest)
            push.visit(login, report, digest)


@click.command("upgrade")
@click.argument("host")
@click.argument("app", type=click.Path(path_type=Path), required=False)
@IDENTITY
def upgrade_command(host: str, app: Path | None, identity: Path | None) -> None:
    """Renew the machine's own files on a running machine, and push APP (a folder) with them.

    HOST is ssh://user@host[:port] or user@host. The user is root, or has sudo without a password.

    The machine's own files are its programs, its units, and its settings of nginx and uWSGI. APP is needed only if the
    machine's layout differs from this bake's.

    If the machine is unhealthy with the new files, it goes back to the earlier ones. Prints the version of the files.
    """
    report = Reporter(errors)
    with _login(host, identity).connected() as login:
        upgraded = upgrade.upgrade(login, _source(app, report) if app else None, report)
        click.echo(upgraded.version)
        if upgraded.release:
            push.visit(login, report, upgraded.release)


@click.command("check")
@click.argument("host")
@IDENTITY
def check_command(host: str, identity: Path | None) -> None:
    """Check a running machine without changing it.

    HOST is ssh://user@host[:port] or user@host. The user is root, or has sudo without a password.

    Prints which version of bake's files the machine has, which one this bake has, and how many checks passed.
    """
    login = _login(host, identity)
    report = Reporter(errors)
    with login.connected() as connected:
        report.note(upgrade.versions(connected))
    with tempfile.TemporaryDirectory() as work, report.phase("check") as phase:
        outcome = checks.run_suites(Suites(["machine"]), Host(login.spec()), Path(work), phase.progress)
    checks.require(outcome)
    report.note(f"app: {outcome.app}")
    click.echo(f"{outcome.passed} passed, {outcome.skipped} skipped")


COMMANDS = (push_command, upgrade_command, check_command)
