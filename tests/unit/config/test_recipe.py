"""`bake.yaml`: what it may say, and what is said about what it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bake.config import recipe
from bake.config.recipe import Dns, Recipe
from bake.errors import AppFolderError, RecipeError

EXAMPLE = REPOSITORY / "bake.example.yaml"


def read(folder: Path, text: str) -> Recipe:
    (folder / "bake.yaml").write_text(text)
    return recipe.read(folder)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(folder, text)
    assert str(folder / "bake.yaml") in caught.value.message
    return caught.value.details.splitlines()


def test_no_file_is_an_empty_recipe(tmp_path: Path) -> None:
    assert recipe.read(tmp_path) == Recipe()
    assert read(tmp_path, "# nothing yet\n") == Recipe()


def test_the_folder_has_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(AppFolderError, match="does not exist"):
        recipe.read(tmp_path / "nowhere")
    (tmp_path / "app.py").touch()
    with pytest.raises(AppFolderError, match="is not a folder"):
        recipe.read(tmp_path / "app.py")


def test_a_file_under_the_other_ending_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "bake.yml").touch()
    with pytest.raises(RecipeError, match=r"bake\.yml"):
        recipe.read(tmp_path)


def test_the_example_shows_every_key_and_is_valid(tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "requirements.txt").touch()
    example = read(tmp_path, EXAMPLE.read_text())
    assert example.model_fields_set == set(Recipe.model_fields) - {"app"}  # which excludes the folder's own
    assert read(tmp_path, "app: {package: httpbin==0.10.4}").app
    assert example.limits.model_fields_set == set(recipe.Limits.model_fields)
    assert example.check.model_fields_set == set(recipe.Check.model_fields)
    assert example.certificate.model_fields_set == set(recipe.Certificate.model_fields)
    assert example.env["FEATURE_X"] == "on"
    assert example.aws is not None and example.aws.model_fields_set == set(recipe.Aws.model_fields)


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
    assert read(tmp_path, "packages: [libpq5]").debian == ("libpq5",)
    keep = "certificate: {keep: LABEL=keep}\n"
    assert read(tmp_path, keep).debian == ("age",)
    assert read(tmp_path, f"packages: [age, libpq5]\n{keep}").debian == ("age", "libpq5")
    plugin = recipe.OPTIONS["dns"].package
    assert read(tmp_path, f"packages: [libpq5]\n{DNS}").debian == ("libpq5", plugin)


def test_a_page_is_a_path_or_a_path_with_its_status(tmp_path: Path) -> None:
    check = read(tmp_path, "check: {pages: [/pricing, {path: '/api?page=2', status: 401}], crawl: off}").check
    assert check.pages == (recipe.Page(path="/pricing"), recipe.Page(path="/api?page=2", status=401))
    assert check.crawl is False
    assert read(tmp_path, "check: {health: /}").check.crawl is True
    dumped = Recipe(check=check).model_dump(mode="json")
    assert Recipe.model_validate(dumped).check == check


@pytest.mark.parametrize(
    ("pages", "fault"),
    [
        ("/a", "check.pages: should be a list, [/a]"),
        ("[a]", "check.pages[0].path: 'a' is not a path that starts with /"),
        ("[/a, [/b]]", "check.pages[1]: should contain lines of the form key: value"),
        ("[/a, {path: /b, status: 4xx}]", "check.pages[1].status: '4xx' is not a whole number"),
        ("[{path: /b, status: 700}]", "check.pages[0].status: input should be less than or equal to 599"),
        ("[{path: /b, state: 200}]", "check.pages[0].state: is not a key; did you mean 'status'?"),
        ("[{path: /b, zzz: 1}]", "check.pages[0].zzz: is not a key (path, status)"),
        ("[/a, {path: /a, status: 404}]", "check.pages: '/a' is listed twice"),
    ],
)
def test_faults_of_pages_name_the_page(tmp_path: Path, pages: str, fault: str) -> None:
    assert faults(tmp_path, f"check: {{pages: {pages}}}") == [fault]


def test_the_schema_of_pages_takes_texts_and_mappings() -> None:
    text, mapping = recipe.schema()["$defs"]["Check"]["properties"]["pages"]["items"]["anyOf"]
    assert text["type"] == "string"
    assert set(mapping["properties"]) == set(recipe.Page.model_fields) and mapping["required"] == ["path"]


def test_machines_on_ec2_are_asked_for_by_a_key_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "name: a").aws is None and read(tmp_path, "aws:\nname: a").aws is None
    assert read(tmp_path, "aws: {}").aws == recipe.Aws(role=False)
    assert read(tmp_path, "aws: {role: true}").aws == recipe.Aws(role=True)


@pytest.mark.parametrize(("text", "network"), [("on", True), ("true", True), ("off", False), ("no", False)])
def test_the_network_of_a_check_is_off_unless_it_is_on(tmp_path: Path, text: str, network: bool) -> None:
    assert read(tmp_path, "check: {health: /}").check.network is False
    assert read(tmp_path, f"check: {{network: {text}}}").check.network is network
    # An editor reads YAML 1.2, where `on` is a text.
    assert {"on", "off", True, False} == set(recipe.schema()["$defs"]["Check"]["properties"]["network"]["enum"])


def test_scalars_stay_the_text_that_stands_there(tmp_path: Path) -> None:
    found = read(tmp_path, "env: {A: on, B: 0755, C: 12:30, D: 1e3, E: '', F: 2024-01-01, G: 'null'}\nname: 0123\n")
    assert found.env == {"A": "on", "B": "0755", "C": "12:30", "D": "1e3", "E": "", "F": "2024-01-01", "G": "null"}
    assert found.name == "0123"


def test_a_key_with_nothing_under_it_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, "name:\nlimits:\ndomains: ~\nwsgi: null\n") == Recipe()


def test_units(tmp_path: Path) -> None:
    limits = read(tmp_path, "limits: {body: 512k, request: 5m, workers: 3, threads: 8}").limits
    assert (limits.body, limits.request, limits.workers, limits.threads) == (512 * 1024, 300, 3, 8)
    plain = read(tmp_path, "limits: {body: 1000, request: 45}").limits
    assert (plain.body, plain.request, plain.workers) == (1000, 45, "auto")


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
        "sandbox.allow[0]: input should be 'jit'",
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
    ],
)
def test_single_faults(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text)[0].startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}", "app: should be {package: …}, {git: …, commit: …} or {archive: …, sha256: …}"),
        (f"{{git: https://code.example/x, sha256: {'a' * 64}}}", "app: should be {package: …}"),
        (f"{{archive: https://code.example/x.tar, commit: {'a' * 40}}}", "app: should be {package: …}"),
        ("{git: https://code.example/x}", "app: should be {package: …}"),
        ("{git: https://code.example/x, commit: main}", "app.commit: 'main' is not a commit of 40 hexadecimal digits"),
        (f"{{git: https://-x/y, commit: {'a' * 40}}}", "app.git: 'https://-x/y' is not an https URL"),
        (f'{{git: "https://code.example/\\0", commit: {"a" * 40}}}', "app.git: 'https://code.example/\\x00' is not an"),
        (f"{{git: --upload-pack=x, commit: {'a' * 40}}}", "app.git: '--upload-pack=x' is not an https URL"),
        ("{git: https://code.example/x, commit: --upload-pack=x}", "app.commit: '--upload-pack=x' is not a commit"),
        (f"{{git: git@code.example:x, commit: {'a' * 40}}}", "app.git: 'git@code.example:x' is not an https URL"),
        (
            f"{{git: https://me:word@code.example/x, commit: {'a' * 40}}}",
            "app.git: the URL contains a user name or password",
        ),
        (f"{{archive: http://code.example/x, sha256: {'a' * 64}}}", "app.archive: 'http://code.example/x' is not an h"),
        ("{archive: https://code.example/x, sha256: 12}", "app.sha256: '12' is not a SHA-256 of 64 hexadecimal digits"),
        ("{branch: main}", "app.branch: is not a key"),
    ],
)
def test_an_app_has_one_source_that_is_pinned(tmp_path: Path, text: str, fault: str) -> None:
    (said,) = faults(tmp_path, f"app: {text}")
    assert said.startswith(fault)


def test_where_an_app_may_come_from(tmp_path: Path) -> None:
    git = read(tmp_path, f"app: {{git: https://code.example/x, commit: {'1a' * 20}}}")
    assert git.app == recipe.App(git="https://code.example/x", commit="1a" * 20) and git.package is None
    archive = read(tmp_path, f"app: {{archive: 'https://code.example/x.zip', sha256: {'0' * 64}}}")
    assert archive.app == recipe.App(archive="https://code.example/x.zip", sha256="0" * 64)
    assert read(tmp_path, "app: {package: httpbin==0.10.4}").package == "httpbin==0.10.4"


def test_values_are_checked_without_a_file() -> None:
    faults: list[str] = ["an older one"]
    assert recipe.validate({"domains": ["A.example"], "env": {"A": "on"}}, faults).domains == ("a.example",)
    assert faults == ["an older one"]
    assert recipe.validate({"domains": ["a"], "email": "b"}, faults) == Recipe()
    assert [line.partition(":")[0] for line in faults[1:]] == ["domains[0]", "email"]


@pytest.mark.parametrize("text", ["name: [a", "name: a\n\tenv: b\n", "a: b: c\n", "--- a\n--- b\n", "x: *nowhere\n"])
def test_a_syntax_error_has_its_line_and_column(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"bake\.yaml:\d+:\d+: "):
        read(tmp_path, text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bake.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(RecipeError, match="is not YAML text"):
        recipe.read(tmp_path)


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


def test_the_schema_takes_what_people_write() -> None:
    schema = recipe.schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert "string" in schema["$defs"]["Limits"]["properties"]["body"]["type"]
    assert all("description" in schema["properties"][key] for key in ("wsgi", "domains", "static"))


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
    ("text", "said"),
    [
        ("{image: stock.qcow2}", "base.sha512: field required"),
        ("{image: stock.qcow2, sha512: abc}", "base.sha512: 'abc' is not a SHA-512 of 128 hexadecimal digits"),
        ("{image: 'https://-x/a', sha512: abc}", "base.image: 'https://-x/a' is neither an https URL nor a path"),
        (
            "{image: 'http://x.example/a', sha512: abc}",
            "base.image: 'http://x.example/a' is neither an https URL nor a path",
        ),
        ("{iamge: x}", "base.iamge: is not a key; did you mean 'image'?"),
        ("[]", "base: should contain lines of the form key: value"),
    ],
)
def test_faults_of_an_image_are_told_by_its_own_keys(app: Path, text: str, said: str) -> None:
    (app / "bake.yaml").write_text(f"base: {text}\n")
    with pytest.raises(RecipeError) as caught:
        recipe.read(app)
    assert said in caught.value.details
    assert "BaseImage" not in caught.value.details and "release" not in caught.value.details


def test_an_image_may_be_the_base(app: Path) -> None:
    (app / "bake.yaml").write_text(f"base: {{image: ../stock.qcow2, sha512: {'0' * 128}}}\n")
    read = recipe.read(app)
    assert isinstance(read.base, recipe.BaseImage) and not read.base.is_remote
    assert read.target.name == "debian-13"


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
        recipe.read(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path / 'bake.yaml'}:{line}:")
    assert caught.value.message.endswith(f": {problem}")
    assert text.splitlines()[line - 1] in caught.value.details
