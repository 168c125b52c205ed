"""List AWS resources with filters, from all pages of AWS's answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bake.aws.session import Cloud

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef, LaunchConfigurationTypeDef
    from mypy_boto3_ec2.type_defs import (
        FilterTypeDef,
        ImageTypeDef,
        InstanceTypeDef,
        LaunchTemplateTypeDef,
        LaunchTemplateVersionTypeDef,
        NetworkInterfaceTypeDef,
        SecurityGroupTypeDef,
        SnapshotTypeDef,
        SubnetTypeDef,
        VolumeTypeDef,
    )


def instances(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[InstanceTypeDef]:
    """Yield instances."""
    for page in cloud("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for reservation in page["Reservations"]:
            yield from reservation["Instances"]


def images(cloud: Cloud, filters: Sequence[FilterTypeDef] = (), owner: str = "self") -> Iterator[ImageTypeDef]:
    """Yield the AMIs of an account, by default of this one."""
    for page in cloud("ec2").get_paginator("describe_images").paginate(Owners=[owner], Filters=filters):
        yield from page["Images"]


def snapshots(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[SnapshotTypeDef]:
    """Yield this account's snapshots. Other accounts share thousands."""
    for page in cloud("ec2").get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=filters):
        yield from page["Snapshots"]


def volumes(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[VolumeTypeDef]:
    """Yield volumes."""
    for page in cloud("ec2").get_paginator("describe_volumes").paginate(Filters=filters):
        yield from page["Volumes"]


def network_interfaces(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[NetworkInterfaceTypeDef]:
    """Yield network interfaces."""
    for page in cloud("ec2").get_paginator("describe_network_interfaces").paginate(Filters=filters):
        yield from page["NetworkInterfaces"]


def security_groups(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[SecurityGroupTypeDef]:
    """Yield security groups."""
    for page in cloud("ec2").get_paginator("describe_security_groups").paginate(Filters=filters):
        yield from page["SecurityGroups"]


def subnets(cloud: Cloud, filters: Sequence[FilterTypeDef]) -> Iterator[SubnetTypeDef]:
    """Yield subnets."""
    for page in cloud("ec2").get_paginator("describe_subnets").paginate(Filters=filters):
        yield from page["Subnets"]


def launch_templates(cloud: Cloud) -> Iterator[LaunchTemplateTypeDef]:
    """Yield launch templates."""
    for page in cloud("ec2").get_paginator("describe_launch_templates").paginate():
        yield from page["LaunchTemplates"]


def template_versions(cloud: Cloud, template_id: str) -> Iterator[LaunchTemplateVersionTypeDef]:
    """Yield the versions of a launch template."""
    paginator = cloud("ec2").get_paginator("describe_launch_template_versions")
    for page in paginator.paginate(LaunchTemplateId=template_id):
        yield from page["LaunchTemplateVersions"]


def launch_configurations(cloud: Cloud) -> Iterator[LaunchConfigurationTypeDef]:
    """Yield launch configurations."""
    for page in cloud("autoscaling").get_paginator("describe_launch_configurations").paginate():
        yield from page["LaunchConfigurations"]


def scaling_groups(cloud: Cloud) -> Iterator[AutoScalingGroupTypeDef]:
    """Yield Auto Scaling groups."""
    for page in cloud("autoscaling").get_paginator("describe_auto_scaling_groups").paginate():
        yield from page["AutoScalingGroups"]
