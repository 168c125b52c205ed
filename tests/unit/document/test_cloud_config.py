"""The document: in each of its forms, what becomes of it are the machine's files, byte for byte."""

from __future__ import annotations

import ast
import base64
import gzip
import io
import json
import random
import re
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bake.bundle import release_files
from bake.config import contract
from bake.config.debian import DEBIAN_13, TARGETS, Target
from bake.config.providers import PROVIDERS, SMALLEST_LIMIT
from bake.document import cloud_config, machine_files, release_source
from bake.document.cloud_config import CheckSettings, Document, Network
from bake.document.launch_settings import Settings
from bake.document.machine_files import File
from bake.errors import DocumentError, ProgramError
from bake.host import paths, programs

MACHINE = machine_files.files(DEBIAN_13)
STANZA = release_source.stanza(DEBIAN_13, parts="ab" * 32)


def app_file(name: str, content: bytes, mode: int = 0o644) -> File:
    """A file of the app's in a document."""
    return File(f"{contract.INCOMING}/{'ab' * 32}/source/{name}", mode, content)


def rows(document: Document) -> dict[str, tuple[int, bytes]]:
    """What cloud-init would write: path to mode and content."""
    found = {}
    # Whether the document ends its last line is a test's of its own.
    for row in yaml.safe_load(document.text.removesuffix("\n") + "\n")["write_files"]:
        content = row["content"].encode()
        if row.get("encoding"):
            assert row["encoding"] == "b64"
            content = base64.b64decode(content, validate=True)
        assert row["path"] not in found
        found[row["path"]] = (int(row["permissions"], 8), content)
    return found


def written(files: list[File]) -> dict[str, tuple[int, bytes]]:
    """What a plain document writes."""
    return rows(cloud_config.plain(files, DEBIAN_13))


def as_files(files: list[File]) -> dict[str, tuple[int, bytes]]:
    return {file.path: (file.mode, file.content) for file in files}


@pytest.mark.parametrize("goal", TARGETS.values(), ids=list(TARGETS))
def test_the_plain_document_is_the_files_byte_for_byte(goal: Target) -> None:
    files = [*machine_files.files(goal), STANZA, app_file("x.bin", bytes(range(256)), 0o755)]
    assert rows(cloud_config.plain(files, goal)) == as_files(files)


