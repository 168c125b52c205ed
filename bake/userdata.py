"""The files of a machine to one `#cloud-config` document that fits its provider."""

from __future__ import annotations

import base64
import gzip
import json
import lzma
import math
import re
import shlex
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

import jinja2
import python_minifier
import yaml
from yaml.reader import Reader

from bake import places
from bake.errors import DocumentError
from bake.machine import File
from bake.providers import PROVIDERS
from bake.release import environment
from bake.target import Target

#: The last resort, where a provider takes bytes as base64: cloud-init unpacks them.
GZIPPED = "gzipped, as base64"
#: systemd-resolved answers at these sockets as well, which a firewall does not see.
NO_RESOLVER = """\
[Service]
InaccessiblePaths=-/run/systemd/resolve/io.systemd.Resolve -/run/dbus/system_bus_socket
"""
#: The units that run as the app's user.
OF_THE_APP = ("app", "app-next", "app-job@")
#: How small texts are packed best.
LZMA = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0, "nice_len": 64}


#: Bytes in a line of 4,000 digits. The machine counts one with itself, so a line is not all of the document.
LINE_BYTES = 3277


class Network(Enum):
    """How much of the network the app has on a machine that bake bakes, proves or runs: nft's rules for its user."""

    #: The machine alone. Names are refused as well: what systemd-resolved is asked would leave in resolved's name.
    CLOSED = """\
meta skuid 800 oifname != "lo" reject
meta skuid 800 ip daddr { 127.0.0.53, 127.0.0.54 } reject
"""
    #: All but the loopback address of the computer that QEMU runs on. Its network leads there from each of its own
    #: addresses, from a broadcast and from IPv6's multicast (libslirp's sotranslate_out), and from the address of its
    #: name server to the computer's own one, at any port.
    OPEN = """\
meta skuid 800 oifname != "lo" ip daddr { 10.0.2.0/24, 255.255.255.255 } reject
meta skuid 800 oifname != "lo" ip6 daddr { fec0::/64, fe80::/10, ff00::/8 } reject
"""
    #: All that the machine reaches: at AWS.
    UNBOUND = ""


@dataclass(frozen=True)
class Document:
    """A document's text, and its form: plain, packed, stripped and packed, or that gzipped, as base64."""

    text: str
    form: str

    @property
    def size(self) -> int:
        """Bytes that count: of the text, or of what its base64 stands for."""
        return len(base64.b64decode(self.text) if self.form == GZIPPED else self.text.encode())


def plain(files: list[File], target: Target, early: tuple[str, ...] = ()) -> Document:
    """A document to read; `early` are shell commands for each boot's beginning."""
    rows = [_row(file) for file in files]
    commands = [_quoted(line) for line in early]
    text = _template("user-data.yaml.j2").render(files=rows, release=target.name, early=commands)
    return Document(text, "plain")


def launch(files: list[File]) -> Document:
    """The settings of a launch alone, for a machine of an image."""
    return Document(_template("launch.yaml.j2").render(files=[_row(file) for file in files]), "plain")


def _row(file: File) -> dict[str, object]:
    """What a template says of a file: as a text, or in base64 where YAML has no way to write it."""
    text = file.text
    if text is None or Reader.NON_PRINTABLE.search(text) or "\r" in text:
        coded = {"encoding": "b64", "content": base64.b64encode(file.content).decode()}
    else:
        coded = {"encoding": "", "content": _scalar(text)}
    path = file.path if re.fullmatch(r"[\w./@-]+", file.path, re.ASCII) else _quoted(file.path)
    return {"path": path, "mode": file.mode, **coded}


def packed(files: list[File], target: Target, *, stripped: bool) -> Document:
    """A document that unpacks the same files, or with `stripped` the machine's without their comments."""
    kept = [strip(file) for file in files] if stripped else files
    text = "\n  ".join(_printable(_compressed(kept)))
    document = _template("packed.yaml.j2").render(packed=text, release=target.name, stripped=stripped)
    return Document(document, "stripped" if stripped else "packed")


