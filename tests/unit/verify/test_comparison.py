"""The comparison, rule by rule: a case in which it is a fault or a note, and one in which it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bake.config.recipe import Page
from bake.errors import ProgramError
from bake.verify.comparison import (
    VERSION,
    Answer,
    Difference,
    Location,
    Record,
    Verdict,
    compare,
    masked,
    summary,
    table,
)

FAULT, NOTE, SAME = Verdict.FAULT, Verdict.NOTE, Verdict.SAME
HTML = Answer(path="/", status=200, type="text/html", charset="utf-8", kind="html", length=9, sha256="a", end="whole")
CSS = Answer(
    path="/static/a.css", status=200, type="text/css", kind="css", length=5, sha256="c", end="whole", validator=True
)
JS = replace(CSS, path="/a.js", type="text/javascript", kind="js")
JSON = replace(HTML, type="application/json", charset="", kind="json")


def page(path: str = "/page", like: Answer = HTML, **values: Any) -> Answer:
    return replace(like, **{"path": path, "sha256": path, **values})


def missing(path: str = "/page", status: int = 404, **values: Any) -> Answer:
    return page(path, **{"status": status, "title": "Not Found", **values})


def to(target: str, path: str = "/page", origin: str = "same", host: str = "", **values: Any) -> Answer:
    """A redirect."""
    answer = Answer(path=path, status=302, kind="empty", end="whole", location=Location(target, origin, host))
    return replace(answer, **values)


def failed(error: str, path: str = "/page") -> Answer:
    return Answer(path=path, error=error)


def author(*answers: Answer) -> Record:
    return Record(url="http://127.0.0.1:5000", host="127.0.0.1:5000", answers=answers)


def machine(*answers: Answer, scheme: str = "https", host: str = "shop.example", **values: Any) -> Record:
    return replace(Record(url=f"{scheme}://{host}", host=host, answers=answers), **values)


def only(author: Record | None, *records: Record, **expected: Any) -> Difference:
    """The most severe difference."""
    return max(compare(author, records, **expected), key=lambda difference: difference.verdict.value)


def verdict(before: Answer | tuple[Answer, ...] | None, after: Answer, **expected: Any) -> Verdict:
    """The verdict for one answer of the machine's beside the author's."""
    answers = before if isinstance(before, tuple) else (before,) if before else ()
    return only(author(*answers) if answers else None, machine(after), **expected).verdict


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


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (page(), page(), SAME),
        (page(), missing(), FAULT),
        (page(), missing(status=400), FAULT),
        (page(), missing(status=403), FAULT),
        (page(), page(status=500), FAULT),
        (to("/login"), missing(), FAULT),
        (missing(status=401), missing(), FAULT),
        (missing(status=401), missing(status=403), NOTE),
        (missing(status=401), missing(status=401), SAME),
        (missing(), missing(), SAME),
        (missing(), missing(status=502), FAULT),
        (missing(), missing(status=410), NOTE),
        (missing(), page(), NOTE),
        (page(status=500), page(), NOTE),
        (missing(status=403), page(), NOTE),
        (page(), page(status=204), NOTE),
        (page(), to("/login"), FAULT),
        (page(), to("/page/"), NOTE),
        (to("/login"), page(), NOTE),
        (to("/a"), to("/a", status=301), SAME),
    ],
)
def test_a_status_is_a_fault_where_the_machine_s_is_worse(before: Answer, after: Answer, expected: Verdict) -> None:
    assert verdict(before, after) is expected


def test_a_server_error_is_a_fault_also_where_both_give_it() -> None:
    found = only(author(page(status=500)), machine(page(status=500)))
    assert found.verdict is FAULT and "also with the author's server" in found.sentence
    assert "{path: /page, status: 500}" in found.cure
    assert verdict(None, page(status=503)) is FAULT
    assert verdict(None, page()) is SAME


@pytest.mark.parametrize(
    ("before", "after", "visitors", "expected"),
    [
        (page(), failed("refused"), 1, FAULT),
        (None, failed("timeout"), 1, FAULT),
        (page(), failed("timeout"), 1, FAULT),
        (page(), failed("timeout"), 20, NOTE),
        (page(), failed("reset"), 20, NOTE),
        (page(), failed("refused"), 20, FAULT),
        (page(), failed("reset"), 1, FAULT),
        (failed("timeout"), failed("timeout"), 1, NOTE),
        (failed("timeout"), page(), 1, SAME),
    ],
)
def test_no_answer_is_a_fault(before: Answer | None, after: Answer, visitors: int, expected: Verdict) -> None:
    assert only(before and author(before), machine(after, visitors=visitors)).verdict is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (CSS, CSS, SAME),
        (CSS, replace(CSS, type="text/plain", kind="text"), FAULT),
        (page(), page(like=JSON), FAULT),
        (page(like=JSON), page(), FAULT),
        (page(), page(kind="empty", length=0), FAULT),
        (JS, replace(JS, type="application/javascript"), SAME),
        (page("/a.map", JSON), page("/a.map", JSON, type="application/octet-stream"), NOTE),
        (CSS, replace(CSS, type="application/octet-stream"), FAULT),
        (page(), page(charset="latin-1"), NOTE),
        (CSS, replace(CSS, charset="utf-8"), SAME),
        (missing(like=JSON), missing(), NOTE),
        (missing(), missing(charset=""), SAME),
    ],
)  # fmt: skip
def test_another_type_or_kind_of_body_is_a_fault(before: Answer, after: Answer, expected: Verdict) -> None:
    assert verdict(before, after) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (to("/login?next=/"), to("/login?next=/page"), SAME),
        (to("/login"), to("/welcome"), FAULT),
        (to("/item/17"), to("/item/4"), SAME),
        (to("/s/4f1cc20b9a/start"), to("/s/77ab1e0d42/start"), SAME),
        (to("/in", origin="other", host="accounts.example"), to("/in", origin="other", host="accounts.example"), SAME),
        (to("/in", origin="other", host="accounts.example"), to("/in", origin="other", host="other.example"), NOTE),
        (to("/a"), to("/a", origin="other", host="localhost"), FAULT),
        (to("/a"), to("/a", origin="other", host="127.0.0.1"), FAULT),
        (to("/a"), to("/a", origin="http", host="shop.example"), NOTE),
        (to("/a", origin="other", host="localhost"), to("/a", origin="other", host="localhost"), FAULT),
        ((to("/red"), to("/blue")), to("/green"), SAME),
    ],
)
def test_another_target_of_a_redirect_is_a_fault(before: Any, after: Answer, expected: Verdict) -> None:
    assert verdict(before, after) is expected


def test_a_redirect_to_this_computer_is_a_fault_also_on_a_machine_without_a_name() -> None:
    here = to("/a", origin="other", host="localhost")
    assert only(author(to("/a")), machine(here, host="localhost")).verdict is FAULT


def made_anew(first: Answer, second: Answer) -> Verdict:
    """The verdict on a page of the author's that the machine lacks; another page leads there, asked twice."""
    leaf, beyond = page("/visit/4", via="link", source="/page"), page("/visit/4/raw", via="link", source="/visit/4")
    record = author(page("/", links="1", via="seed"), replace(first, via="link", source="/"), leaf, beyond)
    record = record.joined(author(page("/", links="1"), second, leaf, beyond))
    (one,) = {only(record, machine(missing(path))).verdict for path in ("/visit/4", "/visit/4/raw")}
    return one


