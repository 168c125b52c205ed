"""Reading `bake.yaml`: scalars stay text, and all faults come at once, each with its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from yaml_files import faults, read

from bake.config import loader
from bake.config.recipe import Recipe
from bake.errors import AppFolderError, RecipeError


def test_no_file_is_an_empty_recipe(tmp_path: Path) -> None:
    assert loader.read(tmp_path) == Recipe()
    assert read(tmp_path, "# nothing yet\n") == Recipe()


def test_the_folder_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(AppFolderError, match="does not exist"):
        loader.read(tmp_path / "nowhere")
    (tmp_path / "app.py").touch()
    with pytest.raises(AppFolderError, match="is not a folder"):
        loader.read(tmp_path / "app.py")


def test_a_file_under_the_other_ending_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "bake.yml").touch()
    with pytest.raises(RecipeError, match=r"bake\.yml"):
        loader.read(tmp_path)


def test_scalars_stay_the_text_that_stands_there(tmp_path: Path) -> None:
    found = read(tmp_path, "env: {A: on, B: 0755, C: 12:30, D: 1e3, E: '', F: 2024-01-01, G: 'null'}\nname: 0123\n")
    assert found.env == {"A": "on", "B": "0755", "C": "12:30", "D": "1e3", "E": "", "F": "2024-01-01", "G": "null"}
    assert found.name == "0123"


def test_a_key_with_nothing_under_it_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "name:\nlimits:\ndomains: ~\nwsgi: null\n") == Recipe()


def test_all_faults_come_at_once_each_with_its_path(tmp_path: Path) -> None:
    text = """
