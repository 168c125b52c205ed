"""The EC2 commands: `launch`, `ls`, `down`."""

from __future__ import annotations

import ipaddress
import json
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bake.aws.images import publish
from bake.aws.instances import health, inventory, launch, plan, termination
from bake.aws.session import Cloud
from bake.bundle.app_source import AppSource
from bake.bundle.release_files import keys
from bake.cli import tables
from bake.cli.aws_images import KEY, TextPattern, cloud_options, errors, id_pattern
from bake.cli.options import DOMAINS, EMAIL, ENVIRONMENT, collect
from bake.config import contract
from bake.config.recipe import Recipe
from bake.document import launch_settings
from bake.errors import CloudError, SettingsError
from bake.host.progress import Reporter
from bake.image import host_requirements, pipeline
from bake.verify import checks
from bake.verify.checks import Host, Suites
from bake.vm import qemu

AMI = re.compile(r"ami-[0-9a-f]{8,17}")


class _Network(click.ParamType[str]):
    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ipaddress.ip_network(value))
        except ValueError as error:
            self.fail(f"{value!r} is not a network: {error}; write a single address as 192.0.2.7/32", param, ctx)


class _ConnectTo(click.ParamType[tuple[int, health.Endpoint]]):
    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, health.Endpoint]:
        override = health.parse_connect_to(value) if isinstance(value, str) else value
        if override is None:
            self.fail(f"{value!r} is neither HOST:PORT nor, for a single port, :PORT:HOST:PORT", param, ctx)
        return override


@dataclass(frozen=True)
class ImageChoice:
    """The image to launch. `app` is an AMI's id, or an app's folder or name; `published`: its newest AMI, no bake."""

    app: str
    published: bool

    @property
    def folder(self) -> Path | None:
        """Return the app's folder, or None for an AMI's id and for an app's name."""
        return Path(self.app) if not AMI.fullmatch(self.app) and Path(self.app).is_dir() else None

    def ami_id(self, source: AppSource | None, cloud: Cloud, report: Reporter) -> str:
        """Return the AMI's id. Bake and publish the app's folder if it has no AMI. `source` is the folder's app."""
        if AMI.fullmatch(self.app):
            return self.app
        if self.published:
            return _newest_ami((source and source.recipe.name) or self.app, cloud)
        return _publish(self.app, source, cloud, report)


@dataclass(frozen=True)
class LoginCheck:
    """Whether to run the checks on the new instance, and the private key to log in with."""

    check: bool
    identity: Path | None

    def verify(self, options: plan.LaunchOptions) -> None:
        """Raise a usage error if the checks cannot log in."""
        if self.check and not (self.identity and options.key_pair and options.ssh_from):
            raise click.UsageError(
                "--check logs in by SSH, so it needs -i, --key-pair, and --ssh-from with your network."
            )


@click.command("launch")
@click.argument("app", default=".")
@click.option(
    "--published", is_flag=True, help="Launch the app's newest AMI without baking; APP is the app's name or folder."
)
@click.option("--type", default="t3.small", show_default=True, help="Instance type.")
@click.option(
    "--subnet",
    type=id_pattern("subnet", "a subnet's id"),
    metavar="SUBNET",
    help="Subnet (default: a default subnet).",
)
@click.option("--key-pair", metavar="NAME", help="EC2 key pair for SSH.")
@click.option("--instance-profile", metavar="NAME|ARN", help="Instance profile; its role fetches the secrets.")
@DOMAINS
@EMAIL
@ENVIRONMENT
@click.option(
    "--secret", "references", multiple=True, metavar="NAME=REF",
    help="Source of a secret: ssm:/path, secretsmanager:name or an ARN, with #key for JSON; repeatable.",
)  # fmt: skip
@click.option(
    "--ssh-from", type=_Network(), multiple=True, help="Open SSH to this network; repeatable (default: closed)."
)
@click.option(
    "--data", type=click.IntRange(1, 16384), metavar="GIB", help=f"Create a volume of this size for {contract.DATA}."
)
@click.option(
    "--volume", type=id_pattern("vol", "a volume's id"), metavar="VOLUME", help=f"Use this volume for {contract.DATA}."
)
@click.option(
    "--address",
    type=id_pattern("eipalloc", "an Elastic IP's allocation"),
    metavar="ALLOCATION",
    help="Elastic IP to move to the instance once it is healthy.",
)
@click.option(
    "--retire", is_flag=False, flag_value="address", metavar="[INSTANCE]",
    type=TextPattern("an instance's id", re.compile(r"i-[0-9a-f]{8,17}|address")),
    help="Terminate the previous instance once the new one is healthy: this one, or the one with the address.",
)  # fmt: skip
@click.option("--forget-data", is_flag=True, help="Retire it even if its data is not on a volume.")
@click.option("--forget-certificate", is_flag=True, help="Retire it even if its certificate is not kept elsewhere.")
@click.option("--kms-key", type=KEY, metavar="ARN", help="KMS key that encrypts the disks.")
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="Seconds to wait until the app is healthy.",
)
@click.option(
    "--connect-to", type=_ConnectTo(), multiple=True,
    help="Connect to this address instead of the instance's; :PORT:HOST:PORT for one port. Repeatable.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Run the read-only checks before the instance counts as healthy.")
