"""The command line: find the command, run it, report errors.

Only this package prints results, and only this module catches BakeError. Results go to standard output; progress, notes
and errors go to standard error.
"""

from __future__ import annotations

import errno
import importlib
import locale
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, NamedTuple, NoReturn

import click

from bake import __version__
from bake.errors import BakeError, Cancelled, SpaceError
from bake.host import programs
from bake.host.terminal import Terminal

errors = Terminal()


class CommandPlace(NamedTuple):
    """The module that has a command, and the line about it in `bake --help`."""

    module: str
    summary: str


#: All commands, so that bake imports only the module of the one that it runs. A test compares the lines.
COMMANDS = {
    "ami": CommandPlace("bake.cli.aws_images", "Publish APP as an AMI and print its id."),
    "audit": CommandPlace(
        "bake.cli.audit", "Print the known vulnerabilities of the packages of an app, an image or a machine."
    ),
    "aws-policy": CommandPlace("bake.cli.aws_images", "Print the smallest IAM policy that a command needs."),
    "check": CommandPlace("bake.cli.machines", "Check a running machine without changing it."),
    "doctor": CommandPlace("bake.cli.images", "List the programs and files that a bake needs, and which are missing."),
    "down": CommandPlace("bake.cli.aws_instances", "Terminate an instance that bake launched."),
    "image": CommandPlace("bake.cli.images", "Bake APP (a folder) into an image that is booted and checked."),
    "init": CommandPlace("bake.cli.recipes", "Write a commented bake.yaml for APP (a folder)."),
    "launch": CommandPlace("bake.cli.aws_instances", "Launch an EC2 instance of APP and print its id."),
    "ls": CommandPlace("bake.cli.aws_instances", "List the instances that bake launched."),
    "prune": CommandPlace("bake.cli.aws_images", "Deregister old AMIs, and delete their snapshots."),
    "push": CommandPlace("bake.cli.machines", "Push APP (a folder) as a new release to a running machine."),
    "render": CommandPlace("bake.cli.documents", "Print user-data for a stock Debian machine that serves APP."),
    "run": CommandPlace("bake.cli.images", "Boot APP in a local VM and print its URL."),
    "schema": CommandPlace("bake.cli.recipes", "Print the JSON Schema of bake.yaml, for editors."),
    "sweep": CommandPlace("bake.cli.aws_images", "Remove AWS resources that interrupted runs left behind."),
    "upgrade": CommandPlace(
        "bake.cli.machines", "Renew the machine's own files on a running machine, and push APP (a folder) with them."
    ),
}


class _Group(click.Group):
    """A group that imports a command only when it is needed: all modules take seconds.

    It adds the command to the error for an option without a value, because click omits it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is none of that name."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            for command in importlib.import_module(COMMANDS[cmd_name].module).COMMANDS:
                self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke a command."""
        try:
            return super().invoke(ctx)
        except click.BadOptionUsage as error:
            name = ctx.invoked_subcommand or ""
            error.ctx = error.ctx or click.Context(self.commands[name], info_name=name, parent=ctx)
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bake")
def cli() -> None:
    """Turn the folder of a Python web app into a running, secured machine."""


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


class _Notes:
    """Standard error. If its reader is gone, bake goes on: a rollback must not end because of a note."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, unless the reader is gone."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, unless the reader is gone."""
        with suppress(OSError):
            self._stream.flush()


def _prepare() -> None:
    """Prepare the process: UTF-8, signals that end it cleanly, and files that other users cannot change."""
    if not sys.flags.utf8_mode and locale.getencoding().lower() not in ("utf-8", "utf8"):
        # bake's files and documents are UTF-8 wherever it runs.
        programs.start_again("-X", "utf8")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # nohup ignores it.
        signal.signal(signal.SIGHUP, _interrupt)
    os.umask(os.umask(0o022) | 0o022)
    if sys.stderr is not None:
        sys.stderr = _Notes(sys.stderr)


def _next_step(error: click.ClickException) -> str:
    """Return the next step after a wrong command line, or "" if click's own message has it."""
    from bake.config.recipe import Recipe

    match error:
        case click.NoSuchOption(option_name=option) if (key := option.lstrip("-")) in Recipe.model_fields:
            return f"{key} is a key of bake.yaml: write `{key}: …` there."
        case click.BadOptionUsage(option_name=option, ctx=click.Context() as ctx):
            params = (param for param in ctx.command.params if option in param.opts and param.nargs == 1)
            if (param := next(params, None)) and not getattr(param, "is_flag", False):
                return f"Write {option} {param.make_metavar(ctx)}"
    return ""


def _show(error: BakeError) -> None:
    if error.details:
        errors.print(error.details, soft_wrap=True, style="dim")
    errors.print("error: ", style="bold red", end="")
    errors.print(error.message, soft_wrap=True)
    if error.hint:
        errors.print(error.hint, soft_wrap=True)


def main() -> None:
    """Run the command line. Exit with the error's code, as docs/reference/exit-codes.md lists them."""
    _prepare()
    run: Callable[..., Any] = cli.main
    try:
        run(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        if hint := _next_step(error):
            errors.print(hint, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        errors.print("cancelled: bake stopped all programs that it started")
        sys.exit(Cancelled.code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _show(
            SpaceError(
                f"bake cannot write {error.filename or 'its result, the cache or TMPDIR'}: the disk is full",
                "Free some space, and run the command again. BAKE_CACHE and TMPDIR may name folders on another disk.",
            )
        )
        sys.exit(SpaceError.code)
    except BakeError as error:
        _show(error)
        sys.exit(error.code)
