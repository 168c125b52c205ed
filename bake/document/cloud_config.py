"""Write the files of a machine as one `#cloud-config` document within the provider's limit."""

from __future__ import annotations

import base64
import gzip
import json
import lzma
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache

import python_minifier
import yaml
from yaml.reader import Reader

from bake.bundle.release_files import environment
from bake.config import contract
from bake.config.debian import Target
from bake.config.providers import PROVIDERS
from bake.document.machine_files import File
from bake.errors import DocumentError
from bake.host.templates import render

#: The smallest form, for providers that take bytes as base64. cloud-init unpacks it.
GZIPPED = "gzipped, as base64"
#: The LZMA settings that pack small texts best.
LZMA = {"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0, "nice_len": 64}


#: Bytes in a line of 4,000 digits. Converting a number takes time that grows with the square of its digits, so the
#: document has many lines instead of one.
LINE_BYTES = 3277
_SEPARATOR = "\n "


class Network(Enum):
    """The app's network while bake bakes, checks or runs a machine."""

    #: Only the machine itself.
    CLOSED = auto()
    #: Everything that the machine reaches.
    OPEN = auto()


@dataclass(frozen=True)
class Document:
    """A document's text and its form: plain, packed, stripped and packed, or stripped and gzipped as base64."""

    text: str
    form: str

    @property
    def size(self) -> int:
        """Return the size in bytes that counts for the limit: of the text, or of the decoded base64."""
        return len(base64.b64decode(self.text) if self.form == GZIPPED else self.text.encode())


def plain(files: list[File], target: Target, commands: tuple[str, ...] = ()) -> Document:
    """Return a readable document. `commands` are shell commands that run early on every boot."""
    rows = [_row(file) for file in files]
    scalars = [_quoted(command) for command in commands]
    text = render("user-data/user-data.yaml.j2", files=rows, release=target.name, early=scalars)
    return Document(text, "plain")


def launch(files: list[File]) -> Document:
    """Return a document with only the settings of a launch, for a machine of an image."""
    return Document(render("user-data/launch.yaml.j2", files=[_row(file) for file in files]), "plain")


def _row(file: File) -> dict[str, object]:
    """Return the template's variables for a file: its text, or base64 if YAML cannot represent the content."""
    text = file.text
    if text is None or Reader.NON_PRINTABLE.search(text) or "\r" in text:
        fields = {"encoding": "b64", "content": base64.b64encode(file.content).decode()}
    else:
        fields = {"encoding": "", "content": _scalar(text)}
    path = file.path if re.fullmatch(r"[\w./@-]+", file.path, re.ASCII) else _quoted(file.path)
    return {"path": path, "mode": file.mode, **fields}


def packed(files: list[File], target: Target, *, stripped: bool) -> Document:
    """Return a document that unpacks the files. With `stripped`, the machine's files have no comments."""
    return _packed(_compressed(_document_files(files, stripped)), target, stripped)


def _document_files(files: list[File], stripped: bool) -> list[File]:
    """Return the files that a document packs. With `stripped`, the machine's files are minified."""
    return [strip(file) for file in files] if stripped else files


def _packed(content: bytes, target: Target, stripped: bool) -> Document:
    text = _SEPARATOR.join(_printable(content))
    document = render("user-data/packed.yaml.j2", packed=text, release=target.name, stripped=stripped)
    return Document(document, "stripped" if stripped else "packed")


def _packed_size(content: bytes, target: Target, stripped: bool) -> int:
    """Return the size of `_packed` without its digits, which take most of the time."""
    return _packed(b"", target, stripped).size + _digits(len(content)) + len(_SEPARATOR) * _separators(len(content))


def _digits(count: int) -> int:
    """Return the number of digits of `count` bytes in base 94."""
    whole_lines, remainder = divmod(count, LINE_BYTES)
    return whole_lines * _line_digits(LINE_BYTES) + _line_digits(remainder)


def _line_digits(count: int) -> int:
    return math.ceil(count * 8 / math.log2(94))


def _separators(count: int) -> int:
    """Return the number of ends of lines between the lines of `count` bytes."""
    return max(math.ceil(count / LINE_BYTES) - 1, 0)


def _printable(content: bytes) -> Iterator[str]:
    """Yield lines of printable ASCII without spaces, each a number in base 94. They are 22 % larger than the bytes.

    A line of m digits encodes int(m * log2(94) / 8) bytes.
    """
    for start in range(0, len(content), LINE_BYTES):
        chunk = content[start : start + LINE_BYTES]
        number, digits = int.from_bytes(chunk, "big"), bytearray()
        for _ in range(_line_digits(len(chunk))):
            number, digit = divmod(number, 94)
            digits.append(digit + 33)
        yield bytes(reversed(digits)).decode()


def gzipped(files: list[File], target: Target) -> Document:
    """Return the smallest document, as base64 text. cloud-init recognises gzip by its first bytes."""
    return _gzipped(_compressed(_document_files(files, True)), target)


def _gzipped(archive: bytes, target: Target) -> Document:
    content = gzip.compress(_packed(archive, target, True).text.encode(), 9, mtime=0)
    return Document(base64.b64encode(content).decode() + "\n", GZIPPED)


def _is_huge(files: list[File]) -> bool:
    """Return whether fast compression gives four times the largest limit. Thorough compression would take minutes."""
    return _fast_size(files) > 4 * max(provider.capacity for provider in PROVIDERS.values())


def _fast_size(files: list[File]) -> int:
    return sum(len(zlib.compress(file.content, 1)) for file in files)


def fit(files: list[File], target: Target, capacity: int, *, binary: bool = False) -> Document:
    """Return the document of `fitting`. Raises DocumentError if none fits."""
    document = fitting(files, target, capacity, binary=binary)
    if document is None:
        raise excess_error(files, target, capacity, binary=binary)
    return document


def fitting(files: list[File], target: Target, capacity: int, *, binary: bool = False) -> Document | None:
    """Return the most readable document of at most `capacity` bytes, or None if none fits.

    `binary` means that the provider takes bytes as base64.
    """
    if _is_huge(files):
        return None
    document = plain(files, target)
    if document.size <= capacity:
        return document
    content = b""
    for stripped in (False, True):
        content = _compressed(_document_files(files, stripped))
        if _packed_size(content, target, stripped) <= capacity:
            return _packed(content, target, stripped)
    if binary and (document := _gzipped(content, target)).size <= capacity:
        return document
    return None


def excess_error(files: list[File], target: Target, capacity: int, *, binary: bool = False) -> DocumentError:
    """Return the error that names the size of the smallest document, its largest parts and providers with room."""
    if _is_huge(files):
        sizes = sorted(((len(file.content), file.path.split("/", 5)[-1]) for file in files), reverse=True)[:3]
        return DocumentError(
            f"The app's files are far too large for any provider: {_fast_size(files):,} bytes after fast compression",
            "Exclude files in .bakeignore, or push the app to a public git repository, or bake an image.",
            "The largest files, uncompressed:\n" + "\n".join(f"{size:12,} bytes  {name}" for size, name in sizes),
        )
    content, size = _smallest(files, target, binary)
    machine_size = _smallest([file for file in files if not _is_source(file)], target, binary)[1]
    parts = sorted(_part_sizes(files).items(), key=lambda part: part[1], reverse=True)[:3]
    return DocumentError(
        f"The document has {size:,} bytes, {size - capacity:,} more than the provider's limit",
        f"{_way_out(machine_size, capacity)} {_provider_hint(content, target)}",
        "Its largest parts, compressed:\n" + "\n".join(f"{size:7,} bytes  {name}" for name, size in parts),
    )


def _smallest(files: list[File], target: Target, binary: bool) -> tuple[bytes, int]:
    """Return the packed files of the smallest document, and the document's size in bytes."""
    content = _compressed(_document_files(files, True))
    return content, _gzipped(content, target).size if binary else _packed_size(content, target, True)


def _is_source(file: File) -> bool:
    """Return whether a file is one of the app's own."""
    return file.path.startswith(f"{contract.INCOMING}/") and "/source/" in file.path


def _way_out(machine_size: int, capacity: int) -> str:
    """Return what makes a document fit. `machine_size` is its size in bytes without the app's own files."""
    if machine_size > capacity:
        return f"It has {machine_size:,} bytes without the app's files, so fewer files do not help. Bake an image."
    return (
        "Exclude files in .bakeignore, or push the app to a public git repository (fetching it takes about 500 bytes), "
        "or bake an image."
    )


def _provider_hint(content: bytes, target: Target) -> str:
    """Return a sentence that names the providers with room for the packed files `content`."""
    text_size = _packed_size(content, target, True)
    gzip_providers = [
        provider for provider in PROVIDERS.values() if not provider.text and provider.capacity < text_size
    ]
    # gzip undoes base 94, but cannot compress the packed files any further.
    gzip_may_fit = any(provider.capacity > len(content) for provider in gzip_providers)
    gzip_size = _gzipped(content, target).size if gzip_may_fit else text_size
    names = [
        provider.name
        for provider in PROVIDERS.values()
        if provider.capacity >= (text_size if provider.text else min(text_size, gzip_size))
    ]
    return f"It fits with one of these for --provider: {', '.join(names)}." if names else "It exceeds every limit."


def strip(file: File) -> File:
    """Minify a machine file. Files of the user and files for one boot are returned unchanged."""
    return file if file.path.startswith(("/var/", "/run/", f"{contract.SETTINGS}/")) else minified(file)


@cache
def minified(file: File) -> File:
    """Return a file without comments, docstrings, blank lines and deep indentation."""
    text = file.text
    if text is None:
        return file
    first_line, _, rest = text.partition("\n")
    if _is_python(file):
        # Keep global names that other modules import. Do not hoist literals: the result would depend on the version
        # of Python that runs bake, because of strings inside f-strings (a test checks this).
        is_program = not file.path.endswith(".py")
        body = python_minifier.minify(
            text, remove_literal_statements=True, hoist_literals=False, rename_globals=is_program
        )
    elif first_line.startswith("#!"):
        body = f"{first_line}\n{_code_lines(rest)}"
    else:
        body = _code_lines(text)
    return replace(file, content=body.encode())


def _is_python(file: File) -> bool:
    first_line = file.content.partition(b"\n")[0]
    return file.path.endswith(".py") or (first_line.startswith(b"#!") and b"python" in first_line)


def _code_lines(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith(("#", ";", "//")))


def _rank(file: File) -> tuple[bool, int, bool, bool, str, str]:
    """Return the key that sorts files for compression: similar files compress better next to each other.

    Units come first, then other settings, then Python, the smallest first.
    """
    is_python, is_unit = _is_python(file), "systemd" in file.path or "/units/" in file.path
    size = len(file.content) * is_python
    return is_python, size, not is_unit, "nginx/" in file.path, file.path.rpartition("/")[2], file.path


def _compressed(files: list[File]) -> bytes:
    """Return the compressed files, each as a line `mode size path` and its content, which the document unpacks."""
    sorted_files = sorted(files, key=_rank)
    rows = (b"%o %d %s\n%s" % (file.mode, len(file.content), file.path.encode(), file.content) for file in sorted_files)
    text = b"".join(rows)
    # The preset's dictionary has 64 MiB. Allocating it takes longer than the compression, here and on the machine.
    size = max(4096, 1 << len(text).bit_length())
    return lzma.compress(text, format=lzma.FORMAT_ALONE, filters=[{**LZMA, "dict_size": size}])


def _part_sizes(files: list[File]) -> dict[str, int]:
    """Return the parts of the document and the compressed size of each in bytes."""
    machine_files = [strip(file) for file in files if not file.path.startswith("/var/")]
    app_files = [file for file in files if file.path.startswith("/var/")]
    groups = {"the machine": machine_files} | {file.path.split("/", 5)[-1]: [file] for file in app_files}
    return {name: _digits(len(_compressed(group))) for name, group in groups.items()}


def _scalar(text: str) -> str:
    """Return a YAML scalar that parses to exactly this text: a readable block if possible, else a quoted scalar."""
    lines = text.splitlines()
    if text != "\n".join(lines) + "\n" or not lines or not lines[-1] or text.lstrip("\n").startswith((" ", "\t")):
        return _quoted(text)
    return "|\n" + "\n".join(f"    {line}" if line else "" for line in lines)


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, default_style='"', width=math.inf).rstrip("\n")


