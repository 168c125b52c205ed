"""Write the generated tables of the reference pages: python docs/_generate.py.

A page of `reference/` has the lines `<!-- generated: NAME -->` and `<!-- end -->`. This program replaces the text
between them. The pages are checked in, so that they are complete at GitHub and in an editor. A unit test fails if one
is out of date.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

# Python adds the folder of this program to the path, which is not the folder of the package.
sys.path.insert(0, str(Path(__file__).parents[1]))

from bake import errors
from bake.aws import policy
from bake.cli.main import cli
from bake.config import contract, recipe, sections
from bake.config.contract_files import MachineRecipe, Result, Source
from bake.config.providers import METADATA_SERVICES, PROVIDERS
from bake.errors import BakeError
from bake.image.manifest import ObservedPaths
from bake.verify.record import AuthorRecord

REPOSITORY = Path(__file__).parents[1]
ROOTFS = REPOSITORY / "cloud-init" / "rootfs"
FEATURES = REPOSITORY / "cloud-init" / "features"
UNITS = "etc/systemd/system"
SCHEMA = REPOSITORY / "docs" / "reference" / "contract.schema.json"
#: The JSON files that bake or a machine writes and the other one reads, with their types.
CONTRACT_FILES: dict[str, type] = {
    contract.SOURCE: Source,
    f"{contract.CURRENT}/{contract.RECIPE}": MachineRecipe,
    contract.RESULT: Result,
    contract.OBSERVED: ObservedPaths,
    contract.AUTHOR: AuthorRecord,
}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; a `|` and a line break in a cell are escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [[re.sub(r"\s+", " ", cell).strip().replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def code(text: str, language: str = "text") -> str:
    """Return a fenced block."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def plain(text: str) -> str:
    """Return text in which Markdown finds no markup of its own: `*`, `<` and `_`; backquoted parts stay as they are."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*<_\[\]])", r"\\\1", part) for part in parts)


# The command line


def commands(group: click.Group = cli) -> Iterator[tuple[str, click.Command]]:
    """Yield each command's name and the command, in alphabetical order, without the hidden ones."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command and not command.hidden:
            yield name, command


def options(name: str, command: click.Command) -> list[tuple[str, str]]:
    """Return a command's options, each with its help text, without `--help`."""
    context = click.Context(command, info_name=f"bake {name}")
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    return [record for record in records if record]


def command_line() -> str:
    """Return a section for each command: usage, help, options."""
    text = ""
    for name, command in commands():
        context = click.Context(command, info_name=f"bake {name}")
        usage = " ".join([f"bake {name}", *command.collect_usage_pieces(context)])
        help_text = "\n\n".join(
            plain(re.sub(r"\s+", " ", part).strip()) for part in (command.help or "").replace("\f", "").split("\n\n")
        )
        text += f"## bake {name}\n\n{code(usage, 'console')}\n{help_text}\n\n"
        if rows := options(name, command):
            text += table(("option", "meaning"), [(f"`{option}`", plain(meaning)) for option, meaning in rows]) + "\n"
    return text


# bake.yaml