name: Hello World
wsgi: app.py
requirements: nowhere.txt
index: http://packages.example/
mirror: https://me:secret@mirror.example/
domains: [foo bar, a.*.example, 192.0.2.1, "https://b.example/x", localhost, bücher.example, C.example.]
email: nobody
static: {static: .., /s: nowhere, /a: ., /b: a b}
env: {1A: x, B: , C: [1]}
packages: libpq5
limits: {body: lots, request: 0, workers: some, threads: many, trheads: 1}
check: {health: healthz, network: some, crawl: 1x}
base: debian-11
domain: [a.example]
app: {package: httpbin, git: https://code.example/x}
secrets: [A B]
writable: [/tmp]
setup: [""]
timers: {setup: {run: x, when: daily}, a: {run: x, whne: daily}, b: {run: x, when: $(reboot)}}
sandbox: {allow: [everything]}
certificate: {authority: ftp://x.example}
aws: {rol: yes}
name: again
"""
    assert faults(tmp_path, text) == [
        "name: occurs twice (again on line 24)",
        "app.package: 'httpbin' is not a requirement with one version, such as httpbin==0.10.4",
        "wsgi: 'app.py' is not module:callable, such as app:app",
        "requirements: there is no file 'nowhere.txt'",
        "index: 'http://packages.example/' is not an https URL",
        "mirror: the URL contains a user name or password, which would become part of the image",
        "certificate.authority: 'ftp://x.example' is neither staging nor the https URL of an ACME directory; "
        "remove it to use Let's Encrypt",
        "domains[0]: 'foo bar' is not a domain name; for several names, write a list in bake.yaml or repeat --domain",
        "domains[1]: 'a.*.example' is not a domain name",
        "domains[2]: '192.0.2.1' is an IP address; a certificate needs a name",
        "domains[3]: 'https://b.example/x' is a URL; write only the name: b.example",
        "domains[4]: 'localhost' is not a domain name; it has no dot",
        "domains[5]: 'bücher.example' should be in its ASCII form: xn--bcher-kva.example",
        "email: 'nobody' is not an email address",
        "static.static: 'static' is not a URL prefix such as /static",
        "static.static: '..' is not a path inside the app's folder",
        "static./s: there is no folder 'nowhere'",
        "static./a: '.' is not a path inside the app's folder",
        "static./b: 'a b' is not a path inside the app's folder",
        "env.1A: '1A' is not the name of an environment variable",
        "env.B: has no value",
        "env.C: should be text",
        "secrets[0]: should be only a name, such as A. Set the value on the machine: sudo app-secret NAME < FILE",
        "writable[0]: '/tmp' is not a path inside the app's folder",
        "setup[0]: '' is not a command on one line",
        "timers.setup: 'setup' is the name of one of the machine's own jobs; choose another name",
        "timers.a.when: field required",
        "timers.a.whne: is not a key; did you mean 'when'?",
        "timers.b.when: '$(reboot)' is not a schedule in the format of systemd.time(7), such as hourly, Mon 06:30 or "
        "*:0/15",
        "sandbox.allow[0]: input should be 'jit', 'proc', 'browser' or 'nice'",
        "packages: should be a list, [libpq5]",
        "aws.rol: is not a key; did you mean 'role'?",
        "limits.body: 'lots' is not a number with one of the units K, M, G, such as 10M",
        "limits.request: '0' is out of range",
        "limits.workers: 'some' is neither auto nor a whole number above 0",
        "limits.threads: 'many' is not a whole number",
        "limits.trheads: is not a key; did you mean 'threads'?",
        "check.health: 'healthz' is not a path that starts with /",
        "check.crawl: '1x' is neither on nor off",
        "check.network: 'some' is neither on nor off",
        "base: 'debian-11' is not one of: debian-12, debian-13; for an image, write {image: …, sha512: …}",
        "domain: is not a key; did you mean 'domains'?",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- a\n- b\n", "the file should contain lines of the form key: value"),
        ("limits: 5", "limits: should contain lines of the form key: value"),
        ("static: static", "static: should contain lines of the form key: value"),
        ("domains: [a.example, A.example]", "domains: 'a.example' is listed twice"),
        ("env: &x {A: *x}", "env.A: refers to itself"),
        ("env: {A: 'x', A: 'y'}", "env.A: occurs twice (again on line 1)"),
        ('env: {A: "x\\ny"}', "env.A: 'x\\ny' is not one line of text"),
        ("check: {health: //other.example}", "check.health: '//other.example' is not a path that starts with /"),
        ("zzz: 1", "zzz: is not a key"),
        ("limits: {request: 5 minutes}", "limits.request: '5 minutes' is not a number with one of the units s, m, h, "),
        (
            "release: debian-12",
            "release: should be commands that run once for each release. For the Debian version: base",
        ),
        (
            "release: [debian-13]",
            "release: should be commands that run once for each release. For the Debian version: ",
        ),
        (
            "env: {KEY: x}\nsecrets: [KEY]",
            "secrets: KEY is also in `env`, whose values are not secret; remove it there",
        ),
        (
            "env: {KEY: x}\nrandom_secrets: [KEY]",
            "random_secrets: KEY is also in `env`, whose values are not secret; remove it there",
        ),
        ("secrets: [KEY]\nrandom_secrets: [KEY]", "random_secrets: KEY is also in `secrets`; remove one of them"),
    ],
)
def test_single_faults(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text)[0].startswith(fault)


def test_values_are_checked_without_a_file() -> None:
    faults: list[str] = ["an older one"]
    assert loader.validate({"domains": ["A.example"], "env": {"A": "on"}}, faults).domains == ("a.example",)
    assert faults == ["an older one"]
    assert loader.validate({"domains": ["a"], "email": "b"}, faults) == Recipe()
    assert [line.partition(":")[0] for line in faults[1:]] == ["domains[0]", "email"]


@pytest.mark.parametrize("text", ["name: [a", "name: a\n\tenv: b\n", "a: b: c\n", "--- a\n--- b\n", "x: *nowhere\n"])
def test_a_syntax_error_has_its_line_and_column(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"bake\.yaml:\d+:\d+: "):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name: \xff\n", "invalid start byte"),
        ("name: a\n".encode("utf-16-le"), "character 2 is a zero, as in UTF-16"),
        ("name: a\n".encode("utf-16-be"), "character 1 is a zero, as in UTF-16"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bake.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        loader.read(tmp_path)
    assert caught.value.message == f"{tmp_path}/bake.yaml is not YAML text: {reason}"
    assert caught.value.hint == "Save it as UTF-8."


def test_the_schema_takes_what_people_write() -> None:
    schema = loader.schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert "string" in schema["$defs"]["Limits"]["properties"]["body"]["type"]
    assert all("description" in schema["properties"][key] for key in ("wsgi", "domains", "static"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "secrets: {STRIPE_KEY: hunter2}",
            "secrets: should be a list of names, [STRIPE_KEY]. Set the value on the machine",
        ),
        (
            "secrets: STRIPE_KEY=hunter2",
            "secrets: should be a list of names, [STRIPE_KEY]. Set the value on the machine",
        ),
        ("secrets: [STRIPE_KEY=hunter2]", "secrets[0]: should be only a name, such as STRIPE_KEY. Set the value on"),
        ("secrets:\n- STRIPE_KEY: hunter2", "secrets[0]: should be only a name, such as STRIPE_KEY. Set the value on"),
        ("secrets: [hunter2-live]", "secrets[0]: should be only a name, such as STRIPE_KEY. Set the value on"),
    ],
)
def test_an_error_about_a_secret_says_where_its_value_goes_and_never_repeats_it(
    tmp_path: Path, text: str, fault: str
) -> None:
    (line,) = faults(tmp_path, text)
    assert line.startswith(fault) and "sudo app-secret" in line and "hunter2" not in line


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("domains: [a.example\n", 1, "the list that begins here has no ]"),
        ("domains: [a.example\nenv: {A: b}\n", 1, "the list that begins here has no ], or no comma before line 2"),
        ("# apps\nenv: {A: b\n\n", 2, "the mapping that begins here has no }"),
        ('name: shop\nemail: "me@a.example\n', 2, "the text that begins here has no closing quote"),
        ("domains: [a.example b: c: d]\n", 1, "expected ',' or ']', but got ':'"),
    ],
)
def test_an_unclosed_bracket_is_reported_where_it_opens(tmp_path: Path, text: str, line: int, problem: str) -> None:
    (tmp_path / "bake.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        loader.read(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path / 'bake.yaml'}:{line}:")
    assert caught.value.message.endswith(f": {problem}")
    assert text.splitlines()[line - 1] in caught.value.details
