"""Find Flask's SERVER_NAME, for which the app answers requests for all other names with 404 before Flask 3.1."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from bake.app.name_resolution import Reader
from bake.app.scopes import Module
from bake.app.session_keys import assignments, variable

KEY = "SERVER_NAME"


def notes(reader: Reader, modules: Iterable[Module], variables: set[str]) -> Iterator[str]:
    """Yield a warning for the first of `modules` that sets it to a name. `variables` are those that the recipe sets."""
    for module in modules:
        if KEY.encode() in (reader.folder / module.path).read_bytes():
            pairs = (pair for node in ast.walk(reader.tree(module)) for pair in assignments(node))
            for _, name, value in pairs:
                names = [part.value for part in ast.walk(value) if isinstance(part, ast.Constant)]
                source = next(filter(None, map(variable, ast.walk(value))), "")
                texts = [text for text in names if isinstance(text, str) and text and text != source]
                if name == KEY and texts and source not in variables - {""}:
                    step = f"write  env: {{{source}: DOMAIN}}" if source else "set the site's domain there"
                    yield (
                        f"warning: {module.path}:{value.lineno} sets {KEY} to {texts[0]!r}, and before version 3.1 "
                        f"Flask answers requests for other names with 404; {step}"
                    )
                    return