@click.option("-i", "--identity", type=click.Path(path_type=Path, exists=True), help="Private key for --check.")
@cloud_options("launch")
@collect("image", ImageChoice)
@collect("arguments", launch_settings.Arguments)
@collect("login_check", LoginCheck)
@collect("options", plan.LaunchOptions)
def launch_command(
    image: ImageChoice,
    arguments: launch_settings.Arguments,
    login_check: LoginCheck,
    cloud: Cloud,
    options: plan.LaunchOptions,
) -> None:
    """Launch an EC2 instance of APP and print its id. APP is an AMI's id, or a folder, which bake bakes and publishes.

    bake waits until the instance is healthy. With --address, it then moves the Elastic IP to it; with --retire, it
    terminates the previous instance. If the instance does not become healthy, bake rolls back: it terminates the new
    instance, and the previous one keeps serving.
    """
    report, source = Reporter(errors), None
    if options.data and options.volume:
        raise click.UsageError("--data creates a volume and --volume names an existing one; pass only one of them.")
    login_check.verify(options)
    if folder := image.folder:
        cloud.require()
        source = (AppSource.read_unresolved if image.published else AppSource.read)(folder, report)
    recipe = source.recipe if source else None
    settings = launch_settings.read(arguments, recipe)
    options = replace(options, settings=settings, secrets=_secrets(arguments.references, settings, recipe))
    ami_id = image.ami_id(source, cloud, report)
    endpoints, identity = health.Endpoints("", options.connect_to), login_check.identity
    examine = (lambda address: _check(endpoints, address, identity, report)) if login_check.check and identity else None
    result = launch.launch(ami_id, options, examine, cloud, report)
    table = Table.grid(padding=(0, 2))
    table.add_row("instance", result.id)
    table.add_row("AMI", result.ami)
    table.add_row("address", result.address)
    table.add_row(
        "URL", result.answer.url + {True: "", False: " (certificate not trusted)", None: ""}[result.answer.is_trusted]
    )
    if options.ssh_from:
        table.add_row("log in", f"ssh {qemu.USER}@{result.address}")
    errors.print(table, soft_wrap=True)
    click.echo(result.id)


def _secrets(references: tuple[str, ...], settings: launch_settings.Settings, recipe: Recipe | None) -> dict[str, str]:
    """Return the references by name. Raises SettingsError for an unlisted secret, and for a listed one without any."""
    pairs = dict(reference.partition("=")[::2] for reference in references)
    faults = [
        f"secret: {reference!r} is not NAME=REF" for reference in references if not re.match(r"[^=]+=.", reference)
    ]
    faults += [f"{name}: both --env and --secret set it" for name in settings.env if name in pairs]
    if recipe:
        names = {*recipe.secrets, *keys(recipe)}
        faults += [f"secret: {name} is not listed in bake.yaml" for name in pairs if name not in names]
        faults += [
            f"secret: {name} has no --secret, and the app needs it" for name in recipe.secrets if name not in pairs
        ]
    if faults:
        raise SettingsError.of_faults("The command line", faults)
    return pairs


def _newest_ami(app: str, cloud: Cloud) -> str:
    """Return the id of an app's newest AMI. Raises CloudError if there is none."""
    amis = inventory.amis(cloud, app)
    if not amis:
        raise CloudError(
            f"{app} has no AMI in {cloud.region}", "`bake ls --amis` lists the AMIs there. `bake ami` creates one."
        )
    return str(amis[-1]["id"])


def _publish(app: str, source: AppSource | None, cloud: Cloud, report: Reporter) -> str:
    """Return the id of the AMI of an app's folder. Bake and publish it if there is none."""
    if source is None:
        raise click.BadParameter(f"{app!r} is neither the id of an AMI nor a folder", param_hint="APP")
    host_requirements.verify()
    path = pipeline.bake(source, pipeline.Options(), report).path
    return publish.publish(path, publish.PublishOptions(), cloud.for_command("ami"), report).id


def _check(endpoints: health.Endpoints, address: str, identity: Path, report: Reporter) -> None:
    """Run the checks on a machine by SSH. Raises CheckError."""
    host, port = health.Endpoints(address, endpoints.connect_to).endpoint(22)
    with tempfile.TemporaryDirectory() as folder, report.phase("check") as phase:
        work = Path(folder)
        # The instance has just been created, so its host key is not known yet.
        access = qemu.Access(port, identity.absolute(), work / "known_hosts", host)
        outcome = checks.run_suites(Suites(["machine"]), Host.of(access, work), work, phase.progress)
    checks.require(outcome)
    report.note(f"{outcome.passed} checks passed; app: {outcome.app}")


@click.command("ls")
@click.option("--amis", is_flag=True, help="List the AMIs as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cloud_options("ls")
def list_command(amis: bool, as_json: bool, cloud: Cloud) -> None:
    """List the instances that bake launched."""
    rows = inventory.instance_rows(cloud)
    images = inventory.amis(cloud) if amis else []
    if as_json:
        click.echo(json.dumps({"machines": rows} | ({"amis": images} if amis else {}), indent=2))
        return
    if not rows:
        errors.print(f"bake launched no instances in {cloud.region}")
    for row in rows:
        row["state"] += " (temporary)" if row.pop("temporary") else ""
    for table in filter(None, (rows, images)):
        click.echo(tables.lines(table), nl=False)


@click.command("down")
@click.argument("name", metavar="INSTANCE|APP-NAME")
@click.option("--all", "allow_several", is_flag=True, help="Terminate all instances of the app.")
@click.option("--with-data", is_flag=True, help="Delete the volume with the app's data as well.")
@cloud_options("down")
def down_command(name: str, allow_several: bool, with_data: bool, cloud: Cloud) -> None:
    """Terminate an instance that bake launched.

    Takes its id or its app's name, and prints the id. Keeps its data volume.
    """
    result = termination.down(
        name, allow_several=allow_several, with_data=with_data, cloud=cloud, report=Reporter(errors)
    )
    for volume_id in result.volume_ids:
        errors.print(
            f"kept the data volume {volume_id}; to delete it: {termination.delete_command(cloud, volume_id)}",
            soft_wrap=True,
        )
    click.echo("\n".join(result.instance_ids))


COMMANDS = (launch_command, list_command, down_command)
