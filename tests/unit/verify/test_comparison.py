"""The comparison of whole records: several answers for a path, other names and schemes, and the crawl itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_records import CSS, FAULT, HTML, JSON, NOTE, SAME, author, failed, machine, missing, only, page, to, verdict

from bake.config.sections import Page
from bake.verify.comparison import compare
from bake.verify.record import Answer
from bake.verify.rules import Verdict


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


@pytest.mark.parametrize(
    "path", ["/edit/1f7d6a56-d908-4fc4-9ff7-5a9e11bace30", "/rss?token=ee5c98fc96c4008eeca7e5548b238971"]
)
@pytest.mark.parametrize("answer", [to("/"), missing("/"), page("/", status=500)])
def test_the_data_of_the_author_s_server_are_not_missed(path: str, answer: Answer) -> None:
    """As changedetection.io, which makes two watches with random ids at its first start."""
    for own in (page(path), to("/", path)):
        record = author(page("/"), replace(own, via="link", source="/"))
        both_redirect = own.location and answer.location
        assert only(record, machine(replace(answer, path=path))).verdict is (SAME if both_redirect else NOTE)
    # The machine's own ids, names of files with a hash, and addresses of bake.yaml are judged.
    assert only(author(page("/")), machine(page(path, status=500))).verdict is FAULT
    for via in ("asset", "seed"):
        record = author(page("/"), page(path, via=via, source="/"))
        assert only(record, machine(missing(path))).verdict is FAULT


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


def test_the_author_s_own_debug_page_tells_nothing_of_the_page() -> None:
    welcome = page("/", debug="Django", title="The install worked successfully!")
    assert verdict(welcome, missing("/")) is NOTE


def test_the_author_s_own_debug_page_tells_nothing_by_head_either() -> None:
    welcome = page("/", debug="Django", title="The install worked successfully!")
    record = author(welcome, replace(welcome, method="HEAD", debug="", title="", kind="empty"))
    differences = compare(record, [machine(missing("/"), missing("/", method="HEAD", kind="empty"))])
    assert {difference.verdict for difference in differences} == {NOTE, SAME}


def test_another_page_in_the_answer_of_one_of_many_visitors_is_a_fault() -> None:
    shop, cart = page("/", title="Shop"), page("/cart", title="Cart")
    answers = [replace(cart, visitor=number, title="Shop" if number == 7 else "Cart") for number in range(20)]
    assert only(author(shop, cart), machine(*answers, visitors=20)).verdict is FAULT


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


def test_the_answer_to_head_is_compared_by_its_status() -> None:
    head = replace(HTML, method="HEAD", kind="empty")
    assert verdict((HTML, head), replace(head, sha256="b")) is SAME
    assert verdict((HTML, head), replace(head, status=405)) is FAULT
    assert verdict((HTML, replace(head, status=405)), replace(head, status=405)) is SAME


def test_a_crawl_that_ended_early_is_noted() -> None:
    assert only(author(page()), machine(page(), complete=False, seconds=60.0)).sentence.endswith("(60 s).")
    assert only(author(page()), machine(page())).verdict is SAME
