"""The table and the one-line summary of the differences."""

from __future__ import annotations

from sample_records import author, machine, missing, page

from bake.verify.comparison import compare
from bake.verify.report import summary, table


def test_the_table_shows_faults_first_once_for_all_hosts() -> None:
    pages = page("/"), page("/pricing"), missing("/old")
    records = [
        machine(page("/"), missing("/pricing", 500), page("/old"), host=host)
        for host in ("shop.example", "www.shop.example")
    ]
    differences = compare(author(*pages), records)
    lines = table(differences).splitlines()
    assert lines[0].split() == ["path", "author", "machine", "verdict"]
    assert lines[1].split() == ["/pricing", "200", "html", "500", "html", "fault"]
    assert lines[2] == "    The machine responds with 500. (https://shop.example, https://www.shop.example)"
    assert lines[4].split() == ["/old", "404", "html", "200", "html", "note"]
    assert summary(differences) == "compared, 3 addresses, 1 fault, 1 note"


def test_the_table_is_empty_without_differences_and_steers_no_terminal() -> None:
    assert table(compare(author(page()), [machine(page())])) == ""
    shown = table(compare(author(page()), [machine(page(title="\x1b]0;owned\x07\nline"))]))
    assert "\x1b" not in shown and len(shown.splitlines()) == 3


def test_the_summary_counts_or_names_the_reason() -> None:
    assert summary(compare(author(page()), [machine(page())])) == "compared, 1 address"
    assert summary((), "check.crawl is off") == "not compared (check.crawl is off)"
