"""JSON with a version: it reads back, older text counts as version 0, and an unknown version is an error."""

from __future__ import annotations

import json

import pytest

from bake.errors import ProgramError
from bake.host import versioned_json


def test_values_read_back_without_their_version() -> None:
    text = versioned_json.dump({"a": 1, "version": "1.2"}, 3)
    assert json.loads(text)[versioned_json.KEY] == 3
    assert versioned_json.load(text, 3, "a.json") == {"a": 1, "version": "1.2"}


def test_text_without_a_version_has_version_0() -> None:
    assert versioned_json.load('{"a": 1}', 0, "a.json") == versioned_json.load('{"a": 1}', 7, "a.json") == {"a": 1}


@pytest.mark.parametrize("version", ["2", "-1", "null", "true", '"1"', "1.0"])
def test_an_unknown_version_is_named_with_its_file_and_the_next_step(version: str) -> None:
    with pytest.raises(ProgramError, match=r"a\.json has the unknown version") as caught:
        versioned_json.load(f'{{"{versioned_json.KEY}": {version}}}', 1, "a.json")
    assert "versions up to 1" in caught.value.message and "bake again" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "1", "null", "{"])
def test_other_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        versioned_json.load(text, 1, "a.json")


def test_a_value_of_another_type_is_the_default() -> None:
    values = {"text": "a", "number": 2, "texts": ["a", 1], "true": True}
    assert versioned_json.value(values, "text", "") == "a" and versioned_json.value(values, "number", "") == ""
    assert versioned_json.value(values, "number", 0.0) == 2.0 and versioned_json.value(values, "true", 7) == 7
    assert versioned_json.value(values, "missing", "default") == "default"
    assert versioned_json.texts(values, "texts") == ("a",) and versioned_json.texts(values, "text") == ()