def test_a_page_that_the_crawl_itself_made_is_not_missed() -> None:
    assert made_anew(page(links="4"), page(links="6")) is NOTE
    assert made_anew(to("/visit/4"), to("/visit/5")) is NOTE
    # A redirect to a login, say, with another token.
    assert made_anew(to("/visit/4?token=1"), to("/visit/4?token=2")) is FAULT
    assert made_anew(page(links="4"), page(links="4")) is FAULT
    assert made_anew(page(links="4"), failed("timeout")) is FAULT


def test_a_file_of_a_page_with_other_links_each_time_is_missed() -> None:
    style = replace(CSS, via="asset", source="/page")
    record = author(page(links="4"), style).joined(author(page(links="6"), style))
    assert only(record, machine(missing(CSS.path))).verdict is FAULT


def test_html_for_a_static_file_is_a_fault() -> None:
    fallback = page(CSS.path, title="Shop")
    assert verdict(CSS, fallback) is FAULT
    assert "`static`" in only(author(CSS), machine(fallback)).cure
    assert verdict(None, replace(fallback, via="asset")) is FAULT
    assert verdict(None, replace(fallback, via="link")) is SAME
    source = page("/repository/app.js", title="app.js")
    assert verdict(source, source) is SAME


def test_a_title_of_another_page_is_a_fault() -> None:
    shop, cart = page("/", title="Shop"), page("/cart", title="Cart")
    assert only(author(shop, cart), machine(shop, cart)).verdict is SAME
    assert only(author(shop, cart), machine(shop, replace(cart, title="Shop"))).verdict is FAULT
    assert only(author(shop, cart), machine(shop, replace(cart, title="Error: no such table"))).verdict is FAULT
    assert only(author(shop, cart), machine(shop, replace(cart, title="Your cart"))).verdict is NOTE


