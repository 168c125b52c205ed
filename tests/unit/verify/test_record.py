"""The record survives JSON, is read tolerantly, and can be joined with another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sample_records import HTML, author, machine, page, to

from bake.errors import ProgramError
from bake.verify.record import VERSION, Answer, Record


def test_a_record_survives_json_and_is_read_tolerantly() -> None:
    record = machine(to("/login", title="x", loop=True), HTML, seconds=1.5, visitors=20, complete=False)
    assert Record.from_json(record.to_json()) == record
    value = json.loads(record.to_json())
    value |= {"new": 1, "host": None, "answers": [{"path": "/", "status": "200", "new": 2}, 7, {}]}
    assert Record.from_json(json.dumps(value)) == replace(record, host="", answers=(Answer(path="/"), Answer()))
    assert Record.from_json(json.dumps({"version": VERSION})) == Record()


@pytest.mark.parametrize("text", ["", "[]", "null", '{"version": 2}', "{}", '{"version": "1"}', "Traceback …"])
def test_another_version_of_the_record_is_refused(text: str) -> None:
    with pytest.raises(ProgramError):
        Record.from_json(text)


def test_two_crawls_of_the_author_s_server_are_joined() -> None:
    joined = author(page()).joined(replace(author(page()), complete=False, visitors=20))
    assert (len(joined.answers), joined.complete, joined.visitors) == (2, False, 20)
