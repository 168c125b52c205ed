"""Find the paths that a module clearly writes: literal names of folders, logs, uploads and SQLite files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bake.app.names import last_name

#: Functions and classes that write the path in their first argument or `filename`: the last parts of their names.
FOLDER_MAKERS = {"mkdir", "makedirs"}
FILE_MAKERS = {
    "FileHandler", "RotatingFileHandler", "TimedRotatingFileHandler", "WatchedFileHandler", "basicConfig",
}  # fmt: skip
#: Names of settings for the upload folder, in the documentation of Flask and its extensions.
UPLOADS = {"UPLOAD_FOLDER", "UPLOADED_FILES_DEST", "UPLOADS_DEFAULT_DEST"}
SQLITE = "sqlite:///"
#: A field that the app fills in: "sqlite:///%s" % name, "sqlite:///{}.db".format(name).
FIELD = re.compile(r"%[\w(]|\{")


@dataclass(frozen=True)
class Write:
    """A path that the app writes. `beside`: relative to the module's folder, not to the working folder."""

    path: PurePosixPath
    is_folder: bool
    is_module_relative: bool = False


def find(nodes: Iterable[ast.AST]) -> Iterator[Write]:
    """Yield the clear writes among the nodes of a module. The paths are relative and have no `..`."""
    for node in nodes:
        for write in _writes(node):
            if write.path.name and not write.path.is_absolute() and ".." not in write.path.parts:
                yield write


def _writes(node: ast.AST) -> Iterator[Write]:
    if isinstance(node, ast.Call):
        yield from _call_writes(node)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            key = target.slice if isinstance(target, ast.Subscript) else None
            name = getattr(target, "id", getattr(target, "attr", getattr(key, "value", None)))
            text = _text(node.value)
            if name in UPLOADS and text:
                yield Write(PurePosixPath(text), is_folder=True)
    elif isinstance(node, ast.Constant):
        text = _text(node) or ""
        if text.startswith(SQLITE):
            yield from _database(text.removeprefix(SQLITE).partition("?")[0])
    elif isinstance(node, ast.BinOp) and (_text(node.left) or "").startswith(SQLITE):
        # "sqlite:///" + os.path.join(basedir, "app.db")
        match node.right:
            case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Name(), ast.Constant(value=str(name))]):
                yield Write(PurePosixPath(name), is_folder=False, is_module_relative=True)


def _call_writes(node: ast.Call) -> Iterator[Write]:
    function = node.func
    name = last_name(function)
    filename = next((keyword.value for keyword in node.keywords if keyword.arg == "filename"), None)
    text = _text(filename or (node.args[0] if node.args and name != "basicConfig" else None))
    match function:
        case ast.Attribute(
            attr="mkdir", value=ast.Call(func=ast.Name(id="Path"), args=[ast.Constant(value=str(path))])
        ):
            text = path
    if name in FOLDER_MAKERS and text:
        yield Write(PurePosixPath(text), is_folder=True)
    elif name in FILE_MAKERS and text:
        log = PurePosixPath(text)
        # Log rotation needs a writable folder.
        yield Write(log.parent, is_folder=True) if log.parent.name else Write(log, is_folder=False)
    elif name == "connect" and ast.unparse(function).endswith("sqlite3.connect") and text:
        yield from _database(text)


def _database(name: str) -> Iterator[Write]:
    """Yield the write of an SQLite file; nothing for one with another meaning, such as `:memory:`, or with a field."""
    if ":" not in name and not FIELD.search(name):
        yield Write(PurePosixPath(name), is_folder=False)


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
