"""Set up the package index for uv and pip, and recognize its errors."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request

from bake.config.debian import Target
from bake.errors import NetworkError, ProgramError, WheelError

NO_NETWORK = re.compile(
    r"Failed to fetch|error sending request|Could not fetch URL|NewConnectionError|ConnectTimeout|Read ?[tT]imed? ?out"
    r"|valid authentication credentials|Connection refused|Connection broken|Temporary failure in name resolution"
)
#: A traceback from the build of a package, except the exception itself.
TRACEBACK = re.compile(
    r"^[ \t]*Traceback \(most recent call last\):\n(?:.*\n)*?(?=[ \t]*[\w.]+(?:Error|Exception|Exit)\b)", re.M
)
#: pip's settings. The constraints of this computer could contradict the lock.
PIP = {"PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def index_env(index: str | None) -> dict[str, str]:
    """Return the environment that sets the index in bake.yaml for uv and pip.

    The URL contains BAKE_INDEX_USERNAME and BAKE_INDEX_PASSWORD if its host is BAKE_INDEX_HOST: the recipe may be that
    of a stranger. Other users of this computer can read a command line, but not the environment. bake does not store
    it. Raises NetworkError if there is a user without a host.
    """
    if not index:
        return {}
    names = ("USERNAME", "PASSWORD", "HOST")
    user, password, host = (os.environ.get(f"BAKE_INDEX_{name}", "") for name in names)
    parts = urlsplit(index)
    if user and not host:
        raise NetworkError(
            f"BAKE_INDEX_USERNAME is set, but not the host that may get it: `index` in bake.yaml is {index}",
            f"If it is yours, set BAKE_INDEX_HOST={parts.netloc}. Otherwise unset BAKE_INDEX_USERNAME.",
        )
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user and parts.netloc == host else ""
    address = parts._replace(netloc=f"{login}{parts.netloc}").geturl() if login else index
    return {"UV_DEFAULT_INDEX": address, "PIP_INDEX_URL": address}


def index_request(url: str, index: str | None) -> Request:
    """Return the request for a file of the index, with the credentials of `index_env` if it is on the index's host."""
    parts, index_parts = urlsplit(url), urlsplit(index_env(index).get("UV_DEFAULT_INDEX", ""))
    host, index_host = (address.netloc.rpartition("@")[2] for address in (parts, index_parts))
    request = Request(parts._replace(netloc=host).geturl())
    if index_parts.username and (parts.scheme, host) == (index_parts.scheme, index_host):
        credentials = f"{unquote(index_parts.username)}:{unquote(index_parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {b64encode(credentials.encode()).decode()}")
    return request


def fetch_error(error: ProgramError, target: Target) -> NetworkError | WheelError:
    """Return the error that explains why pip could not fetch a wheel or a source."""
    if match := re.search(r"No matching distribution found for ([^\s(]+)", error.details):
        message, *reasons = target.sentences(f"{match[1]} has no wheel")
        if not NO_NETWORK.search(error.details):
            return WheelError(message, "Allow another version of it.", error.details).with_reasons(*reasons)
    if "DO NOT MATCH THE HASHES" in error.details:
        return WheelError("The hash of a wheel differs from the lock", "Run `bake image --refresh`.", error.details)
    return NetworkError("The wheels could not be fetched", "Check the network and `index` in bake.yaml.", error.details)
