"""A small simulator of IAM's evaluation, for the policies here. AWS's own simulator needs an account.

It knows the parts of the language that `bake.aws.policy` uses, and refuses others: Allow, `*` and `${*}` in resources,
StringEquals, Null and Bool. A request needs permission for each of its resources (IAM user guide, "Policy evaluation
logic"). The facts about requests, such as the resources of a call, are from the Service Authorization Reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TAG = "bake:run"


@dataclass(frozen=True)
class Resource:
    """A resource: its ARN, whether it has bake's tag, and the condition keys of the request for it."""

    arn: str
    is_ours: bool = False
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, str]:
        """Return the condition keys with their values."""
        return {**self.context, **({f"aws:ResourceTag/{TAG}": "x"} if self.is_ours else {})}


@dataclass(frozen=True)
class Request:
    """A call that needs permission: its action, and all its resources."""

    action: str
    resources: tuple[Resource, ...]


def allows(policy: Mapping[str, Any], request: Request) -> bool:
    """Return whether a policy allows a request."""
    return all(
        any(_applies(statement, request.action, resource) for statement in policy["Statement"])
        for resource in request.resources
    )


def _applies(statement: Mapping[str, Any], action: str, resource: Resource) -> bool:
    assert statement["Effect"] == "Allow" and set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
    return (
        any(_matches(pattern, action) for pattern in statement["Action"])
        and any(_matches(pattern, resource.arn) for pattern in statement["Resource"])
        and all(
            _holds(operator, key, values, resource.keys)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, values in conditions.items()
        )
    )


def _matches(pattern: str, text: str) -> bool:
    parts = (re.escape(part).replace(r"\*", ".*") for part in pattern.split("${*}"))
    return re.fullmatch(r"\*".join(parts), text) is not None


def _holds(operator: str, key: str, values: str | list[str], context: Mapping[str, str]) -> bool:
    match operator:
        case "Null":
            return (key not in context) == (values == "true")
        case "StringEquals" | "Bool":
            return key in context and context[key] in ([values] if isinstance(values, str) else values)
    raise AssertionError(f"the simulator does not know {operator}")
