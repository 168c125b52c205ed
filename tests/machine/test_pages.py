"""Crawl the machine's pages, and compare the answers with those of the author's server."""

from bake.verify import pages, report


def test_each_page_answers_as_it_does_with_the_author_s_server(crawler, record_property):
    result = crawler(pages.judge)
    record_property("app", f"{result.summary}, in {result.seconds:.0f} s")
    record_property("pages", report.table(result.differences))
    assert not result.faults, report.table(result.differences)