def test_random_timed_and_tokened_pages_do_not_fail() -> None:
    before = author(
        page("/clock", title="12:03:59 - 4 visitors"), page("/form", title="Form", sha256="token 1"),
        page("/ab", title="Red"), page("/ab", title="Blue"), page("/red", title="Green"),
        page("/lucky"), to("/item/1", "/lucky"), missing("/flaky"), page("/flaky"),
        page("/captcha.png", CSS, type="image/png", kind="image"),
        page("/captcha.png", CSS, type="image/png", kind="image", sha256="other", length=6),
        page("/either"), page("/either", JSON),
    )  # fmt: skip
    after = machine(
        page("/clock", title="23:59:01 - 17 visitors"), page("/form", title="Form", sha256="token 2", length=8),
        page("/ab", title="Green"), page("/red", title="Green"), to("/item/2", "/lucky"), missing("/flaky"),
        page("/captcha.png", CSS, type="image/png", kind="image", sha256="third", length=7), page("/either", JSON),
    )  # fmt: skip
    assert {(each.path, each.verdict) for each in compare(before, [after]) if each.verdict is FAULT} == set()


def test_static_files_have_the_same_bytes() -> None:
    assert verdict(CSS, replace(CSS, sha256="other")) is FAULT
    assert verdict(CSS, replace(CSS, length=6)) is FAULT
    made = replace(CSS, validator=False)
    assert verdict(made, replace(made, sha256="other")) is SAME
    varying = (CSS, replace(CSS, sha256="again"))
    assert verdict(varying, replace(CSS, sha256="other")) is SAME
    stream = replace(CSS, end="stream", sha256="")
    assert verdict(CSS, stream) is NOTE


def test_an_answer_that_breaks_off_is_a_fault() -> None:
    assert verdict(page(), page(end="broken")) is FAULT
    assert verdict(page(end="broken"), page(end="broken")) is SAME
    assert verdict(page(end="stream"), page(end="stream")) is SAME


def test_a_debug_page_on_the_machine_is_a_fault() -> None:
    assert verdict(None, missing(debug="Django")) is FAULT
    assert verdict(missing(debug="Django"), missing(debug="Django")) is FAULT
    assert verdict(missing(debug="Django"), missing()) is SAME
    assert verdict(None, page(status=403, debug="traceback")) is FAULT


def test_the_author_s_own_debug_page_tells_nothing_of_the_page() -> None:
    welcome = page("/", debug="Django", title="The install worked successfully!")
    assert verdict(welcome, missing("/")) is NOTE


def test_the_author_s_own_debug_page_tells_nothing_by_head_either() -> None:
    welcome = page("/", debug="Django", title="The install worked successfully!")
    record = author(welcome, replace(welcome, method="HEAD", debug="", title="", kind="empty"))
    differences = compare(record, [machine(missing("/"), missing("/", method="HEAD", kind="empty"))])
    assert {difference.verdict for difference in differences} == {NOTE, SAME}


def test_an_answer_that_time_cut_off_before_its_body_is_no_fault_for_many_visitors() -> None:
    cut = page(kind="empty", end="stream", sha256="")
    assert only(author(page()), machine(cut, visitors=20)).verdict is NOTE
    assert only(author(page()), machine(cut)).verdict is FAULT


def test_another_visitor_s_answer_is_a_fault() -> None:
    own, foreign, both = (page(own=a, foreign=b) for a, b in ((True, False), (False, True), (True, True)))
    assert verdict(page(), own) is SAME
    assert verdict(page(), foreign) is FAULT
    assert verdict(None, foreign) is FAULT
    assert verdict(page(), both) is NOTE
    assert verdict((page(), foreign), foreign) is NOTE
    twenty = machine(*(page(visitor=number, own=number > 2, foreign=number <= 2) for number in range(20)), visitors=20)
    found = only(author(page()), twenty)
    assert found.verdict is FAULT and found.sentence.endswith("(3 of 20 visitors)")


def test_another_page_in_the_answer_of_one_of_many_visitors_is_a_fault() -> None:
    shop, cart = page("/", title="Shop"), page("/cart", title="Cart")
    answers = [replace(cart, visitor=number, title="Shop" if number == 7 else "Cart") for number in range(20)]
    assert only(author(shop, cart), machine(*answers, visitors=20)).verdict is FAULT


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, missing("/", 400), FAULT),
        (missing("/", 400), missing("/", 400), FAULT),
        (missing(status=400), missing(status=400), SAME),
        (to("/", "/"), to("/", "/", loop=True), FAULT),
        (None, to("/a", "/", loop=True), FAULT),
        (to("/a", "/"), to("/a", "/"), SAME),
        (missing("/"), missing("/"), NOTE),
        (missing("/", 405), missing("/", 405), NOTE),
        (None, missing("/"), NOTE),
        (page("/"), missing("/"), FAULT),
        (page("/"), missing("/", 405), FAULT),
        (missing("/", 401), missing("/", 401), NOTE),
        (None, missing("/", 403), NOTE),
        (page("/"), page("/"), SAME),
    ],
)
def test_the_front_page_is_judged_by_itself(before: Answer | None, after: Answer, expected: Verdict) -> None:
    assert verdict(before, after) is expected


