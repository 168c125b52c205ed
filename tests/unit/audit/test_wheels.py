"""Wheels are audited by uv itself, against a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from advisories import Advisories, served

from bake.audit import wheels
from bake.audit.finding import Finding, Kind
from bake.errors import AdvisoryError
from bake.host import programs


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with served() as made:
        yield made


def test_a_vulnerable_wheel_is_found_with_its_fixed_version(advisories: Advisories, tmp_path: Path) -> None:
    versions = {"jinja2": "2.11.0", "shop-forms": "1.0", "flask": "2.0"}
    assert wheels.find(versions, advisories.address, tmp_path) == [
        Finding(Kind.WHEEL, "jinja2", "2.11.0", "PYSEC-2026-1", ("CVE-2026-1001",), ("2.11.3",)),
        Finding(Kind.WHEEL, "shop-forms", "1.0", "GHSA-shop-form-0001"),
    ]


def test_wheels_without_advisories_are_no_findings(advisories: Advisories, tmp_path: Path) -> None:
    assert wheels.find({"flask": "2.0"}, advisories.address, tmp_path) == []
    assert advisories.asked == ["/v1/querybatch"]


def test_no_wheels_need_no_service(tmp_path: Path) -> None:
    assert wheels.find({}, "http://127.0.0.1:1", tmp_path) == []


def test_a_service_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(AdvisoryError, match="nothing is known about the wheels") as caught:
        wheels.find({"flask": "2.0"}, "http://127.0.0.1:1", tmp_path)
    assert "127.0.0.1:1" in caught.value.details


@pytest.mark.parametrize("output", ["", "{}", '{"vulnerabilities": [{"id": "A"}]}', "[]"])
def test_an_answer_of_another_format_is_an_error(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "run", lambda *words, **options: programs.Result(0, output, ""))
    with pytest.raises(AdvisoryError):
        wheels.find({"flask": "2.0"}, None, tmp_path)