FORMS = {
    "plain": lambda files: cloud_config.plain(files, DEBIAN_13),
    "packed": lambda files: cloud_config.packed(files, DEBIAN_13, stripped=False),
    "stripped": lambda files: cloud_config.packed(files, DEBIAN_13, stripped=True),
    "launch": cloud_config.launch,
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_a_cloud_config(form: str) -> None:
    document = FORMS[form]([*MACHINE, STANZA])
    assert document.form == ("plain" if form == "launch" else form)
    assert document.text.startswith("#cloud-config\n")
    assert document.size == len(document.text.encode())
    read = yaml.safe_load(document.text)
    assert set(read) <= {"bootcmd", "write_files"}
    assert all(isinstance(command, str) for command in read["bootcmd"])
    for command in read["bootcmd"]:
        programs.run(["sh", "-n", "-c", command])
    if form not in ("launch", "stripped"):
        assert "debian-13" in document.text.splitlines()[1]


@pytest.mark.parametrize("form", ["plain", "launch"])
def test_the_last_file_keeps_its_last_newline(form: str) -> None:
    (file,) = Settings(secrets={"KEY": "x"}).files
    last = yaml.safe_load(FORMS[form]([file]).text)["write_files"][-1]
    assert last["content"].endswith("\n")


@pytest.mark.parametrize("form", list(FORMS))
def test_a_document_is_the_same_every_time(form: str) -> None:
    assert FORMS[form]([*MACHINE, STANZA]) == FORMS[form]([*MACHINE, STANZA])


@pytest.mark.parametrize(
    "text",
    [
        "{{ not jinja's }} {% nor this %}\n",
        "a: b\n# comment\n- '\"\n",
        "first\n\n\n  indented\n\ttab\nlast\n",
        "trailing spaces  \n   \nend\n",
        "ünïcödé ☃ 😀\n",
        "%YAML\n---\n...\n",
        "\n\nstarts empty\n",
        "",
        "  starts indented\n",
        "no newline",
        "two newlines\n\n",
        "form\ffeed\n",
        "carriage\r\nreturn\r\n",
        "\ufeffmark\n",
        "next\x85line\u2028\n",
        "\x00\x1b[1m\n",
        "no newline 😀",
        "\n  empty, then indented\n",
    ],
)
def test_any_text_stays_as_it_is(text: str) -> None:
    assert written([File("/tmp/any", 0o600, text.encode())])["/tmp/any"] == (0o600, text.encode())


@pytest.mark.parametrize("content", [b"\xff", b"\x89PNG\r\n\x1a\n\x00", "latin é".encode("latin-1")])
def test_what_is_no_text_stays_as_it_is(content: bytes) -> None:
    assert written([File("/tmp/any", 0o600, content)])["/tmp/any"] == (0o600, content)


ODD_NAMES = ["two words.txt", "é ü.txt", "a #b.txt", "a: b.txt", "it's.txt", "{x}.txt", "trailing .txt "]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_the_app_s_may_have_any_name(name: str) -> None:
    file = app_file(name, b"x")
    assert written([file])[file.path] == (0o644, b"x")


def test_commands_of_the_boot_s_beginning_come_before_the_files() -> None:
    early = ("echo 'one: two' # three", 'printf %s "$HOME"')
    read = yaml.safe_load(cloud_config.plain(MACHINE, DEBIAN_13, early).text)
    assert tuple(read["bootcmd"][-2:]) == early


@pytest.mark.parametrize("form", list(FORMS))
def test_cloud_init_accepts_the_document(tmp_path: Path, form: str) -> None:
    if programs.which("cloud-init") is None:
        pytest.skip("cloud-init is not installed")
    (tmp_path / "user-data").write_text(FORMS[form](MACHINE).text)
    programs.run(["cloud-init", "schema", "--config-file", tmp_path / "user-data"])


# Packed.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's root, with the folder that cloud-init makes before it reads a document."""
    (tmp_path / "root/scripts/per-boot").mkdir(parents=True)
    return tmp_path / "root"


def below(root: Path, file: File) -> File:
    return File(f"{root}{file.path}", file.mode, file.content)


def boot(root: Path, document: Document) -> dict[str, tuple[int, bytes]]:
    """Run a document's own commands as cloud-init does; the files that there are afterwards."""
    for command in yaml.safe_load(document.text)["bootcmd"]:
        here = command.replace("/var/lib/cloud", str(root)).replace("/run/app-new", f"{root}/app-new")
        programs.run(["sh", "-c", here])
    found = (path for path in root.rglob("*") if path.is_file() and path.parent != root / "instance")
    return {str(path): (path.stat().st_mode & 0o777, path.read_bytes()) for path in found}


CONTENTS = {
    "app.py": b"# a comment\n\nif 1:\n        app = 1\n", "x.bin": bytes(range(256)) * 100, "empty": b"",
    "no-newline": b"x", "newlines": b"\n\n\n", "row": b"644 3 /etc/passwd\nabc", "\u00e9.txt": b"\r\n",
}  # fmt: skip


@pytest.mark.parametrize("stripped", [False, True])
def test_a_packed_document_unpacks_what_was_packed(root: Path, stripped: bool) -> None:
    secret = File("/etc/app/secrets.env", 0o600, b'KEY="a b"\n')
    app = [app_file(name, content, 0o755 if name == "row" else 0o644) for name, content in CONTENTS.items()]
    files = [below(root, file) for file in (*MACHINE, STANZA, secret)]
    if stripped:
        # What is the app's, a path says that no folder of a test has.
        expected = [cloud_config.strip(file) for file in files]
        assert expected != files and [cloud_config.strip(file) for file in app] == app
    else:
        expected = files = [*files, *(below(root, file) for file in app)]
    found = boot(root, cloud_config.packed(files, DEBIAN_13, stripped=stripped))
    assert found.pop(f"{root}/app-new") == (0o644, b"")
    assert found == as_files(expected)


def test_every_length_unpacks(root: Path) -> None:
    """Each line of digits stands for its own bytes: whatever its length, and where it begins with zeros."""
    program = re.search(
        r"for l in sys\.stdin:\n.*\n.*\n.*to_bytes.*\n", cloud_config.packed([], DEBIAN_13, stripped=True).text
    )
    assert program
    lines = textwrap.dedent(f" {program[0]}")
    for size in (*range(1, 200), *range(3270, 3285), 6554, 6555, 10_000):
        for content in (bytes(size), b"\xff" * size, noise(size, size)):
            text = "".join(f"{line}\n" for line in cloud_config._printable(content))
            assert re.fullmatch(r"([!-~]{1,4000}\n)*", text)
            found: dict[str, bytes] = {}
            exec(f"b = b''\n{lines}", {"sys": type("", (), {"stdin": io.StringIO(text)})}, found)
            assert found["b"] == content


@pytest.mark.parametrize("form", ["plain", "packed", "stripped"])
def test_the_boot_script_runs_at_every_boot(root: Path, form: str) -> None:
    # What lies there of an older document is replaced; as often as it is done, it stays the same.
    place = root / "scripts/per-boot/app"
    place.write_text("#!/bin/sh\n")
    for _ in range(2):
        boot(root, FORMS[form]([]))
        assert [path.name for path in place.parent.iterdir()] == ["app"]
        called = str(place.readlink())
    assert called in {file.path for file in MACHINE if file.mode == 0o755}
    (kept,) = (file for file in MACHINE if file.path.endswith("tmpfiles.d/app.conf"))
    said = [row.split() for row in (kept.text or "").splitlines() if "per-boot/app" in row]
    assert said == [["L+", "/var/lib/cloud/scripts/per-boot/app", "-", "-", "-", "-", called]]


def test_a_document_that_arrived_damaged_fails_and_claims_nothing(root: Path) -> None:
    document = cloud_config.packed([below(root, STANZA)], DEBIAN_13, stripped=False)
    start = document.text.index("<<'E'\n") + 100
    damaged = document.text[:start] + document.text[start + 40 :]
    with pytest.raises(ProgramError):
        boot(root, Document(damaged, "packed"))
    # The next boot finds nothing that would keep it from doing all of this again.
    assert not (root / "app-new").exists() and not (root / "scripts/per-boot/app").is_symlink()


def test_a_file_that_lay_open_before_is_closed(root: Path) -> None:
    (root / "etc/app").mkdir(parents=True)
    (root / "etc/app/secrets.env").write_text("old\n" * 100)
    secret = below(root, File("/etc/app/secrets.env", 0o600, b'KEY="x"\n'))
    assert boot(root, cloud_config.packed([secret], DEBIAN_13, stripped=False))[secret.path] == (0o600, secret.content)


def test_a_boot_after_the_first_changes_nothing(root: Path) -> None:
    (root / "instance").mkdir()
    (root / "instance/app").touch()
    for document in (
        cloud_config.packed([below(root, STANZA)], DEBIAN_13, stripped=False),
        cloud_config.plain([], DEBIAN_13),
        cloud_config.launch([]),
    ):
        (root / "instance/sem").mkdir(exist_ok=True)
        (root / "instance/sem/config_write_files").touch()
        assert set(boot(root, document)) == {f"{root}/instance/sem/config_write_files"}


@pytest.mark.parametrize("form", list(FORMS))
def test_a_first_boot_that_was_cut_short_is_done_again(root: Path, form: str) -> None:
    (root / "instance/sem").mkdir(parents=True)
    for name in ("config_write_files", "consume_data"):
        (root / "instance/sem" / name).touch()
    boot(root, FORMS[form]([]))
    assert [path.name for path in (root / "instance/sem").iterdir()] == ["consume_data"]


def test_a_packed_file_may_have_any_name(root: Path) -> None:
    files = [below(root, app_file(name, b"x")) for name in ODD_NAMES]
    found = boot(root, cloud_config.packed(files, DEBIAN_13, stripped=False))
    assert as_files(files).items() <= found.items()


# Stripped.

PYTHON = [file for file in MACHINE if file.path.endswith(".py") or b"python3" in file.content.partition(b"\n")[0]]
# What a release brings is imported by others there.
PYTHON += [
    File(path, file.mode, file.text.encode())
    for folder in sorted(paths.features().iterdir())
    for path, file in release_files.feature_files(folder.name).items()
    if path.endswith(".py")
]
SHELL = [file for file in MACHINE if file.content.startswith(b"#!/bin/sh")]


def names(tree: ast.Module) -> list[str]:
    """What a program defines for others, in order."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
    return found


def parameters(tree: ast.Module) -> list[str]:
    """How each function of a program is called; names that callers may use are part of that."""
    return [
        f"{node.name} {len(node.args.posonlyargs + node.args.args)} {[arg.arg for arg in node.args.kwonlyargs]}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    ]


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.path)
def test_stripped_python_defines_the_same_and_explains_nothing(file: File) -> None:
    stripped = cloud_config.strip(file)
    assert (stripped.path, stripped.mode) == (file.path, file.mode)
    assert len(stripped.content) < len(file.content)
    # What Debian 12's Python can read.
    before, after = (ast.parse(text, feature_version=(3, 11)) for text in (file.content, stripped.content))
    if file.path.endswith(".py"):
        assert (names(after), parameters(after)) == (names(before), parameters(before))
    else:
        # Nobody imports a program: its names are its own.
        calls = ([said.partition(" ")[2] for said in parameters(tree)] for tree in (before, after))
        assert next(calls) == next(calls)
    assert stripped.content.partition(b"\n")[0].startswith(b"#!") == file.content.startswith(b"#!")
    if file.content.startswith(b"#!"):
        assert stripped.content.partition(b"\n")[0] == file.content.partition(b"\n")[0]
    for node in ast.walk(after):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node) is None


def test_a_stripped_program_does_the_same(tmp_path: Path) -> None:
    said = []
    for kind, files in {"whole": MACHINE, "stripped": [cloud_config.strip(file) for file in MACHINE]}.items():
        root = tmp_path / kind
        for file in files:
            place = below(root, file)
            Path(place.path).parent.mkdir(parents=True, exist_ok=True)
            Path(place.path).write_bytes(file.content)
        release = root / "srv/app/current"
        (release / "settings").mkdir(parents=True)
        recipe = {"wsgi": "app:app", "domains": ["a.example", "b.example"], "limits": {"workers": 3}}
        (release / "recipe.json").write_text(json.dumps(recipe))
        (root / "etc/app").mkdir(parents=True)
        (root / "etc/app/domains").write_text("c.example\n")
        before = {path for path in root.rglob("*") if path.is_file()}
        programs.run([sys.executable, "-B", root / "usr/lib/app/configure", root])
        made = {path for path in root.rglob("*") if path.is_file() and path.suffix not in (".pem", ".key")} - before
        said.append({path.relative_to(root): path.read_text().replace(str(root), "") for path in made})
    assert said[0] == said[1]
    assert len(said[0]) > 3


def literals_inside(text: bytes) -> list[str]:
    """The f-strings of a program that hold another string inside of their braces."""
    parts = [part for part in ast.walk(ast.parse(text)) if isinstance(part, ast.FormattedValue)]
    return [
        f"line {part.lineno}: {ast.unparse(part.value)}"
        for part in parts
        for node in ast.walk(part.value)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"f'{x}: {y!r:>{width}} {a[0]} {b:%H:%M}'", False),
        (b"""f"{a['key']}\"""", True),
        (b"""f"{', '.join(a)}\"""", True),
        (b"""f"{x:>{w['key']}}\"""", True),
        (b"""f"{f'{x}'}\"""", True),
    ],
)
def test_what_counts_as_a_string_inside_of_an_f_string(text: bytes, found: bool) -> None:
    assert bool(literals_inside(text)) == found


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: file.path)
def test_no_f_string_of_the_machine_s_holds_a_string(file: File) -> None:
    # Who strips writes such a one as the Python here can read it: before 3.12, no quote may come twice.
    assert literals_inside(file.content) == literals_inside(cloud_config.strip(file).content) == []


