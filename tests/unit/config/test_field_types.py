"""What a value may be; as keys of a recipe they are in test_recipe.py."""

from __future__ import annotations

import ast

import pytest

from bake.config import field_types


@pytest.mark.parametrize("text", ["app", "app.server", "make()", "make('x', debug=True).server", "a.b(1).c(None)"])
def test_an_app_s_expression_is_names_and_calls_with_plain_values(text: str) -> None:
    assert field_types.expression(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("text", ["1", "a[0]", "f(g())", "f(*a)", "f(**a)", "lambda: 1", "a + b", "f(x for x in y)"])
def test_and_nothing_else(text: str) -> None:
    assert not field_types.expression(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(("text", "shortest"), [("a/./b/", "a/b"), ("static", "static")])
def test_a_path_inside_is_made_shortest(text: str, shortest: str) -> None:
    assert field_types.inside(text) == shortest


@pytest.mark.parametrize("text", ["..", "a/../../b", "/etc", ".", "", "a b", "a;b", 'a"b', "a$b"])
def test_a_path_that_leads_out_or_that_nginx_would_misread(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path inside"):
        field_types.inside(text)


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
