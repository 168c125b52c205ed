"""What is kept of a file is enough to follow its names, and following them ends soon."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest
from conftest import write

from bake.app import detect
from bake.config.recipe import Recipe

#: CPU seconds; the goal is 2 for 500 files. It takes less on an idle machine, and tests share theirs.
PATIENCE = 6.0
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"


def dense(count: int) -> dict[str, str]:
    """Modules that import each other's names, bind them again and again, and call them: many paths, and cycles."""
    files = {"wsgi.py": WSGI}
    for number in range(count):
        others = [(number * 7 + step) % count for step in (1, 2, 3, 5, 11)]
        lines = [f"from pkg.m{other} import make, thing, Model as Model{other}" for other in others]
        lines += [
            "def make(x=None):",
            "    thing = make(x) or other(x)",
            "    if x:",
            "        return thing",
            "    return other()",
        ]
        lines += ["def other(x=None):", "    return make(thing)", "thing = make(other)", "thing = other(thing)"]
        lines += [f"thing = Model{others[0]}.objects.filter(thing).first() or thing" for _ in range(20)]
        lines += [f"class Model(Model{others[1]}):", "    thing = thing", "app = thing", "app = make(app)"]
        files[f"pkg/m{number}.py"] = "\n".join(lines) + "\n"
    return files


def mutual(count: int) -> dict[str, str]:
    """Modules that each import all names of all others: every name stands for every other."""
    files = {"wsgi.py": WSGI}
    for number in range(count):
        others = [other for other in range(count) if other != number]
        lines = [f"from m{other} import a{name} as a{name}" for other in others for name in range(8)]
        lines += [f"def a{name}():\n    return a{(name + 1) % 8}()" for name in range(8)]
        files[f"m{number}.py"] = "\n".join(lines) + "\n"
    return files


CHAIN = {f"c{number}.py": f"from c{number + 1} import app\n" for number in range(3000)}
SHAPES = {
    "500 files that lead to each other": dense(500),
    "modules that import all of each other": mutual(25),
    "a chain of 3,000 imports": {**CHAIN, "c3000.py": "from flask import Flask\napp = Flask(__name__)\n"},
    "a name bound 5,000 times": {"wsgi.py": WSGI, "x.py": "x = f(x)\n" * 5000 + "def f(x):\n    return x\n"},
    "classes that derive from each other": {
        "wsgi.py": WSGI, "k.py": "".join(f"class K{n}(K{n + 1}, K{n + 2}, K{n // 2}): pass\n" for n in range(2000)),
    },
    "settings that import each other": {
        "wsgi.py": WSGI, "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 's0')\n",
        **{f"s{n}.py": "".join(f"from s{other} import *\n" for other in range(12)) for n in range(12)},
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_detection_is_linear_in_the_source(tmp_path: Path, shape: str) -> None:
    folder = write(tmp_path, {**SHAPES[shape], "requirements.txt": ""})
    began = time.process_time()
    for text in SHAPES[shape].values():
        ast.parse(text)
    # A busy computer is slower at parsing, too.
    patience = max(PATIENCE, 5 * (time.process_time() - began))
    began = time.process_time()
    found = detect.complete(folder, Recipe())
    assert time.process_time() - began < patience
    assert found.recipe.wsgi in ("wsgi:application", "c3000:app")