def test_no_front_page_is_no_note_where_a_health_path_is_named() -> None:
    records = author(missing("/"), page("/up")), machine(missing("/"), page("/up"))
    assert only(*records).verdict is NOTE and "check.health" in only(*records).cure
    assert only(*records, health="/up").verdict is SAME


def test_a_page_of_the_recipe_must_answer() -> None:
    assert verdict(page(), page(), pages=[Page(path="/page")]) is SAME
    assert verdict(missing(), missing(), pages=[Page(path="/page")]) is FAULT
    assert verdict(page(), to("/elsewhere"), pages=[Page(path="/page")]) is SAME
    assert verdict(page(), page(like=JSON), pages=[Page(path="/page")]) is FAULT
    found = only(author(missing()), machine(missing(status=401)), pages=[Page(path="/page")])
    assert "{path: /page, status: 401}" in found.cure


def test_a_status_of_the_recipe_wins() -> None:
    for status in (401, 404, 500):
        pages = [Page(path="/page", status=status)]
        assert verdict(page(), missing(status=status), pages=pages) is SAME
        assert verdict(page(), page(), pages=pages) is FAULT
    assert verdict(page("/"), missing("/"), pages=[Page(path="/", status=404)]) is SAME
    assert verdict(page(), missing(debug="Django"), pages=[Page(path="/page", status=404)]) is FAULT
    assert verdict(None, page("/caf%C3%A9", status=500), pages=[Page(path="/café", status=500)]) is SAME


def test_a_page_of_the_recipe_that_nobody_asked_for_is_a_fault() -> None:
    assert verdict(page(), page(), pages=[Page(path="/other")]) is FAULT
    assert verdict(page(), page(), health="/up") is FAULT


def test_a_redirect_to_https_is_followed() -> None:
    http = machine(to("/page", origin="https", host="shop.example"), scheme="http")
    assert only(author(page()), http, machine(page())).verdict is SAME
    assert only(author(page()), http).verdict is SAME
    found = compare(author(page()), [http, machine(missing())])
    assert [(each.verdict, each.scheme_host) for each in found] == [
        (FAULT, "http://shop.example"), (FAULT, "https://shop.example"),
    ]  # fmt: skip
    elsewhere = machine(to("/other", origin="https", host="shop.example"), scheme="http")
    assert only(author(page()), elsewhere, machine(page())).verdict is FAULT


def test_the_author_s_redirect_to_https_tells_nothing_of_the_page() -> None:
    before = to("/page", origin="https", host="127.0.0.1")
    assert verdict(before, page()) is SAME
    assert verdict(before, page(status=500)) is FAULT


def test_a_loop_between_http_and_https_is_a_fault() -> None:
    up = machine(to("/", "/", origin="https", host="shop.example"), scheme="http")
    down = machine(to("/", "/", origin="http", host="shop.example"))
    assert {each.verdict for each in compare(None, [up, down])} == {FAULT}
    once = machine(to("/in", "/"), page("/in"))
    assert {each.verdict for each in compare(None, [up, once])} == {SAME}


def test_without_the_author_s_record_a_broken_link_is_a_note() -> None:
    assert verdict(None, missing(via="link", source="/")) is NOTE
    assert verdict(None, missing("/bake-no-such-page-7f3a", via="missing")) is SAME


def test_the_answer_to_head_is_compared_by_its_status() -> None:
    head = replace(HTML, method="HEAD", kind="empty")
    assert verdict((HTML, head), replace(head, sha256="b")) is SAME
    assert verdict((HTML, head), replace(head, status=405)) is FAULT
    assert verdict((HTML, replace(head, status=405)), replace(head, status=405)) is SAME


def test_a_crawl_that_ended_early_is_noted() -> None:
    assert only(author(page()), machine(page(), complete=False, seconds=60.0)).sentence.endswith("(60 s).")
    assert only(author(page()), machine(page())).verdict is SAME


def test_two_crawls_of_the_author_s_server_are_joined() -> None:
    joined = author(page()).joined(replace(author(page()), complete=False, visitors=20))
    assert (len(joined.answers), joined.complete, joined.visitors) == (2, False, 20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/item/17?x=1", "/item/0"), ("Cart (3)", "cart (0)"), ("/s/4f1cc20b9a", "/s/0"), ("/catalogue", "/catalogue")],
)
def test_numbers_and_tokens_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


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
