"""The AWS commands: `ami`, `aws-policy`, `sweep`, `prune`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bake.aws import cleanup, policy
from bake.aws.images import packer_builder, publish
from bake.aws.session import Cloud, aws_errors, partition_of
from bake.bundle.app_source import AppSource
from bake.cli import options
from bake.host.progress import Reporter
from bake.host.terminal import Terminal
from bake.image import host_requirements, pipeline

errors = Terminal()
#: For tables. In a narrow window, rich would truncate ids.
tables = Terminal(width=max(errors.width, 120))


#: A network in CIDR notation that a security group admits.
NETWORK = re.compile(r"\d{1,3}(\.\d{1,3}){3}/\d{1,2}")
#: The ARN of a role, and the name of a parameter or of all below one.
ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.A)
PARAMETERS = re.compile(rf"{publish.PARAMETER.pattern}(/\*)?")


class TextPattern(click.ParamType[str]):
    """A parameter type for text that matches a pattern. Errors contain `description`."""

    def __init__(self, description: str, pattern: Any) -> None:
        self.name, self.pattern = description, pattern

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text unchanged."""
        if not self.pattern.fullmatch(value):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return str(value)


def id_pattern(kind: str, description: str) -> TextPattern:
    """Return the type of ids of one kind of resource in EC2."""
    return TextPattern(description, re.compile(rf"{kind}-[0-9a-f]{{8,17}}"))


KEY = TextPattern("the ARN of a KMS key (an alias is not supported)", policy.KEY)
PROFILE = click.option("--profile", metavar="NAME", help="AWS profile (default: the one boto3 finds).")
REGION = click.option("--region", metavar="NAME", help="AWS region (default: AWS_REGION or the profile's).")


