"""The files of a machine to one `#cloud-config` document."""

from __future__ import annotations

import json
import re
import shlex

import jinja2

from bake import places
from bake.machine import File
from bake.target import Target

#: cloud-init runs what lies here at the end of every boot, the first included.
BOOT = File("/var/lib/cloud/scripts/per-boot/app", 0o755, "#!/bin/sh\nexec /usr/lib/app/boot\n")


def document(files: list[File], source: File, target: Target) -> str:
    """The document as text. Its source stanza and its boot script come last."""
    skeleton = (places.tree() / "cloud-init" / "user-data.yaml.j2").read_text()
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(skeleton)
    rows = [{"path": file.path, "mode": file.mode, "content": _scalar(file.text)} for file in (*files, source, BOOT)]
    return template.render(files=rows, release=target.name)


def _scalar(text: str) -> str:
    """A text as a YAML scalar that is read back byte for byte: a block to read where one can hold it."""
    lines = text.splitlines()
    if text != "\n".join(lines) + "\n" or not lines or not lines[-1] or lines[0].startswith((" ", "\t")):
        return json.dumps(text)
    return "|\n" + "\n".join(f"    {line}" if line else "" for line in lines)


def meta_data(instance: str, hostname: str, public_keys: list[str]) -> str:
    """NoCloud's meta-data. The keys are the default user's."""
    keys = "".join(f"  - {key}\n" for key in public_keys)
    return f"instance-id: {json.dumps(instance)}\nlocal-hostname: {json.dumps(hostname)}\npublic-keys:\n{keys}"


def stand_ins(values: dict[str, str]) -> str:
    """NoCloud's vendor-data with environment for the bake and its proof, which no image holds.

    It goes to a file in memory, by a command that cloud-init runs early on every boot that has this seed.
    """
    if not values:
        return "#cloud-config\n{}\n"
    escaped = {name: re.sub(r'(["\\\\$`])', r"\\\1", value) for name, value in values.items()}
    text = "".join(f'{name}="{value}"\n' for name, value in escaped.items())
    script = f"umask 077; mkdir -p /run/app-check; printf %s {shlex.quote(text)} > /run/app-check/env"
    return f"#cloud-config\nbootcmd:\n- [sh, -c, {json.dumps(script)}]\n"