def recipe_keys(model: type[BaseModel] = recipe.Recipe, above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield dotted key, type, default and description of each key of bake.yaml, those of nested models included."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        described = schema["properties"][name]
        # A title is the key's own name, capitalised: `app` is not yet the model App.
        inner = _inner({key: value for key, value in described.items() if key != "title"})
        kind = type_of(described)
        description = field.description or (inner.__doc__ if inner else "") or ""
        default = "required" if field.is_required() else default_of(field.get_default(call_default_factory=True), kind)
        yield f"{above}{name}", kind, default, re.sub(r"\s+", " ", description)
        if inner:
            path = {"object": f"{above}{name}.NAME.", "array": f"{above}{name}[]."}
            yield from recipe_keys(inner, path.get(described.get("type", ""), f"{above}{name}."))


def _inner(described: object) -> type[BaseModel] | None:
    """Return the model that a key's values follow, or None: the first that its schema refers to or holds."""
    if isinstance(described, list):
        return next(filter(None, map(_inner, described)), None)
    if not isinstance(described, dict):
        return None
    if "observe" in described.get("properties", ()):
        return sections.Writable  # Its schema is written by hand, since a plain list stands for it.
    name = str(described.get("$ref", "")).rpartition("/")[2] or described.get("title")
    model = vars(sections).get(name) if isinstance(name, str) else None
    if isinstance(model, type) and issubclass(model, BaseModel):
        return model
    return next(filter(None, map(_inner, described.values())), None)


def type_of(described: dict[str, Any]) -> str:
    """Return a JSON Schema's type in words."""
    if "$ref" in described:
        return "mapping"
    if "const" in described:
        return f"`{described['const']}`"
    if "enum" in described:
        values = ["on", "off"] if True in described["enum"] else described["enum"]
        return " or ".join(f"`{value}`" for value in values)
    if kinds := described.get("anyOf") or described.get("oneOf"):
        words = [type_of(kind) for kind in kinds if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    kind = described.get("type", "text")
    if isinstance(kind, list):
        units = re.search(r"\[([A-Za-z]+)\]", described.get("pattern", ""))
        return f"number with a unit ({', '.join(units[1])})" if units else "text"
    if kind == "array":
        items = described.get("items")
        return f"list of {type_of(items) if items else 'text'}"
    if kind == "object":
        values = described.get("additionalProperties")
        return f"mapping of names to {type_of(values)}" if isinstance(values, dict) else "mapping"
    return {"string": "text", "integer": "whole number", "boolean": "`on` or `off`"}.get(kind, str(kind))


def default_of(value: object, kind: str) -> str:
    """Return a default as it would stand in bake.yaml, or `none`."""
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    if isinstance(value, int) and "unit" in kind:
        return f"`{value >> 20}M`" if "K" in kind else f"`{value}s`"
    if value is None or value in ((), {}) or isinstance(value, BaseModel):
        return "none"
    return f"`{value}`"


def examples() -> dict[str, str]:
    """Return the lines of bake.example.yaml for each top-level key, comments included."""
    blocks: dict[str, str] = {}
    for block in (REPOSITORY / "bake.example.yaml").read_text().split("\n\n"):
        for key in re.findall(r"^(?:# )?([a-z_]+):", block, re.M):
            blocks.setdefault(key, block.strip())
    return blocks


def bake_yaml() -> str:
    """Return a section for each top-level key of bake.yaml: an example, and a table of it and its nested keys."""
    text, shown = "", examples()
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for key, kind, default, description in recipe_keys():
        name = re.split(r"[.\[]", key)[0]
        blocks.setdefault(name, []).append((f"`{key}`", kind, default, plain(description)))
    for name, rows in blocks.items():
        text += f"## {name}\n\n{table(('key', 'type', 'default', 'meaning'), rows)}\n"
        if name in shown:
            text += f"{code(shown[name], 'yaml')}\n"
    return text


# Exit codes, providers, IAM policies


def kinds() -> list[type[BakeError]]:
    """Return the classes of errors, by exit code."""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BakeError)]
    return sorted((kind for kind in classes if kind is not BakeError), key=lambda kind: kind.code)


def exit_codes() -> str:
    """Return a table of all exit codes."""
    rows = [("0", "", "Done"), ("1", "", "bake crashed: please report it"), ("2", "", "The command line is wrong")]
    rows += [
        (str(kind.code), f"`{kind.__name__}`", plain((kind.__doc__ or "").strip().rstrip("."))) for kind in kinds()
    ]
    return table(("code", "error", "meaning"), rows)


def providers() -> str:
    """Return a table of the providers and their limits."""
    rows = []
    for name, provider in sorted(PROVIDERS.items()):
        limit = f"{provider.capacity:,}" + ("" if provider.limit else " (assumed)")
        form = "text" if provider.text else "bytes, as base64"
        notes = [
            provider.remark,
            *(f"Its datasource is unknown to {base}'s cloud-init." for base in provider.unknown_to),
        ]
        rows.append((f"[`{name}`](../how-to/providers/{name}.md)", limit, form, provider.source, " ".join(notes)))
    head = ("`--provider`", "bytes of a document", "takes", "source of the figure", "remark")
    return table(head, [tuple(map(plain_link, row)) for row in rows])


def plain_link(text: str) -> str:
    """Return `plain` text, unless it is a link."""
    return text if text.startswith("[") else plain(text)


def metadata_services() -> str:
    """Return a table of the networks that a machine's firewall denies to the app, and the services in each."""
    rows = [
        (f"`{address}`", f"`{network}`", plain(service))
        for network, services in METADATA_SERVICES.items()
        for address, service in services.items()
    ]
    return table(("address", "denied", "service"), rows)


def iam_policies() -> str:
    """Return a section for each command that needs AWS: its statements, and the policy itself."""
    text = ""
    for command, statements in sorted(policy.STATEMENTS.items()):
        rows = [
            (name, ", ".join(f"`{action}`" for action in actions), f"`{option}`" if option else kind)
            for name, actions, kind in statements
            for option in [policy.OPTIONS.get(kind)]
        ]
        document = json.dumps(policy.document(command), indent=2)
        text += f"## {command}\n\n{table(('statement', 'actions', 'resources'), rows)}\n"
        text += f"<details><summary>The policy as JSON</summary>\n\n{code(document, 'json')}\n</details>\n\n"
    return text


