"""Read `bake.yaml` into a `Recipe`, and report all faults at once, each as a sentence with its key.

YAML 1.1 converts `on`, `0755` and `12:30` to other values. So this module reads every
scalar as text, and the type of its key decides how to convert it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bake.config.assets import Assets
from bake.config.recipe import Recipe
from bake.config.sections import (
    App,
    Aws,
    BaseImage,
    Certificate,
    Check,
    Django,
    Dns,
    Limits,
    Page,
    Sandbox,
    Timer,
    Writable,
)
from bake.errors import AppFolderError, RecipeError
from bake.host import foreign_text

FILE_NAME = "bake.yaml"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `bake.yaml`, for editors."""
    return Recipe.model_json_schema()


def read(folder: Path) -> Recipe:
    """Return the recipe of the app in `folder`, or an empty one without a bake.yaml.

    Raises AppFolderError if there is no folder, and RecipeError with one line for each fault in `details`.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise AppFolderError(f"{folder} {problem}", "Give the path of the folder with the app's source.")
    path = folder / FILE_NAME
    if not path.exists():
        if (yml_path := path.with_suffix(".yml")).exists():
            raise RecipeError(f"bake does not read {yml_path}", f"Rename it to {FILE_NAME}.")
        return Recipe()
    faults: list[str] = []
    value = _load(path, faults)
    recipe = Recipe()
    if not isinstance(value, dict | None):
        faults.append("the file should contain lines of the form key: value")
    elif value:
        recipe = validate(value, faults, folder)
    if faults:
        raise RecipeError.of_faults(str(path), faults, "bake.example.yaml shows every key.")
    return recipe


def validate(value: dict[str, Any], faults: list[str], folder: Path | None = None) -> Recipe:
    """Return the recipe with these values: texts, lists and mappings. Add a line for each fault to `faults`."""
    try:
        return Recipe.model_validate(value, context={"folder": folder})
    except ValidationError as error:
        faults += dict.fromkeys(_sentence(fault) for fault in error.errors())
        return Recipe()


def _load(path: Path, faults: list[str]) -> object:
    """Return the file's value with all scalars as text. Add duplicate keys to `faults`."""
    try:
        root = yaml.compose(foreign_text.read(path), Loader=foreign_text.YamlLoader)
        return None if root is None else _plain_value(root, (), (), faults)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "Correct the file, or its mode.") from None
    except RecursionError:
        raise RecipeError(f"{path}: {foreign_text.TOO_DEEP}", "bake.example.yaml shows every key.") from None
    except yaml.MarkedYAMLError as error:
        mark, problem = _location(error)
        location = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        detail = mark.get_snippet(indent=0) or "" if mark else ""
        raise RecipeError(f"{location}: {problem}", "Correct the YAML at that place.", detail) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", None) or error
        raise RecipeError(f"{path} is not YAML text: {reason}", "Save it as UTF-8.") from None


#: Problems by the parser's context: a list, a mapping or a text without an end.
_UNCLOSED_PROBLEMS = {
    "while parsing a flow sequence": "the list that begins here has no ]",
    "while parsing a flow mapping": "the mapping that begins here has no }",
    "while scanning a quoted scalar": "the text that begins here has no closing quote",
}


def _location(error: yaml.MarkedYAMLError) -> tuple[yaml.Mark | None, str]:
    """Return the place of a fault in the YAML, and the problem.

    If a bracket or a quote is not closed, the place is where it opens.
    """
    begin, end, problem = error.context_mark, error.problem_mark, _UNCLOSED_PROBLEMS.get(error.context or "")
    if problem and begin and end and begin.line < end.line:
        at_end = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
        return begin, problem if at_end else f"{problem}, or no comma before line {end.line + 1}"
    return end or begin, error.problem or error.context or "not YAML"


def _plain_value(
    node: yaml.Node, path: tuple[str | int, ...], ancestors: tuple[yaml.Node, ...], faults: list[str]
) -> object:
    """Return a node's value with all scalars as text. Add duplicate keys and endless recursion to `faults`."""
    if any(node is ancestor for ancestor in ancestors):
        faults.append(f"{_dotted_path(path)}: refers to itself")
        return None
    ancestors = (*ancestors, node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain_value(item, (*path, number), ancestors, faults) for number, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, object] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in mapping:
                faults.append(f"{_dotted_path((*path, name))}: occurs twice (again on line {key.start_mark.line + 1})")
            mapping[name] = _plain_value(value, (*path, name), ancestors, faults)
        # A top-level key without a value counts as not set.
        return {key: value for key, value in mapping.items() if value is not None or path}
    assert isinstance(node, yaml.ScalarNode)
    return None if node.style is None and node.value in ("", "~", "null") else str(node.value)


def _dotted_path(path: tuple[str | int, ...]) -> str:
    """Return a path as text, such as `domains[0]` or `limits.request`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


#: Faults by pydantic's type of an error, as functions of the value.
_EXPECTATIONS: dict[str, Callable[[object], str]] = {
    "string_type": lambda value: "has no value" if value is None else "should be text",
    "tuple_type": lambda value: f"should be a list, [{value}]" if isinstance(value, str) else "should be a list",
    "dict_type": lambda value: "should contain lines of the form key: value",
    "model_type": lambda value: "should contain lines of the form key: value",
    "int_type": lambda value: "should be a whole number",
    "bool_parsing": lambda value: f"{value!r} is neither on nor off",
    "int_parsing": lambda value: f"{value!r} is not a whole number",
}


def _sentence(error: ErrorDetails) -> str:
    """Return one fault that pydantic reports as a sentence for people."""
    path, kind = error["loc"], error["type"]
    if path[-1] == "[key]":
        path = path[:-1]
    if path[:2] == ("writable", "paths"):
        path = ("writable", *path[2:])
    if path[0] == "base":
        # pydantic adds the tag of the union's member.
        path = path[:1] + path[2:]
    if kind == "extra_forbidden":
        return f"{_dotted_path(path)}: {_unknown_key(path)}"
    if kind == "value_error":
        fault = str(error["ctx"]["error"])
    else:
        fault = _EXPECTATIONS[kind](error["input"]) if kind in _EXPECTATIONS else error["msg"].lower()
    return f"{_dotted_path(path)}: {fault}"


def _unknown_key(path: tuple[str | int, ...]) -> str:
    """Return the fault of a key that does not exist, with a similar key or all keys of its section."""
    models: dict[str, type[BaseModel]] = {
        "app": App, "limits": Limits, "check": Check, "check.pages": Page, "sandbox": Sandbox, "timers": Timer,
        "django": Django, "base": BaseImage, "writable": Writable, "certificate": Certificate, "certificate.dns": Dns,
        "aws": Aws, "assets": Assets,
    }  # fmt: skip
    parent = _dotted_path(tuple(part for part in path[:-1] if isinstance(part, str)))
    key, model = str(path[-1]), models.get(parent) or models.get(str(path[0]), Recipe)
    similar = difflib.get_close_matches(key.lower(), model.model_fields, 1)
    if similar:
        return f"is not a key; did you mean {similar[0]!r}?"
    return f"is not a key ({', '.join(model.model_fields)})"
