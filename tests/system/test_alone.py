"""The files whose tests ask moto, each in a network namespace where there is nobody else.

moto invents public addresses, which belong to strangers: whatever a test asks for, it cannot reach them from there.
"""

from pathlib import Path

import amazon
import pytest

#: Found by their mark, so that none is forgotten. `long` is one whose every case is.
FILES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.long] * ("pytest.mark.long" in path.read_text()))
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if "amazon.inside" in path.read_text() and path != Path(__file__)
]


@pytest.mark.parametrize("path", FILES)
def test_in_a_network_of_its_own(path):
    said = amazon.alone(path)
    assert " passed" in said and "SKIPPED" not in said, said
