"""The recipe as a whole: the example, names, packages and the app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY
from yaml_files import faults, read

from bake.config import sections
from bake.config.recipe import Recipe
from bake.config.sections import Dns

EXAMPLE = REPOSITORY / "bake.example.yaml"


def test_the_example_shows_every_key_and_is_valid(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "requirements.txt").touch()
    example = read(tmp_path, EXAMPLE.read_text())
    # These exclude the folder's own app, and `wsgi`.
    assert example.model_fields_set == set(Recipe.model_fields) - {"app", "asgi", "run", "port"}
    assert read(tmp_path, "app: {package: httpbin==0.10.4}").app
    assert example.limits.model_fields_set == set(sections.Limits.model_fields)
    assert example.check.model_fields_set == set(sections.Check.model_fields)
    assert example.certificate.model_fields_set == set(sections.Certificate.model_fields)
    assert example.env["FEATURE_X"] == "on"
    assert example.aws is not None and example.aws.model_fields_set == set(sections.Aws.model_fields)


def test_an_app_has_one_entry(tmp_path: Path) -> None:
    assert read(tmp_path, "asgi: main:app").entry == "main:app"
    assert read(tmp_path, "wsgi: main:app").entry == "main:app"
    (fault,) = faults(tmp_path, "wsgi: app:app\nasgi: main:app\n")
    assert fault.startswith("asgi: ") and "has `wsgi` too" in fault
    (fault,) = faults(tmp_path, "asgi: app:app\nrun: python3 app.py\n")
    assert fault.startswith("run: ") and "has `asgi` too" in fault
    (fault,) = faults(tmp_path, "asgi: production.ini\n")
    assert "`wsgi: production.ini`" in fault


def test_a_port_belongs_to_a_program_and_is_no_reserved_one(tmp_path: Path) -> None:
    read_recipe = read(tmp_path, "run: python3 app.py\nport: 5000\n")
    assert (read_recipe.entry, read_recipe.port, read_recipe.is_http) == ("python3 app.py", 5000, True)
    (fault,) = faults(tmp_path, "wsgi: app:app\nport: 5000\n")
    assert "`run`" in fault
    (fault,) = faults(tmp_path, "run: python3 app.py\nport: 80\n")
    assert fault.startswith("port: ")


def test_a_key_that_root_alone_has_is_none_of_the_app_s_values(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        "certificate: {keep: /srv/keep}\nsecrets: [A, CERTIFICATE_KEY]\nenv: {CERTIFICATE_KEY: x}\nname: A b\n",
    )
    assert [line.partition(":")[0] for line in said] == ["name", "env", "secrets"]
    assert all("CERTIFICATE_KEY is the key for certificate.keep" in line for line in said[1:])
    # An app that has a name for itself may have it.
    assert read(tmp_path, "secrets: [CERTIFICATE_KEY]").secrets == ("CERTIFICATE_KEY",)
    assert faults(tmp_path, "certificate: {keep: keep}\nsecrets: [CERTIFICATE_KEY]\n")


DNS = "certificate: {dns: {server: 192.0.2.53, key: a-key}}\n"


def test_a_wildcard_is_a_name_where_its_zone_proves_it(tmp_path: Path) -> None:
    names = 'domains: [a.example, "*.A.example."]\n'
    found = read(tmp_path, DNS + names)
    assert found.domains == ("a.example", "*.a.example")
    assert found.certificate.dns == Dns(server="192.0.2.53", key="a-key")
    assert faults(tmp_path, names) == [
        "domains[1]: '*.A.example.' is a wildcard, whose certificate needs control of the DNS; list each name or set "
        "certificate.dns"
    ]
    # Who asks for the zone, and errs, is not told to do so.
    said = faults(tmp_path, names + "certificate: {dns: {server: ns.a.example, key: a key, algorithm: MD5, serv: x}}")
    assert said == [
        "certificate.dns.server: 'ns.a.example' is not an IP address; certbot does not accept a host name here",
        "certificate.dns.key: 'a key' is not a TSIG key's name",
        "certificate.dns.algorithm: 'MD5' is not one of: HMAC-SHA224, HMAC-SHA256, HMAC-SHA384, HMAC-SHA512",
        "certificate.dns.serv: is not a key; did you mean 'server'?",
    ]
    for name in ("*.example", "*", "*a.example", "*.*.a.example"):
        (fault,) = faults(tmp_path, f'{DNS}domains: ["{name}"]')
        assert fault.startswith("domains[0]: ")


def test_what_certificates_want_is_among_the_machine_s_packages(tmp_path: Path) -> None:
    assert read(tmp_path, "packages: [libpq5]").debian_packages == ("libpq5",)
    keep = "certificate: {keep: LABEL=keep}\n"
    assert read(tmp_path, keep).debian_packages == ("age",)
    assert read(tmp_path, f"packages: [age, libpq5]\n{keep}").debian_packages == ("age", "libpq5")
    plugin = sections.OPTIONS["dns"].package
    assert read(tmp_path, f"packages: [libpq5]\n{DNS}").debian_packages == ("libpq5", plugin)
    timer = "timers: {tidy: {run: tidy, when: daily Europe/Berlin}}\n"
    assert read(tmp_path, timer).debian_packages == ("tzdata",)


def test_names_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    found = read(tmp_path, "domains: [Shop.Example., xn--bcher-kva.example]\nstatic: {/assets/: ./public/}\n")
    assert found.domains == ("shop.example", "xn--bcher-kva.example")
    assert found.static == {"/assets": "public"}


def test_a_dump_is_stable_and_reads_back(tmp_path: Path) -> None:
    text = "limits: {body: 5M, workers: 2}\ndomains: [a.example]\nenv: {B: x, A: y}\nrequirements: [flask]\n"
    found = read(tmp_path, text)
    dump = found.model_dump(mode="json")
    assert Recipe.model_validate(json.loads(json.dumps(dump))) == found


@pytest.mark.parametrize(
    "text", ["app:app", "a.b:make()", "app:create('x', debug=True)", "app:dash.server", "app:f().g"]
)
def test_what_may_stand_for_the_app(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"wsgi: {json.dumps(text)}\n").wsgi == text


@pytest.mark.parametrize(
    "text", ["app", "app:", "a b:app", "app:create(open('x'))", "app:a[0]", "app:f(*x)", "../p.ini"]
)
def test_what_may_not(tmp_path: Path, text: str) -> None:
    assert len(faults(tmp_path, f"wsgi: {json.dumps(text)}\n")) == 1


@pytest.mark.parametrize(
    ("target", "led"),
    [("www", {"a.example": "www.a.example"}), ("apex", {"www.a.example": "a.example"})],
)
def test_a_name_that_occurs_in_both_forms_is_redirected(target: str, led: dict[str, str], tmp_path: Path) -> None:
    recipe = read(tmp_path, f"domains: [A.example, b.example, www.a.example]\nredirect: {target}\n")
    assert recipe.redirects == led and read(tmp_path, "").redirects == {}


def test_what_is_outside_of_a_key_s_range_is_refused(tmp_path: Path) -> None:
    text = "domains: [www.a.example]\nredirect: apex\ntimezone: Berlin\nlocale: german\nswap: 1M\n"
    assert faults(tmp_path, text) == [
        "redirect: `domains` needs both a.example and www.a.example",
        "timezone: 'Berlin' is not a time zone, such as Europe/Berlin",
        "locale: 'german' is not a locale, such as de_DE.UTF-8",
        "swap: '1M' is out of range",
    ]
    assert faults(tmp_path, "redirect: sideways\n") == ["redirect: input should be 'www' or 'apex'"]