def _printable(content: bytes) -> Iterator[str]:
    """Yield lines of printable ASCII without spaces, each the digits of a number in base 94: 22 % more than its bytes.

    A line of m digits stands for the int(m * log2(94) / 8) bytes that it takes at least m digits to write.
    """
    for start in range(0, len(content), LINE_BYTES):
        part = content[start : start + LINE_BYTES]
        number, digits = int.from_bytes(part, "big"), bytearray()
        for _ in range(math.ceil(len(part) * 8 / math.log2(94))):
            number, digit = divmod(number, 94)
            digits.append(digit + 33)
        yield bytes(reversed(digits)).decode()


def gzipped(files: list[File], target: Target) -> Document:
    """The smallest document, as base64 text. cloud-init knows gzip by its first bytes."""
    content = gzip.compress(packed(files, target, stripped=True).text.encode(), 9, mtime=0)
    return Document(base64.b64encode(content).decode() + "\n", GZIPPED)


def fit(files: list[File], target: Target, capacity: int, *, binary: bool = False) -> Document:
    """The most readable document of at most `capacity` bytes. Raises DocumentError where there is none.

    `binary`: the provider takes bytes, as base64.
    """
    # What is four times too much for anybody after a quick try is not worth the minutes of a thorough one.
    quick = sum(len(zlib.compress(file.content, 1)) for file in files)
    if quick > 4 * max(provider.capacity for provider in PROVIDERS.values()):
        sizes = sorted(((len(file.content), file.path.split("/", 5)[-1]) for file in files), reverse=True)[:3]
        raise DocumentError(
            f"The app's files are far too much for any provider: {quick:,} bytes, packed in a hurry",
            "Name what may stay out in .bakeignore, or push the app where anybody can fetch it, or bake an image.",
            "The biggest, as they are:\n" + "\n".join(f"{size:12,} bytes  {name}" for size, name in sizes),
        )
    forms: tuple[Callable[[], Document], ...] = (
        lambda: plain(files, target),
        lambda: packed(files, target, stripped=False),
        lambda: packed(files, target, stripped=True),
        lambda: gzipped(files, target),
    )
    for form in forms if binary else forms[:-1]:
        document = form()
        if document.size <= capacity:
            return document
    parts = sorted(_parts(files).items(), key=lambda part: part[1], reverse=True)[:3]
    raise DocumentError(
        f"The document has {document.size:,} bytes, {document.size - capacity:,} more than its provider takes",
        "Name what may stay out in .bakeignore, or push the app where anybody can fetch it (its address takes some 500 "
        f"bytes), or bake an image. {_takers(files, target)}",
        "Its biggest parts, packed:\n" + "\n".join(f"{size:7,} bytes  {name}" for name, size in parts),
    )


def _takers(files: list[File], target: Target) -> str:
    """Who takes a document of these files."""
    text, gzip_size = packed(files, target, stripped=True).size, gzipped(files, target).size
    names = [
        provider.name
        for provider in PROVIDERS.values()
        if provider.capacity >= (text if provider.text else min(text, gzip_size))
    ]
    return f"With --provider it fits: {', '.join(names)}." if names else "No provider takes as much."


def strip(file: File) -> File:
    """A file of the machine's, `bare`. People's own stay, and what is there for one boot."""
    return file if file.path.startswith(("/var/", "/run/", "/etc/app/")) else bare(file)


@cache
def bare(file: File) -> File:
    """A file without comments, docstrings, blank lines and deep indents."""
    text = file.text
    if text is None:
        return file
    first, _, rest = text.partition("\n")
    if _is_python(file):
        # Names that modules share stay as they are; strings inside of f-strings would depend on this Python (a test
        # sees to it).
        alone = not file.path.endswith(".py")
        body = python_minifier.minify(text, remove_literal_statements=True, hoist_literals=False, rename_globals=alone)
    elif first.startswith("#!"):
        body = f"{first}\n{_lines(rest)}"
    else:
        body = _lines(text)
    return replace(file, content=body.encode())


def _is_python(file: File) -> bool:
    first = file.content.partition(b"\n")[0]
    return file.path.endswith(".py") or (first.startswith(b"#!") and b"python" in first)


def _lines(text: str) -> str:
    kept = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in kept if line and not line.startswith(("#", ";", "//")))


