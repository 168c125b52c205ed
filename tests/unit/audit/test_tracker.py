"""Debian packages are compared with a made-up copy of the tracker's data; dpkg itself compares versions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from advisories import DEBIAN, Advisories, served

from bake.audit import tracker
from bake.audit.finding import Finding, Kind
from bake.errors import AdvisoryError, ProgramError, ToolError
from bake.host import programs


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with served() as made:
        yield made


def found(advisories: Advisories, tmp_path: Path, **sources: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    findings = tracker.find(sources, "trixie", advisories.tracker, tmp_path)
    return {finding.id: finding.fixed for finding in findings}


def test_a_package_older_than_the_fixed_version_is_vulnerable(advisories: Advisories, tmp_path: Path) -> None:
    sources = {"nginx": ("1.26.3-3+deb13u1",), "unknown": ("1",)}
    assert tracker.find(sources, "trixie", advisories.tracker, tmp_path) == [
        Finding(Kind.DEBIAN, "nginx", "1.26.3-3+deb13u1", "CVE-2026-2001", (), ("1.26.3-3+deb13u2",)),
        Finding(Kind.DEBIAN, "nginx", "1.26.3-3+deb13u1", "CVE-2026-2003"),
    ]


def test_versions_are_compared_as_dpkg_does(advisories: Advisories, tmp_path: Path) -> None:
    fixed = found(advisories, tmp_path, nginx=("1.26.3-3+deb13u10",))
    assert fixed == {"CVE-2026-2003": ()}
    assert "CVE-2026-2001" in found(advisories, tmp_path, nginx=("1.26.3-3+deb13u2~bpo1",))
    assert "CVE-2026-2001" not in found(advisories, tmp_path, nginx=("1:0.1",))


def test_of_several_kernels_only_the_newest_counts(advisories: Advisories, tmp_path: Path) -> None:
    assert found(advisories, tmp_path, linux=("6.12.48-1", "6.12.50-1")) == {}
    assert list(found(advisories, tmp_path, linux=("6.12.48-1", "6.12.49-1"))) == ["CVE-2026-3001"]


def test_of_other_packages_each_version_counts(advisories: Advisories, tmp_path: Path) -> None:
    assert "CVE-2026-2001" in found(advisories, tmp_path, nginx=("1.26.3-3+deb13u1", "1.26.3-3+deb13u2"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "nothing about trixie"), ([], "not a JSON object"), ({"nginx": {"CVE-2026-1": {}}}, "unknown format"),
        ({"nginx": []}, "unknown format"), *(
            ({"nginx": {"CVE-2026-1": {"releases": {"trixie": {"fixed_version": version}}}}}, "unknown format")
            for version in (5, ["1"], "1 2\n3", None)
        ), ({"nginx": {"CVE-2026-1": {"releases": {"trixie": 1}}}}, "unknown format"),
    ],
)  # fmt: skip
def test_data_of_another_format_is_an_error(data: object, words: str, advisories: Advisories, tmp_path: Path) -> None:
    advisories.debian = data
    with pytest.raises(AdvisoryError) as caught:
        found(advisories, tmp_path, nginx=("1",))
    assert words in f"{caught.value.message} {caught.value.details}"


def test_a_tracker_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AdvisoryError, match="nothing is known about the Debian packages") as caught:
        tracker.find({"nginx": ("1",)}, "trixie", "http://127.0.0.1:1/tracker", tmp_path)
    assert "http://127.0.0.1:1/tracker" in caught.value.details


def test_the_data_may_be_in_a_file(tmp_path: Path) -> None:
    data = tmp_path / "a b.json"
    data.write_text(json.dumps(DEBIAN))
    findings = tracker.find({"nginx": ("1.26.3-3+deb13u1",)}, "trixie", data.as_uri(), tmp_path)
    assert [finding.id for finding in findings] == ["CVE-2026-2001", "CVE-2026-2003"]
    with pytest.raises(AdvisoryError, match="nothing is known") as caught:
        tracker.find({"nginx": ("1",)}, "trixie", f"{data.as_uri()}.none", tmp_path)
    assert "No such file" in caught.value.details


def test_without_dpkg_nothing_is_claimed(
    advisories: Advisories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    with pytest.raises(ToolError, match="nothing is known about the Debian packages"):
        found(advisories, tmp_path, nginx=("1.26.3-3+deb13u1",))


def test_versions_that_dpkg_cannot_compare_are_an_error(advisories: Advisories, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="exit status 2"):
        found(advisories, tmp_path, nginx=("1.0-",))


def test_the_data_covers_what_a_source_may_have() -> None:
    assert {entry["releases"].get("trixie", {}).get("status") for entry in DEBIAN["nginx"].values()} == {
        "open", "resolved", None,
    }  # fmt: skip