@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.path)
def test_stripped_shell_parses(file: File, tmp_path: Path) -> None:
    stripped = cloud_config.strip(file)
    (tmp_path / "script").write_bytes(stripped.content)
    programs.run(["sh", "-n", tmp_path / "script"])
    assert stripped.content.startswith(b"#!/bin/sh\n") and stripped.mode == file.mode


def test_stripped_settings_say_the_same() -> None:
    others = [file for file in MACHINE if file not in PYTHON and file not in SHELL]
    assert len(others) > 10

    def said(file: File) -> list[str]:
        lines = (line.strip() for line in (file.text or "").splitlines())
        return [line for line in lines if line and not line.startswith(("#", ";", "//"))]

    for file in others:
        stripped = cloud_config.strip(file)
        assert said(stripped) == said(file) or file.content.startswith(b"#!"), file.path
        assert len(stripped.content) <= len(file.content)


@pytest.mark.parametrize("content", [b"# a comment\n\n", b'"""Doc."""\n', b"\xff\xfe\n", b"#!/bin/sh\n# x\n", b"<p>\n"])
@pytest.mark.parametrize("name", ["app.py", "run.sh", "page.html"])
def test_of_the_app_s_own_files_nothing_is_stripped(name: str, content: bytes) -> None:
    file = app_file(name, content)
    assert cloud_config.strip(file) == file