def _compressed(files: list[File]) -> bytes:
    """`mode size path` and the content, one file after the other, as the document's own program reads them."""
    # What is alike stands side by side: it packs better.
    alike = sorted(files, key=lambda file: (_is_python(file), file.path.rpartition("/")[2], file.path))
    rows = (b"%o %d %s\n%s" % (file.mode, len(file.content), file.path.encode(), file.content) for file in alike)
    text = b"".join(rows)
    # The preset's dictionary has 64 MiB, whose memory takes longer than the packing, here and on the machine.
    size = max(4096, 1 << len(text).bit_length())
    return lzma.compress(text, format=lzma.FORMAT_ALONE, filters=[{**LZMA, "dict_size": size}])


def _parts(files: list[File]) -> dict[str, int]:
    """What the document is made of, and the bytes of each packed."""
    machine = [strip(file) for file in files if not file.path.startswith("/var/")]
    rest = [file for file in files if file.path.startswith("/var/")]
    groups = {"the machine": machine} | {file.path.split("/", 5)[-1]: [file] for file in rest}
    return {name: sum(map(len, _printable(_compressed(group)))) for name, group in groups.items()}


def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(places.tree() / "cloud-init")
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True).get_template(
        name
    )


def _scalar(text: str) -> str:
    """A text as a YAML scalar that is read back byte for byte: a block to read where one can hold it."""
    lines = text.splitlines()
    if text != "\n".join(lines) + "\n" or not lines or not lines[-1] or text.lstrip("\n").startswith((" ", "\t")):
        return _quoted(text)
    return "|\n" + "\n".join(f"    {line}" if line else "" for line in lines)


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', width=math.inf).rstrip("\n")


def meta_data(instance: str, hostname: str, public_keys: list[str]) -> str:
    """NoCloud's meta-data. The keys are the default user's."""
    keys = "".join(f"  - {key}\n" for key in public_keys)
    return f"instance-id: {json.dumps(instance)}\nlocal-hostname: {json.dumps(hostname)}\npublic-keys:\n{keys}"


@dataclass(frozen=True)
class CheckSettings:
    """What an app gets on a machine that bake bakes, proves or runs: environment, and how much of the network.

    All of it is files below /run, in memory: no image holds them. While /run/app-check is there no certificate is
    ordered: the machine is not launched yet.
    """

    env: dict[str, str]
    network: Network = Network.CLOSED
    #: Whether a machine that is being baked looks what the app writes.
    observe: bool = True

    @property
    def files(self) -> list[File]:
        """The files of a booted image, whose units systemd has read already."""
        return [
            File("/run/app-check/env", 0o600, environment(self.env).encode()),
            File("/run/app-check/network.nft", 0o600, self.network.value.encode()),
        ]

    @property
    def baking(self) -> list[File]:
        """The files of a machine that is being baked, whose own network has to be open: packages come from there."""
        closed = [
            File(f"/run/systemd/system/{unit}.service.d/network.conf", 0o644, NO_RESOLVER.encode())
            for unit in OF_THE_APP
        ]
        observed = [File("/run/app-check/observe", 0o600, b"")] if self.observe else []
        return [*self.files, *observed, *(closed if self.network is Network.CLOSED else [])]


def stand_in(settings: CheckSettings) -> str:
    """Return a shell command that writes the files of a machine that is being baked."""
    return _writing(settings.baking)


def stand_ins(settings: CheckSettings) -> str:
    """Return NoCloud's vendor-data for an image, run early on every boot that has this seed.

    A hook, since commands in user-data would take the place of commands in vendor-data. nftables has read its rules by
    then, so it reads them again.
    """
    rules = "/usr/lib/app/firewall.nft"
    return f"#cloud-boothook\n#!/bin/sh\n{_writing(settings.files)}\n[ ! -e {rules} ] || /usr/sbin/nft -f {rules}\n"


def _writing(files: list[File]) -> str:
    """Return a shell command that writes files."""
    folders = sorted({file.path.rpartition("/")[0] for file in files})
    contents = [f"printf %s {shlex.quote(file.content.decode())} > {file.path}" for file in files]
    return "; ".join(["umask 077", f"mkdir -p {' '.join(folders)}", *contents])
