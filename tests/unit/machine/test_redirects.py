"""Redirects between the names with and without www, by the machine's nginx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from machine_nginx import MachineNginx, certificate_files

from bake.bundle import release_files
from bake.config.recipe import Recipe

NAMES = ("shop.example", "www.shop.example", "other.example")
LIVE = "etc/letsencrypt/live/app"


def site(root: Path, target: str, files: Mapping[str, str], names: tuple[str, ...] = NAMES) -> MachineNginx:
    """The machine of an app with this `redirect`. Its visitors come from another address than the machine's own."""
    recipe = Recipe.model_validate({"wsgi": "app:app", "domains": list(NAMES), "redirect": target})
    made = release_files.files(root, recipe, [])
    name = "settings/nginx/redirect.conf"
    nginx = MachineNginx(root / "root", names, {f"srv/app/current/{name}": made[name].text, **files})
    nginx.source = "127.0.0.2"
    return nginx


@pytest.mark.parametrize(
    ("target", "name", "location"),
    [
        ("www", "shop.example", "http://www.shop.example/a?b=c"), ("www", "www.shop.example", None),
        ("apex", "www.shop.example", "http://shop.example/a?b=c"), ("apex", "shop.example", None),
        ("www", "other.example", None), ("apex", "WWW.SHOP.example", "http://shop.example/a?b=c"),
    ],
)  # fmt: skip
def test_a_name_leads_to_its_other_form(target: str, name: str, location: str | None, tmp_path: Path) -> None:
    with site(tmp_path, target, {}) as nginx:
        answer = nginx.get("/a?b=c", name)
    assert (answer.status, answer.headers.get("location")) == ((301, location) if location else (200, None))


def test_a_visitor_comes_to_https_at_the_same_name_first(tmp_path: Path) -> None:
    with site(tmp_path, "apex", certificate_files(*NAMES)) as nginx:
        name = "www.shop.example"
        assert nginx.get("/a", name).headers["location"] == "https://www.shop.example/a"
        answer = nginx.get("/a", name, tls=name)
        assert (answer.status, answer.headers["location"]) == (301, "https://shop.example/a")
        assert answer.headers["strict-transport-security"]
        assert nginx.get("/a", "shop.example", tls="shop.example").status == 200


def test_challenges_and_the_machine_s_own_checks_are_not_redirected(tmp_path: Path) -> None:
    challenge = {"var/lib/letsencrypt/http/.well-known/acme-challenge/a": "proof"}
    with site(tmp_path, "www", challenge) as nginx:
        assert nginx.get("/.well-known/acme-challenge/a", "shop.example").body == b"proof"
        nginx.source = "127.0.0.1"
        assert nginx.get("/", "shop.example").status == 200


def test_names_of_a_launch_that_the_recipe_does_not_have_are_not_redirected(tmp_path: Path) -> None:
    with site(tmp_path, "www", {}, ("new.example", "www.new.example")) as nginx:
        assert nginx.get("/", "new.example").status == 200