def test_a_secret_of_several_lines_is_kept_as_it_is() -> None:
    (file,) = Settings(secrets={"KEY": "-----BEGIN\n\n  #ab+/=\n-----END"}).files
    assert cloud_config.strip(file) == file


@pytest.mark.parametrize("content", [b"", b"# nothing but this\n"])
def test_a_program_may_be_empty(content: bytes) -> None:
    assert cloud_config.strip(File("/usr/lib/app/x.py", 0o644, content)).content.strip() == b""


# What fits.


def noise(size: int, seed: int) -> bytes:
    """Bytes that cannot be packed."""
    return random.Random(seed).randbytes(size)


def test_the_most_readable_form_that_fits_is_taken() -> None:
    files = [*MACHINE, STANZA]
    plain, packed, stripped = (FORMS[form](files) for form in ("plain", "packed", "stripped"))
    assert plain.size > packed.size > stripped.size
    for document in (plain, packed, stripped):
        assert cloud_config.fit(files, DEBIAN_13, document.size) == document
    assert cloud_config.fit(files, DEBIAN_13, plain.size - 1) == packed
    assert cloud_config.fit(files, DEBIAN_13, packed.size - 1) == stripped
    with pytest.raises(DocumentError, match="1 more than"):
        cloud_config.fit(files, DEBIAN_13, stripped.size - 1)