# The contract between bake and a machine


def contract_schema() -> str:
    """Return the JSON Schema of an object that has the content of each file of the contract under its path."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]]
    adapters = [(path, "validation", TypeAdapter(kind)) for path, kind in CONTRACT_FILES.items()]
    schemas, definitions = TypeAdapter.json_schemas(adapters)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The JSON files that bake and a machine exchange, by path",
        "type": "object",
        "properties": {path: schemas[path, "validation"] for path in CONTRACT_FILES},
        **definitions,
    }
    return json.dumps(schema, indent=1) + "\n"


def contract_files() -> str:
    """Return a section for each JSON file of the contract: its purpose, and a table of its keys."""
    text, schema = "", json.loads(contract_schema())
    for path, kind in CONTRACT_FILES.items():
        properties = schema["$defs"][kind.__name__]["properties"]
        rows = [
            (
                f"`{key}`",
                type_of(described).replace("`on` or `off`", "true or false"),
                plain(described.get("description", "")),
            )
            for key, described in properties.items()
        ]
        purpose = "\n\n".join(re.sub(r"\s+", " ", part).strip() for part in plain(kind.__doc__ or "").split("\n\n"))
        text += f"### {path}\n\n{purpose}\n\n{table(('key', 'type', 'meaning'), rows)}\n"
    return text


def contract_names() -> str:
    """Return a table of the names of the contract: paths, units, variables and defaults."""
    names = {name: value for name, value in vars(contract).items() if name.isupper()}
    return table(("name", "value"), [(f"`{name}`", f"`{value}`") for name, value in names.items()])


# The machine


def summary(path: Path) -> str:
    """Return the first sentence of a file: its docstring's, its first comment's, or a unit's description."""
    text = path.read_text()
    if page := re.search("<h1>(.+)</h1>", text):
        return f"The page with the heading {page[1]!r}."
    if not text.strip():
        return ""
    if unit := re.search(r"^Description=(.+)$", text, re.M):
        return unit[1]
    if "python" in text.partition("\n")[0] or path.suffix == ".py":
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0]
    else:
        lines = [line.lstrip("#/; ") for line in re.findall(r"^(?:#|//|;)(?!!).*", text, re.M)[:4]]
        first = " ".join(lines)
    first = re.sub(r"\s+", " ", first)
    return (re.match(r".+?[.!?](?= [A-Z]|$)", first) or [first])[0]


def files(folder: Path) -> list[tuple[str, str]]:
    """Return each file below a folder that mirrors `/`, with its summary."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [(f"`/{path.relative_to(folder)}`", plain(summary(path))) for path in paths]


def machine_files() -> str:
    """Return a table of the files that every machine has."""
    return table(("file", "purpose"), files(ROOTFS))


def units() -> str:
    """Return a table of the units that bake adds to a machine, those of its optional features included."""
    rows = []
    for folder, since in [(ROOTFS / UNITS, "every machine")] + [
        (feature / "units", f"`{feature.name}`") for feature in sorted(FEATURES.iterdir())
    ]:
        for path in sorted(folder.glob("*.*")):
            if path.is_file():
                rows.append((f"`{path.name}`", plain(summary(path)), since))
    return table(("unit", "description", "part of"), rows)


def features() -> str:
    """Return a table of the optional programs, which lie in a release that asks for them."""
    rows = [
        (f"`{feature.name}`", f"`{path.relative_to(feature)}`", plain(summary(path)))
        for feature in sorted(FEATURES.iterdir())
        for path in sorted(feature.rglob("*"))
        if path.is_file() and "units" not in path.relative_to(feature).parts and "__pycache__" not in path.parts
    ]
    return table(("feature", "file", "purpose"), rows)


GENERATORS: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "bake-yaml": bake_yaml,
    "exit-codes": exit_codes,
    "providers": providers,
    "metadata-services": metadata_services,
    "iam-policies": iam_policies,
    "contract-names": contract_names,
    "contract-files": contract_files,
    "machine-files": machine_files,
    "units": units,
    "features": features,
}
MARKER = re.compile(r"^<!-- generated: ([a-z-]+) -->\n(.*?)^<!-- end -->$", re.M | re.S)


def fill(text: str) -> str:
    """Return a page with the text between each pair of markers replaced by the output of its generator."""
    return MARKER.sub(lambda match: f"<!-- generated: {match[1]} -->\n\n{GENERATORS[match[1]]()}\n<!-- end -->", text)


def main() -> None:
    """Write the pages and the schema whose generated text has changed, and print their paths."""
    texts = {path: fill(path.read_text()) for path in sorted(SCHEMA.parent.glob("*.md"))}
    for path, text in {**texts, SCHEMA: contract_schema()}.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
