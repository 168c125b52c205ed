"""The examples, baked and proved as they are."""

import json
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.long


# flask-hello is baked by the cases of a machine.
@pytest.mark.parametrize("name", ["django-polls", "flask-album"])
def test_example(name, tmp_path, bake):
    # A copy, so that what a developer's own run left in the folder is not baked.
    ignored = shutil.ignore_patterns("__pycache__", "instance", "*.sqlite3")
    called = bake("image", shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored))
    assert called.code == 0, called.stderr
    image = Path(called.stdout.strip())
    facts = json.loads(image.with_suffix(".json").read_text())
    assert facts["checks"] > 90
