"""The sections of `bake.yaml`: their values, and their faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from yaml_files import faults, read

from bake.config import loader, sections
from bake.config.recipe import Recipe
from bake.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "seconds"), [("off", 0), ("1h", 3600), ("30d", 2592000), ("600", 600), ("730d", 63072000)]
)
def test_hsts_is_a_time_or_off(tmp_path: Path, text: str, seconds: int) -> None:
    certificate = read(tmp_path, f"certificate: {{hsts: {text}}}").certificate
    assert certificate.hsts == seconds
    assert Recipe.model_validate(Recipe(certificate=certificate).model_dump(mode="json")).certificate == certificate


@pytest.mark.parametrize("text", ["on", "731d", "0", "soon", "-1"])
def test_a_faulty_hsts_is_refused(tmp_path: Path, text: str) -> None:
    assert "certificate.hsts" in str(faults(tmp_path, f"certificate: {{hsts: {text}}}"))


def test_a_page_is_a_path_or_a_path_with_its_status(tmp_path: Path) -> None:
    check = read(tmp_path, "check: {pages: [/pricing, {path: '/api?page=2', status: 401}], crawl: off}").check
    assert check.pages == (sections.Page(path="/pricing"), sections.Page(path="/api?page=2", status=401))
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
    text, mapping = loader.schema()["$defs"]["Check"]["properties"]["pages"]["items"]["anyOf"]
    assert text["type"] == "string"
    assert set(mapping["properties"]) == set(sections.Page.model_fields) and mapping["required"] == ["path"]


def test_machines_on_ec2_are_asked_for_by_a_key_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "name: a").aws is None and read(tmp_path, "aws:\nname: a").aws is None
    assert read(tmp_path, "aws: {}").aws == sections.Aws(role=False)
    assert read(tmp_path, "aws: {role: true}").aws == sections.Aws(role=True)


@pytest.mark.parametrize(("text", "network"), [("on", True), ("true", True), ("off", False), ("no", False)])
def test_the_network_of_a_check_is_off_unless_it_is_on(tmp_path: Path, text: str, network: bool) -> None:
    assert read(tmp_path, "check: {health: /}").check.network is False
    assert read(tmp_path, f"check: {{network: {text}}}").check.network is network
    # An editor reads YAML 1.2, where `on` is a text.
    assert {"on", "off", True, False} == set(loader.schema()["$defs"]["Check"]["properties"]["network"]["enum"])


def test_units(tmp_path: Path) -> None:
    limits = read(tmp_path, "limits: {body: 512k, request: 5m, workers: 3, threads: 8}").limits
    assert (limits.body, limits.request, limits.workers, limits.threads) == (512 * 1024, 300, 3, 8)
    plain = read(tmp_path, "limits: {body: 1000, request: 45}").limits
    assert (plain.body, plain.request, plain.workers) == (1000, 45, "auto")


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
    assert git.app == sections.App(git="https://code.example/x", commit="1a" * 20) and git.package is None
    archive = read(tmp_path, f"app: {{archive: 'https://code.example/x.zip', sha256: {'0' * 64}}}")
    assert archive.app == sections.App(archive="https://code.example/x.zip", sha256="0" * 64)
    assert read(tmp_path, "app: {package: httpbin==0.10.4}").package == "httpbin==0.10.4"


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
        loader.read(app)
    assert said in caught.value.details
    assert "BaseImage" not in caught.value.details and "release" not in caught.value.details


def test_an_image_may_be_the_base(app: Path) -> None:
    (app / "bake.yaml").write_text(f"base: {{image: ../stock.qcow2, sha512: {'0' * 128}}}\n")
    read = loader.read(app)
    assert isinstance(read.base, sections.BaseImage) and not read.base.is_remote
    assert read.target.name == "debian-13"