def meta_data(instance: str, hostname: str, public_keys: list[str]) -> str:
    """Return NoCloud's meta-data."""
    instance, hostname = json.dumps(instance), json.dumps(hostname)
    return render("user-data/meta-data.yaml.j2", instance=instance, hostname=hostname, public_keys=public_keys)


@dataclass(frozen=True)
class CheckSettings:
    """The environment and the network of an app while bake bakes, checks or runs its machine.

    They are files below /run, which is in memory, so no image contains them. While /run/app-check exists, the machine
    orders no certificate, because it is not launched yet.
    """

    env: dict[str, str]
    network: Network = Network.CLOSED
    #: Whether the machine observes the app's writes during a bake.
    observe: bool = True
    #: Whether QEMU runs the machine on this computer, whose own services it must not reach.
    is_local: bool = True

    @property
    def rules(self) -> str:
        """Return the nft rules."""
        rules = render("check/closed.nft.j2") if self.network is Network.CLOSED else ""
        return rules + render("check/host.nft.j2") if self.is_local else rules

    @property
    def files(self) -> list[File]:
        """Return the files for a booted image. systemd has already read its units."""
        return [
            File(contract.CHECK_ENV, 0o600, environment(self.env).encode()),
            File(contract.CHECK_RULES, 0o600, self.rules.encode()),
        ]

    @property
    def bake_files(self) -> list[File]:
        """Return the files for a machine during a bake. The machine itself needs the network to install packages."""
        no_resolver = render("check/no-resolver.conf.j2").encode()
        drop_ins = [f"{contract.RUNTIME_UNITS}/{unit}.service.d/network.conf" for unit in contract.APP_UNITS]
        unit_files = [File(path, 0o644, no_resolver) for path in drop_ins]
        observe_files = [File(contract.CHECK_OBSERVE, 0o600, b"")] if self.observe else []
        return [*self.files, *observe_files, *(unit_files if self.network is Network.CLOSED else [])]


def bake_command(settings: CheckSettings) -> str:
    """Return a shell script that writes the files for a machine during a bake."""
    return render("check/write.sh.j2", files=settings.bake_files, folders=_folders(settings.bake_files))


def vendor_data(settings: CheckSettings) -> str:
    """Return NoCloud's vendor-data for an image, run early on every boot that has this seed."""
    return render("check/boothook.sh.j2", files=settings.files, folders=_folders(settings.files))


def _folders(files: list[File]) -> list[str]:
    return sorted({file.path.rpartition("/")[0] for file in files})
