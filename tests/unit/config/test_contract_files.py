"""The JSON files that bake writes for a machine: their texts, and their schema in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY
from pydantic import ValidationError

from bake.config import loader
from bake.config.contract_files import MachineRecipe, Source
from bake.config.debian import DEBIAN_13
from bake.config.recipe import Recipe

EVERYTHING = """\
wsgi: app:app
domains: [a.example]
static: {/static: static}
secrets: [KEY]
env: {PLAIN: private to the host}
writable: [data]
setup: ["true"]
release: [migrate]
random_secrets: [SESSION_KEY]
timers: {tidy: {run: tidy, when: daily}}
processes: {queue: rq worker}
packages: [git]
django: {settings: site.settings}
limits: {body: 20M, workers: 3}
email: me@a.example
aws: {role: on}
check: {health: /healthz, pages: [/a, {path: /b, status: 401}], crawl: off, env: {KEY: for a bake}}
certificate: {authority: staging, keep: /srv/keep, hsts: off, dns: {server: 192.0.2.1, key: name}}
index: https://private.example/simple
"""


def recipe(folder: Path, text: str) -> Recipe:
    (folder / "bake.yaml").write_text(text)
    (folder / "static").mkdir()
    return loader.read(folder)


def test_a_recipe_on_the_machine_has_only_the_keys_that_the_machine_needs(tmp_path: Path) -> None:
    text = MachineRecipe.of(recipe(tmp_path, EVERYTHING)).to_json()
    values = json.loads(text)
    assert set(values) == set(MachineRecipe.model_fields) - {"asgi", "run", "port", "server"}
    assert values["limits"] == {"body": 20 << 20, "workers": 3}
    assert values["check"] == {
        "health": "/healthz",
        "pages": [{"path": "/a"}, {"path": "/b", "status": 401}],
        "crawl": False,
    }
    assert values["packages"] == ["git", "age", "python3-certbot-dns-rfc2136"]
    assert values["dns"] == {"server": "192.0.2.1", "port": 53, "key": "name", "algorithm": "HMAC-SHA256", "wait": 60}
    assert "private" not in text and "for a bake" not in text
    assert list(values) == sorted(values)


def test_a_recipe_on_the_machine_has_no_default_values(tmp_path: Path) -> None:
    assert MachineRecipe.of(recipe(tmp_path, "limits: {request: 60s}\ncertificate: {}\n")).to_json() == "{}\n"


def test_a_key_that_the_contract_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        MachineRecipe.model_validate({"wsgi": "app:app", "index": "https://private.example"})


def test_a_source_names_one_release_and_leaves_the_other_key_out() -> None:
    source = Source.of(DEBIAN_13, bundle="12ab")
    assert json.loads(source.to_json()) == {
        "release": "debian-13", "machine": "x86_64", "layout": source.layout, "bundle": "12ab",
    }  # fmt: skip
    # After a rollback, the machine writes null. A machine of an older layout may have no `layout`.
    assert Source.model_validate_json('{"release": "debian-12", "machine": "x86_64", "parts": null}').layout == ""


def test_the_schema_has_a_type_for_each_file() -> None:
    schema = json.loads((REPOSITORY / "docs/reference/contract.schema.json").read_text())
    for path, reference in schema["properties"].items():
        definition = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        assert path.startswith("/") and definition["type"] == "object" and definition["description"]
    assert set(schema["$defs"]["MachineRecipe"]["properties"]) == set(MachineRecipe.model_fields)
    assert schema["$defs"]["MachineRecipe"]["additionalProperties"] is False