def test_who_takes_bytes_gets_the_stripped_form_gzipped_as_the_last_resort() -> None:
    files = [*MACHINE, STANZA]
    stripped = FORMS["stripped"](files)
    assert cloud_config.fit(files, DEBIAN_13, stripped.size, binary=True) == stripped
    made = cloud_config.fit(files, DEBIAN_13, stripped.size - 1, binary=True)
    assert made.form == cloud_config.GZIPPED
    content = base64.b64decode("".join(made.text.split()), validate=True)
    assert gzip.decompress(content).decode() == stripped.text
    # What counts are the bytes that the base64 stands for; they are the same every time.
    assert made.size == len(content) < stripped.size
    assert cloud_config.fit(files, DEBIAN_13, made.size, binary=True) == made
    with pytest.raises(DocumentError, match="1 more than"):
        cloud_config.fit(files, DEBIAN_13, made.size - 1, binary=True)


def test_where_nothing_fits_the_three_biggest_parts_are_named() -> None:
    files = [*MACHINE, STANZA, *(app_file(f"{size}.bin", noise(size, size)) for size in (90_000, 30_000, 60_000, 100))]
    with pytest.raises(DocumentError) as caught:
        cloud_config.fit(files, DEBIAN_13, SMALLEST_LIMIT)
    assert DocumentError.code == 16
    assert ".bakeignore" in caught.value.hint
    # It is too large for most, and not for everybody.
    assert said_to_fit(caught.value.hint) == {"gcp"}
    parts = re.findall(r"^ *([\d,]+) bytes +(.+)$", caught.value.details, re.MULTILINE)
    assert [name.rpartition("/")[2] for _, name in parts] == ["90000.bin", "60000.bin", "30000.bin"]
    sizes = [int(size.replace(",", "")) for size, _ in parts]
    assert sizes == sorted(sizes, reverse=True) and 109_000 < sizes[0] < 113_000