def cloud_options(command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds --region and --profile to a command, which gets the account there as `cloud`."""

    def cloud(profile: str | None, region: str | None) -> Cloud:
        return Cloud(profile, region, command)

    return lambda function: REGION(PROFILE(options.collect("cloud", cloud)(function)))


@click.command("ami")
@options.APP
@click.option("--name", metavar="NAME", help="AMI name (default: the app's name and the image digest).")
@click.option("--copy-to", "regions", multiple=True, metavar="REGION", help="Copy the AMI to this region; repeatable.")
@click.option(
    "--share",
    "accounts",
    multiple=True,
    type=TextPattern("an account's number", publish.ACCOUNT),
    metavar="ACCOUNT",
    help="Share the AMI with this AWS account; repeatable.",
)
@click.option(
    "--deprecate", type=click.IntRange(1, 3650), metavar="DAYS", help="Deprecate the AMI after this many days."
)
@click.option(
    "--parameter", type=TextPattern("a parameter's name: /apps/shop", publish.PARAMETER), metavar="/NAME",
    help="SSM parameter to point to the new AMI; launch templates read it as resolve:ssm:/NAME.",
)  # fmt: skip
@click.option("--kms-key", type=KEY, metavar="ARN", help="KMS key that encrypts the AMI's snapshot.")
@click.option(
    "--builder", type=click.Choice(["ebs-direct", "packer"]), default="ebs-direct", show_default=True,
    help="packer: bake on an EC2 instance of Debian's AMI; only the app's health is checked.",
)  # fmt: skip
@click.option(
    "--ssh-from", type=TextPattern("a network: 198.51.100.7/32", NETWORK), default=packer_builder.ANYWHERE,
    metavar="CIDR", show_default=True, help="For packer: networks that may reach SSH of its instance.",
)  # fmt: skip
@cloud_options("ami")
@options.collect("publish_options", publish.PublishOptions)
def ami_command(app: Path, builder: str, ssh_from: str, cloud: Cloud, publish_options: publish.PublishOptions) -> None:
    """Publish APP as an AMI and print its id. APP is an image, or a folder, which is baked first.

    Uploads the checked image itself, without an instance. If the image was published before, prints the id of that AMI.
    """
    report = Reporter(errors)
    if builder == "packer":
        cloud = cloud.for_command("ami-packer")
        if not app.is_dir():
            raise click.UsageError("--builder packer bakes at AWS, so APP must be the app's folder.")
        if publish_options.kms_key:
            raise click.UsageError(
                "--builder packer does not support --kms-key; it uses the account's default encryption."
            )
        cloud.require()
        source = AppSource.read(app, report)
        ami = packer_builder.bake(source, publish_options, ssh_from, cloud, report)
    else:
        if publish_options.kms_key and publish_options.regions:
            raise click.UsageError(
                "--kms-key excludes --copy-to, because a KMS key belongs to one region. Run `bake ami` once for each "
                "region, with --region and a key of that region."
            )
        if app.is_dir():
            cloud.require()
            host_requirements.verify()
            app = pipeline.bake(AppSource.read(app, report), pipeline.Options(), report).path
        ami = publish.publish(app, publish_options, cloud, report)
    table = Table.grid(padding=(0, 2))
    for region_name, ami_id in ami.regions.items():
        table.add_row(region_name, ami_id)
    if builder == "packer":
        table.add_row("baked", "at AWS, now or before; only the app's health was checked")
    elif ami.total_blocks:
        table.add_row("uploaded", f"{ami.sent_blocks} of {ami.total_blocks} non-empty blocks of 512 KiB")
    else:
        table.add_row("uploaded", "nothing: this image was published before")
    tables.print(table)
    click.echo(ami.id)


@click.command("aws-policy")
@click.argument("command", type=click.Choice(sorted(policy.STATEMENTS)))
@click.option("--kms-key", "key", type=KEY, metavar="ARN", help="Add permission to use this KMS key.")
@click.option(
    "--role", "roles", multiple=True, type=TextPattern("a role's ARN", ROLE), metavar="ARN",
    help="Allow `launch --instance-profile` with this role; repeatable.",
)  # fmt: skip
@click.option(
    "--parameter", "parameters", multiple=True, type=TextPattern("a parameter's name: /apps/shop", PARAMETERS),
    metavar="/NAME", help="Allow this SSM parameter, or all below /NAME/*; repeatable.",
)  # fmt: skip
@click.option(
    "--volume", "volumes", multiple=True, type=id_pattern("vol", "a volume's id"), metavar="ID",
    help="Allow to attach this volume, which bake did not create; repeatable.",
)  # fmt: skip
@click.option(
    "--address", "addresses", multiple=True, type=id_pattern("eipalloc", "an Elastic IP's allocation id"),
    metavar="ID", help="Allow to move this Elastic IP; repeatable.",
)  # fmt: skip
@click.option("--share", "shared", is_flag=True, help="Allow to share AMIs with other accounts.")
@click.option("--region", metavar="NAME", help="A region in China or GovCloud, whose ARNs differ.")
@options.collect("grants", policy.Grants)
def policy_command(command: str, grants: policy.Grants, region: str | None) -> None:
    """Print the smallest IAM policy that a command needs. Resources that bake did not create have to be named."""
    click.echo(json.dumps(policy.document(command, grants, partition_of(region)), indent=2))


@click.command("sweep")
@cloud_options("sweep")
def sweep_command(cloud: Cloud) -> None:
    """Remove AWS resources that interrupted runs left behind.

    bake finds them by the tags that it sets when it creates a resource, and touches no other resources. Prints the
    resources that it removed.
    """
    for line in cleanup.sweep(cloud, Reporter(errors)):
        click.echo(line)


@click.command("prune")
@click.option(
    "--keep", type=click.IntRange(min=1), required=True, metavar="N", help="Number of AMIs to keep for each app."
)
@click.option("--app", metavar="NAME", help="Only this app's AMIs.")
@click.option("--yes", is_flag=True, help="Deregister the AMIs. Without it, they are only listed.")
@cloud_options("prune")
def prune_command(keep: int, app: str | None, yes: bool, cloud: Cloud) -> None:
    """Deregister old AMIs, and delete their snapshots.

    Keeps the newest N of each app, and those that an instance, a launch template or an Auto Scaling group uses. Prints
    the ids of the others.
    """
    with aws_errors(cloud):
        images = cleanup.surplus_images(cloud, keep, app)
        unused_images = [image for image in images if not image.user]
        table = Table("AMI", "name", "made", "", box=None)
        for image in images:
            action = (
                f"kept: {image.user} uses it" if image.user else "deregistering" if yes else "would be deregistered"
            )
            table.add_row(image.id, image.name, image.creation_date, action)
        if images:
            tables.print(table)
        else:
            errors.print(f"no app has more than {keep} AMIs in {cloud.region}")
        if yes:
            with Reporter(errors).phase("prune") as phase:
                cleanup.prune(cloud, unused_images, phase)
        elif unused_images:
            errors.print("nothing has changed; add --yes to deregister them")
    for image in unused_images:
        click.echo(image.id)


COMMANDS = (ami_command, policy_command, sweep_command, prune_command)
