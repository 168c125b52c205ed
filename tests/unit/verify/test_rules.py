"""The rules one by one: a case in which a rule finds a fault or a note, and one in which it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sample_records import (
    BMP,
    CSS,
    FAULT,
    JS,
    JSON,
    NOTE,
    SAME,
    author,
    failed,
    machine,
    missing,
    only,
    page,
    to,
    verdict,
)

from bake.config.sections import Page
from bake.verify.comparison import compare
from bake.verify.record import Answer
from bake.verify.rules import Verdict, masked


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
        (page(), missing(status=429), NOTE),
        (missing(), missing(status=429), NOTE),
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


def test_a_server_that_knows_no_head_is_no_fault() -> None:
    head = replace(page(status=501), method="HEAD")
    differences = compare(author(page(), head), [machine(page(), head)])
    assert {difference.verdict for difference in differences} == {SAME}
    assert {difference.verdict for difference in compare(None, [machine(page(), head)])} == {SAME}
    differences = compare(author(page(), replace(page(), method="HEAD")), [machine(page(), head)])
    assert {difference.path: difference.verdict for difference in differences}["HEAD /page"] is FAULT


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
        (page(seconds=6.0), failed("timeout"), 1, NOTE),
        (page(seconds=6.0), failed("refused"), 1, FAULT),
        (failed("timeout"), page(), 1, SAME),
    ],
)
def test_no_answer_is_a_fault(before: Answer | None, after: Answer, visitors: int, expected: Verdict) -> None:
    assert only(author(before) if before else None, machine(after, visitors=visitors)).verdict is expected


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
        (page("/a.bmp", BMP), page("/a.bmp", BMP, type="image/x-ms-bmp"), NOTE),
        (page("/a.bmp", BMP), page("/a.bmp", BMP, type="image/x-ms-bmp", sha256="5" * 64), FAULT),
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


def test_without_the_author_s_record_a_broken_link_is_a_note() -> None:
    assert verdict(None, missing(via="link", source="/")) is NOTE
    assert verdict(None, missing("/bake-no-such-page-7f3a", via="missing")) is SAME


def test_an_asset_that_neither_server_has_is_a_note() -> None:
    asset = missing("/static/dist/app.css", via="asset", source="/")
    assert verdict(asset, asset) is NOTE
    assert verdict(replace(asset, via="link"), replace(asset, via="link")) is SAME


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/item/17?x=1", "/item/0"), ("Cart (3)", "cart (0)"), ("/s/4f1cc20b9a", "/s/0"), ("/catalogue", "/catalogue")],
)
def test_numbers_and_tokens_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