def said_to_fit(hint: str) -> set[str]:
    """The providers that a hint says would take the document."""
    found = re.search(r"It fits with one of these for --provider: (.*)\.", hint)
    return set(found[1].split(", ")) if found else set()


def test_who_takes_a_document_that_one_does_not_is_said() -> None:
    with pytest.raises(DocumentError) as caught:
        cloud_config.fit([*MACHINE, STANZA, app_file("noise.bin", noise(12_000, 1))], DEBIAN_13, SMALLEST_LIMIT)
    stated = re.search(r"has ([\d,]+) bytes", caught.value.message)
    assert stated
    size = int(stated[1].replace(",", ""))
    fits = {name for name, provider in PROVIDERS.items() if provider.capacity >= size}
    assert said_to_fit(caught.value.hint) == fits != set() and "aws" not in fits
    with pytest.raises(DocumentError) as caught:
        cloud_config.fit([STANZA, app_file("noise.bin", noise(300_000, 1))], DEBIAN_13, SMALLEST_LIMIT)
    assert "It exceeds every limit" in caught.value.hint and "--provider" not in caught.value.hint


@pytest.mark.parametrize("binary", [False, True])
def test_who_is_said_to_take_a_document_does_take_it(binary: bool) -> None:
    files = [*MACHINE, STANZA, app_file("noise.bin", noise(42_000, 1))]
    sizes = {True: FORMS["stripped"](files).size, False: cloud_config.gzipped(files, DEBIAN_13).size}
    with pytest.raises(DocumentError) as caught:
        cloud_config.fit(files, DEBIAN_13, SMALLEST_LIMIT, binary=binary)
    takers = {name for name, provider in PROVIDERS.items() if provider.capacity >= sizes[provider.text]}
    assert said_to_fit(caught.value.hint) == takers


def test_the_machine_leaves_room_for_a_small_app() -> None:
    # An app of ten lines and its lock take some 880 bytes.
    assert FORMS["stripped"]([*MACHINE, STANZA]).size < SMALLEST_LIMIT - 900


def test_the_settings_of_a_launch_are_small() -> None:
    given = Settings(("shop.example",), "me@shop.example", {"DEBUG": "0", "REGION": "somewhere"}, {"KEY": "x"})
    document = cloud_config.launch(given.files)
    assert rows(document) == as_files(given.files)
    assert document.size < 1000


def test_meta_data_names_instance_host_and_keys() -> None:
    keys = ["ssh-ed25519 AAAA bake", "ssh-ed25519 BBBB other"]
    assert yaml.safe_load(cloud_config.meta_data("proof-1a", "first", keys)) == {
        "instance-id": "proof-1a",
        "local-hostname": "first",
        "public-keys": keys,
    }


@pytest.mark.parametrize("name", ["on", "12", "0x1f", "null"])
def test_a_host_may_have_any_name_that_a_recipe_may_have(name: str) -> None:
    assert yaml.safe_load(cloud_config.meta_data(name, name, []))["local-hostname"] == name


ODD = {"URL": "sqlite:////var/lib/app/x.db", "QUOTE": 'it\'s "quoted" $HOME `id` \\ %s', "EMPTY": ""}


