"""What a value may be; as keys of a recipe they are in test_recipe.py."""

from __future__ import annotations

import ast

import pytest

from bake.config import field_types
from bake.host import programs


@pytest.mark.parametrize("text", ["app", "app.server", "make()", "make('x', debug=True).server", "a.b(1).c(None)"])
def test_an_app_s_expression_is_names_and_calls_with_plain_values(text: str) -> None:
    assert field_types.expression(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("text", ["1", "a[0]", "f(g())", "f(*a)", "f(**a)", "lambda: 1", "a + b", "f(x for x in y)"])
def test_and_nothing_else(text: str) -> None:
    assert not field_types.expression(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(("text", "shortest"), [("a/./b/", "a/b"), ("static", "static")])
def test_a_path_inside_is_made_shortest(text: str, shortest: str) -> None:
    assert field_types.inner_path(text) == shortest


@pytest.mark.parametrize("text", ["..", "a/../../b", "/etc", ".", "", "a b", "a;b", 'a"b', "a$b"])
def test_a_path_that_leads_out_or_that_nginx_would_misread(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path inside"):
        field_types.inner_path(text)


@pytest.mark.parametrize("name", ["setup", "configure", "certificate", "Daily", "-x", "a.b"])
def test_a_job_does_not_take_a_name_of_ours(name: str) -> None:
    with pytest.raises(ValueError, match=r"one of the machine's own jobs|not a job name"):
        field_types.timer_name(name)


@pytest.mark.parametrize("text", ["shop.example", "a-b.c.example", "Shop.Example.", "xn--bcher-kva.example"])
def test_a_domain(text: str) -> None:
    assert field_types.domain(text) == text.lower().removesuffix(".")


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("shop.d", "name$"),  # which app-configure would refuse, too
        ("shop.1a", "name$"),
        ("a.example,b.example", "for several names, write a list"),
        ("a.example b.example", "for several names, write a list"),
        ("a.example/shop", "write only the name: a.example$"),
        ("a.example:443", "write only the name: a.example$"),
        ("localhost", "it has no dot$"),
    ],
)
def test_what_is_no_domain_says_what_to_write(text: str, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        field_types.domain(text)


def test_an_authority() -> None:
    for text in ("staging", "https://acme.example/directory"):
        assert field_types.authority(text) == text
    for text in ("stagging", "letsencrypt", "http://acme.example/directory"):
        with pytest.raises(ValueError, match="neither staging nor"):
            field_types.authority(text)


def test_where_a_certificate_is_kept() -> None:
    for text in (
        "/srv/keep",
        "/mnt/nfs-1/app.d",
        "LABEL=keep",
        "LABEL=Keep_1.a",
        "s3://a-bucket",
        "s3://b0c/shop/tls.1",
    ):
        assert field_types.keep(text) == text
    assert field_types.keep("/srv/keep/") == "/srv/keep"
    assert field_types.keep("s3://a-bucket/") == "s3://a-bucket"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("keep", "neither an absolute folder, nor LABEL=name"),
        ("s3://", "not of the form s3://bucket/prefix"),
        ("s3://A-Bucket", "not of the form s3://bucket/prefix"),
        ("s3://a.bucket/x", "bucket name without dots"),
        ("s3://a-bucket/../x", "not of the form s3://bucket/prefix"),
        ("s3://a-bucket/a b", "not of the form s3://bucket/prefix"),
        ("/", "neither an absolute folder"),
        ("/srv/../etc", "neither an absolute folder"),
        ("/srv/a b", "neither an absolute folder"),
        ("/srv/%i", "neither an absolute folder"),
        ("UUID=3f9c", "not of the form LABEL=keep"),
        ("label=keep", "not of the form LABEL=keep"),
        ("LABEL=", "not of the form LABEL=keep"),
        ("LABEL=a/b", "not of the form LABEL=keep"),
        ("LABEL=seventeen-letters", "not of the form LABEL=keep"),
        ("/tmp/keep", "temporary folder"),
        ("/run/keep", "temporary folder"),
        ("/var/lib/app/keep", "a folder of the app"),
        ("/srv/app", "a folder of the app"),
    ],
)
def test_and_where_it_is_not(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        field_types.keep(text)


#: The examples of systemd.time(7), and other forms that systemd-analyze takes.
CALENDAR = """\
Sat,Thu,Mon..Wed,Sat..Sun|Mon,Sun 12-*-* 2,1:23|Wed *-1|Wed..Wed,Wed *-1|Wed, 17:48|Wed..Sat,Tue 12-10-15 1:2:3|
*-*-7 0:0:0|10-15|monday *-12-* 17:00|Mon,Fri *-*-3,1,2 *:30:45|12,14,13,12:20,10,30|12..14:10,20,30|
mon,fri *-1/2-1,3 *:30:45|03-05 08:05:40|08:05:40|05:40|Sat,Sun 12-05 08:05:40|Sat,Sun 08:05:40|2003-03-05 05:40|
05:40:23.4200004/3.1700005|2003-02..04-05|2003-03-05 05:40 UTC|2003-03-05|03-05|hourly|daily|daily UTC|monthly|weekly|
weekly Pacific/Auckland|yearly|annually|*:2/3|minutely|quarterly|semiannually|biannually|semi-annually|Mon..Fri 22:30|
Thu,Fri 2012-*-1,5 11:12:13|*-*~1|*-02~03|Mon *-05~07/1|Mon-Fri 5:00|Mon,|MON..fri|@1395716396|05:40 utc|daily Japan|
*-*-1,15 4:00 America/New_York|*:0/15|05:40 Etc/GMT+5|Fri|Sunday 3:00"""


@pytest.mark.parametrize("text", CALENDAR.replace("\n", "").split("|"))
def test_a_calendar_expression_that_systemd_takes_is_taken(text: str) -> None:
    assert field_types.calendar(text) == text
    zoned = field_types.in_zone(text, "Europe/Berlin")
    has_own = text.startswith("@") or text.split()[-1] in (
        "UTC", "utc", "Japan", "Pacific/Auckland", "America/New_York", "Etc/GMT+5",
    )  # fmt: skip
    assert zoned == (text if has_own else f"{text} Europe/Berlin") and field_types.in_zone(text, None) == text
    if program := programs.which("systemd-analyze"):
        for expression in (text, zoned):
            assert programs.run([program, "calendar", expression], check=False).status == 0


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "UTC"])
def test_a_time_zone_has_a_name(name: str) -> None:
    assert field_types.timezone(name) == name


@pytest.mark.parametrize("name", ["berlin", "Europe/Nowhere", "+02:00", "/etc/localtime", "../Europe/Berlin", ""])
def test_another_text_is_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        field_types.timezone(name)


@pytest.mark.parametrize(
    ("when", "near"), [("Mon 06:30 Europe/Berln", "Europe/Berlin"), ("daily Mars/Base_One", "Europe/Berlin")]
)
def test_a_calendar_expression_has_a_known_time_zone(when: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{when.split()[-1]}' is not a time zone, such as {near}"):
        field_types.calendar(when)


@pytest.mark.parametrize(
    "text",
    ["sometimes", "every day", "10", "5 minutes", "*/5 * * * *", "at noon", "Mon sometimes", "5:00\nUser=root", ""],
)
def test_text_that_is_no_calendar_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="schedule in the format of"):
        field_types.calendar(text)
