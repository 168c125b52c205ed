"""The files whose tests ask moto, each in a network namespace where there is nobody else.

moto invents public addresses, which belong to strangers: whatever a test asks for, it cannot reach them from there.
"""

import re
from pathlib import Path

import amazon
import pytest

#: Found by their mark, so that none is forgotten. A file's long cases come with all of it: some look at the others.
FILES = [
    pytest.param(path, which, id=f"{path.stem}-{which}", marks=[pytest.mark.long] * (which == "long"))
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if re.search("^pytestmark = .*amazon.inside", path.read_text(), re.MULTILINE)
    for which in ("not long", "long")
    if which == "not long" or "pytest.mark.long" in path.read_text()
]


@pytest.mark.parametrize(("path", "which"), FILES)
def test_in_a_network_of_its_own(path, which):
    said = amazon.alone(path, *(["-m", which] if which == "not long" else []))
    assert " passed" in said and "SKIPPED" not in said, said