def made_by(script: str, root: Path) -> dict[str, str]:
    """The files that a shell script writes below /run, with `root` in its place: path to content."""
    programs.run(["sh", "-c", re.sub(r"(?<![\w/])/run/", f"{root}/", script)])
    found = sorted(path for path in root.rglob("*") if path.is_file())
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    return {str(path.relative_to(root)): path.read_text() for path in found}


def test_stand_ins_reach_files_in_memory(tmp_path: Path) -> None:
    script = cloud_config.vendor_data(CheckSettings(ODD))
    # A part that cloud-init runs itself, early on every boot: commands of user-data's own do not take its place.
    assert script.startswith("#cloud-boothook\n")
    files = made_by(script, tmp_path)
    assert files.keys() - {"app-check/observe"} == {"app-check/env", "app-check/network.nft"}
    # Read as systemd reads an EnvironmentFile: within double quotes, a backslash protects what follows.
    lines = (line.partition("=") for line in files["app-check/env"].splitlines())
    assert {name: re.sub(r"\\(.)", r"\1", value[1:-1]) for name, _, value in lines} == ODD


def test_a_booted_image_reads_its_firewall_again(tmp_path: Path) -> None:
    script = cloud_config.vendor_data(CheckSettings({})).replace("/usr/lib/app/firewall.nft", f"{tmp_path}/rules")
    script = script.replace("/usr/sbin/nft", f"{tmp_path}/nft")
    (tmp_path / "nft").write_text(f"#!/bin/sh\necho $* > {tmp_path}/heard\n")
    (tmp_path / "nft").chmod(0o755)
    # The machine has none yet: a bake's, or a pasted one.
    made_by(script, tmp_path / "one")
    assert not (tmp_path / "heard").exists()
    (tmp_path / "rules").touch()
    made_by(script, tmp_path / "two")
    assert (tmp_path / "heard").read_text() == f"-f {tmp_path}/rules\n"


def test_the_app_reaches_its_machine_alone_while_it_is_baked_and_proved(tmp_path: Path) -> None:
    proved = made_by(cloud_config.vendor_data(CheckSettings({})), tmp_path / "proof")
    baked = made_by(cloud_config.bake_command(CheckSettings({})), tmp_path / "bake")
    rules = ['meta skuid 800 oifname != "lo" reject', "meta skuid 800 ip daddr { 127.0.0.53, 127.0.0.54 } reject"]
    assert proved["app-check/network.nft"] == baked["app-check/network.nft"]
    assert proved["app-check/network.nft"].splitlines()[:2] == rules
    # While the machine's own network is open, nobody asks for names on the app's behalf.
    hidden = {name: text for name, text in baked.items() if name not in proved}
    assert hidden.pop("app-check/observe") == ""
    assert made_by(cloud_config.bake_command(CheckSettings({}, observe=False)), tmp_path / "closed").keys() == {
        *proved,
        *hidden,
    }
    assert hidden.keys() == {
        f"systemd/system/{name}.service.d/network.conf" for name in ("app", "app-next", "app-job@", "app-process@")
    }
    for text in hidden.values():
        sockets = text.replace(str(tmp_path / "bake"), "/run").split("InaccessiblePaths=")[1].split()
        assert sockets == ["-/run/systemd/resolve/io.systemd.Resolve", "-/run/dbus/system_bus_socket"]
    # Units of a release that go or change take files of another form of name with them.
    configure = (paths.rootfs() / "usr/lib/app/configure").read_text()
    assert '"ap[pt]*.service.d/?0-*.conf"' in configure


