"""Recognize messages about a server that cannot be reached, as patterns."""

from __future__ import annotations

#: Messages of programs that cannot reach a server, or cannot resolve its name.
UNREACHABLE = (
    r"Connection refused|Name or service not known|Temporary failure in name resolution|Network is unreachable"
    r"|No route to host|No address associated with hostname|getaddrinfo failed|Can't connect to (?:local )?(?:MySQL )?"
    r"server|Unknown (?:MySQL )?server host|Could not resolve host"
)
#: Messages of database clients on a machine that a bake or a check has cut off from the network. `IPAddressDeny=` makes
#: the kernel refuse a connection with "Operation not permitted". cloud-init/features/steps/steps.py has a copy, because
#: the machine has no bake; tests/unit/diagnosis/test_unreachable.py compares the two.
CUT_OFF = (
    "could not (connect|translate host)|Connection refused|Can't connect|[Nn]ame or service not known|name resolution"
    "|Network is unreachable|No servers found|Operation not permitted"
)
