"""Findings: their names, and their order."""

from __future__ import annotations

from bake.audit.finding import Finding, Kind, ordered


def test_a_vulnerability_is_shown_by_its_number_in_the_cve_list() -> None:
    assert Finding(Kind.WHEEL, "a", "1", "PYSEC-1", ("GHSA-1", "CVE-2026-1")).name == "CVE-2026-1"
    assert Finding(Kind.WHEEL, "a", "1", "PYSEC-1").name == "PYSEC-1"


def test_those_with_a_fixed_version_come_first() -> None:
    note, fixable = Finding(Kind.DEBIAN, "a", "1", "CVE-1"), Finding(Kind.WHEEL, "b", "1", "CVE-2", (), ("2",))
    assert ordered([note, fixable]) == [fixable, note]