@pytest.mark.parametrize("write", [cloud_config.bake_command, cloud_config.vendor_data])
def test_an_open_network_leaves_the_loopback_of_this_computer_closed(
    write: Callable[[CheckSettings], str], tmp_path: Path
) -> None:
    files = made_by(write(CheckSettings({}, Network.OPEN)), tmp_path)
    assert files.keys() - {"app-check/observe"} == {"app-check/env", "app-check/network.nft"}
    rules = files["app-check/network.nft"]
    # Services of Debian packages are other users than the app, and may pass on its requests.
    assert "skuid" not in rules
    # Its own address is on that network, and stays reachable: what is sent there leaves by no card. Answers to SSH and
    # to visitors pass.
    assert rules.count("\noifname") + rules.startswith("oifname") == rules.count('oifname != "lo" ct state new ip') == 2
    refused = set(re.findall(r"[\w.:]+/\d+|(?<={ 10.0.2.0/24, )255[.\d]+", rules))
    assert refused == {"10.0.2.0/24", "255.255.255.255", "fec0::/64", "fe80::/10", "ff00::/8"}
    # QEMU itself answers DHCP at these addresses, and asks the computer's name server.
    passed = set(re.findall(r"(?:tcp|udp) \. [\w.:]+ \. \d+", rules))
    assert passed == {
        "udp . 10.0.2.2 . 67", "udp . 255.255.255.255 . 67", "udp . ff02::1:2 . 547",
        *(f"{kind} . {address} . 53" for kind in ("tcp", "udp") for address in ("10.0.2.3", "fec0::3")),
    }  # fmt: skip


@pytest.mark.parametrize("network", list(Network))
def test_at_a_cloud_an_app_reaches_addresses_that_are_qemu_s_here(network: Network) -> None:
    rules = CheckSettings({}, network, is_local=False).rules
    assert "10.0.2" not in rules and ("skuid" in rules) == (network is Network.CLOSED)


def test_a_stand_in_may_hold_any_character() -> None:
    early = cloud_config.bake_command(CheckSettings({"A": "😀"}))
    assert yaml.safe_load(cloud_config.plain([], DEBIAN_13, (early,)).text)["bootcmd"][-1] == early


def test_a_machine_without_stand_ins_knows_that_it_is_only_checked(tmp_path: Path) -> None:
    assert made_by(cloud_config.vendor_data(CheckSettings({})), tmp_path)["app-check/env"] == ""


def test_far_too_much_is_refused_at_once() -> None:
    files = [*MACHINE, STANZA, app_file("film.mp4", noise(8_000_000, 1)), app_file("photo.jpg", noise(1_000_000, 2))]
    begun = time.monotonic()
    with pytest.raises(DocumentError, match="far too large for any provider: 9,") as caught:
        cloud_config.fit(files, DEBIAN_13, SMALLEST_LIMIT)
    # Packed well, it would take a minute.
    assert time.monotonic() - begun < 5
    assert "8,000,000 bytes  " in caught.value.details and "film.mp4" in caught.value.details.splitlines()[1]


@pytest.mark.parametrize("size", [0, 1, 3276, 3277, 3278, 9831])
@pytest.mark.parametrize("stripped", [False, True])
def test_the_size_of_a_packed_document_is_known_before_it_is_written(size: int, stripped: bool) -> None:
    content = noise(size, 1)
    document = cloud_config._packed(content, DEBIAN_13, stripped)
    assert cloud_config._packed_size(content, DEBIAN_13, stripped) == document.size


def test_a_document_that_is_too_large_is_refused_before_it_is_written() -> None:
    files = [*MACHINE, STANZA, app_file("logo.png", noise(300_000, 1))]
    begun = time.process_time()
    with pytest.raises(DocumentError, match="more than the provider's limit"):
        cloud_config.fit(files, DEBIAN_13, 32_768)
    # Writing its bytes in base 94 takes several seconds.
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("path", "advice"),
    [("source/logo.png", "push the app to a public git repository"), ("settings/noise.py", "fewer files do not help")],
)
def test_the_advice_for_a_large_document_can_help(path: str, advice: str) -> None:
    large = File(f"{contract.INCOMING}/{'ab' * 32}/{path}", 0o644, noise(20_000, 1))
    with pytest.raises(DocumentError) as caught:
        cloud_config.fit([*MACHINE, STANZA, large], DEBIAN_13, SMALLEST_LIMIT)
    assert advice in caught.value.hint and ("public git" in caught.value.hint) == path.startswith("source")
