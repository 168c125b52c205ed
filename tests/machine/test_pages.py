"""The app answers its visitors as it does its author: a crawler asks the machine for the pages that a visitor finds."""

from bake.verify import pages, report


def test_each_page_answers_as_it_does_with_the_author_s_server(crawler, record_property):
    judged = crawler(pages.judge)
    record_property("app", f"{judged.summary}, in {judged.seconds:.0f} s")
    record_property("pages", report.table(judged.differences))
    assert not judged.faults, report.table(judged.differences)
