"""What the unit tests share: a cache of their own, fakes that are real programs, and a look at what still runs."""

from __future__ import annotations

import hashlib
import http.server
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from types import CodeType, ModuleType
from typing import Any

import pytest
import trustme

from bake.bundle import release_files
from bake.config.recipe import Recipe
from bake.host import paths
from bake.host.programs import run

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = REPOSITORY / "cloud-init" / "rootfs" / "usr" / "lib" / "app"

#: Folders of every machine, relative to its root.
FOLDERS = (
    "etc/app", "etc/letsencrypt/renewal-hooks/deploy", "run/app", "run/cloud-init", "srv/app", "usr/lib/app",
    "usr/local/sbin", "var/cache/app", "var/lib",
)  # fmt: skip

Fake = Callable[[str, str], Path]
#: The smallest zip archive, which passes for a wheel.
EMPTY_WHEEL = b"PK\5\6" + bytes(18)
Helper = Callable[..., Popen[str]]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write text files, by their path in a folder, and return the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> list[str]:
    """The names of what is in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def line(process: Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; it does not exist yet."""
    monkeypatch.setenv("BAKE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's folder, empty."""
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a shell script on PATH, before the program whose name it takes: fake("packer", "exit 1")."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return put


@pytest.fixture
def helper() -> Iterator[Helper]:
    """Start a Python process with some code and arguments; whatever is left of it is killed at the end."""
    started: list[Popen[str]] = []

    def start(code: str, *words: object) -> Popen[str]:
        process = Popen(
            [sys.executable, "-c", code, *map(str, words)], stdin=DEVNULL, stdout=PIPE, text=True, cwd=REPOSITORY
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def marker() -> Iterator[str]:
    """A time to `sleep` that nobody else sleeps; whoever still does at the end is killed."""
    word = f"1000.{os.getpid()}{time.monotonic_ns()}"
    yield word
    for pid in running(word):
        os.kill(pid, signal.SIGKILL)


def running(word: str, name: str = "") -> list[int]:
    """The processes that have `word` as an argument, and run the program `name` where one is given."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                comm = (folder / "comm").read_text().strip()
            except OSError:
                continue
            if word.encode() in words and name in ("", comm):
                found.append(int(folder.name))
    return found


def soon(true: Callable[[], object], patience: float = 10.0) -> bool:
    """Whether something comes true within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH that holds the package with its files inside, as a wheel lays them out."""
    there = tmp_path / "installed"
    shutil.copytree(REPOSITORY / "bake", there / "bake", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("cloud-init", "packer", "tests/machine", "tests/proof"):
        shutil.copytree(REPOSITORY / name, there / "bake/tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return there


class Loader(importlib.machinery.SourceFileLoader):
    """Load one of the machine's programs; a path that it writes as `Path("/…")` is below `root`."""

    root = ""

    def get_code(self, fullname: str) -> CodeType:
        text = Path(self.path).read_text()
        return compile(text.replace('Path("/', f'Path("{self.root}/'), self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Find the modules that the machine's programs import of each other."""

    folders = (PROGRAMS, paths.features() / "certificate")

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        found = next((file for folder in self.folders if (file := folder / f"{name}.py").is_file()), None)
        return importlib.util.spec_from_loader(name, Loader(name, str(found))) if found else None


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """One of the machine's programs as a module: program("configure"); those of a release lie in another folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    # What they import of each other is made anew for each test.
    for shared in (path for folder in Finder.folders for path in folder.glob("*.py")):
        monkeypatch.delitem(sys.modules, shared.stem, raising=False)

    def load(name: str, folder: Path = PROGRAMS) -> ModuleType:
        loader = Loader(f"machine_{name}", str(folder / name))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return load


@pytest.fixture
def rooted(
    program: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., ModuleType]:
    """The same; their paths are below the test's folder, which has the folders that every machine has."""
    monkeypatch.setattr(Loader, "root", str(tmp_path))
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    return program


@pytest.fixture
def setup(
    rooted: Callable[[str], ModuleType], fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ModuleType:
    """The machine's `setup`, with its fixed paths below a folder of the test's, and without patience.

    Its systemd is content with everything, until a test says otherwise.
    """
    fake("systemctl", "exit 0")
    module = rooted("setup")
    monkeypatch.setattr(sys.modules["step"], "PATIENCE", 0)
    module.RELEASES.mkdir()
    module.INCOMING.mkdir()
    module.PACKAGES.write_text("")
    module.FAULTS.write_text("")
    brought = module.own

    def own(release: Path, name: str) -> ModuleType | None:
        """What a release brings, or where it does and a test has a module of that name, this one."""
        found = brought(release, name)
        return sys.modules.get(name, found) if found else None

    monkeypatch.setattr(module, "own", own)
    return module


@pytest.fixture
def steps(rooted: Callable[..., ModuleType], setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What a release brings for apps that ask for more; app-setup finds it wherever one brings it."""
    module = rooted("steps.py", paths.features() / "steps")
    monkeypatch.setitem(sys.modules, "steps", module)
    module.URL.write_text("/static")
    monkeypatch.setattr(module, "OWNER", {})
    module.DATA.mkdir()
    return module


@pytest.fixture
def serving(rooted: Callable[..., ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The machine's `serving`, which others import: its paths are below a folder of the test's; with little patience.

    The machine has two names.
    """
    module = rooted("serving.py")
    monkeypatch.setitem(sys.modules, "serving", module)
    monkeypatch.setattr(module, "HEALTH_PATIENCE", 0.3)
    module.NAMES.write_text("one.example\ntwo.example\n")
    return module


@dataclass
class Site:
    """A web server: `folder` at the https `address`, and what it was asked for.

    `statuses` are given instead of the next answers; what is asked for at one of `aliases` comes from elsewhere.
    `git`: who asks for something below a folder *.git speaks with git itself, in this version of its protocol;
    without it, with a server that knows of files alone.
    """

    folder: Path
    address: str
    git: str = "2"
    asked: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    #: Paths whose answers end in the middle.
    cut: list[str] = field(default_factory=list)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Answers for a `Site`."""

    def __init__(self, site: Site, *words: object) -> None:
        self.site = site
        super().__init__(*words, directory=os.fspath(site.folder))  # type: ignore[arg-type]

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        if str(path).endswith(".json"):
            return "application/vnd.pypi.simple.v1+json"
        return super().guess_type(path)

    def do_GET(self) -> None:
        self.answer(super().do_GET)

    def do_POST(self) -> None:
        self.answer(lambda: self.send_error(405))

    def answer(self, plainly: Callable[[], None]) -> None:
        self.site.asked.append(self.path)
        self.path = self.site.aliases.get(self.path, self.path)
        if self.site.statuses:
            self.send_error(self.site.statuses.pop(0))
        elif self.path in self.site.cut:
            content = (self.site.folder / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.site.git and ".git/" in self.path:
            self.as_git()
        else:
            plainly()

    def as_git(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        said = {
            "GIT_PROJECT_ROOT": str(self.site.folder), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        if self.site.git == "2":
            said["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(
            ["git", "http-backend"], input=self.rfile.read(length), env={**os.environ, **said}, capture_output=True
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        rows = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(rows.pop("Status", "200").split()[0]))
        for name, value in {**rows, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of `site`."""
    return trustme.CA()


@pytest.fixture
def site(tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An https server on this computer, trusted by Python, git, curl and pip."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    # uv keeps pages by URL, and a later test may get the same port.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    made = Site(tmp_path / "site", "")
    made.folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *words: Handler(made, *words))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made.address = f"https://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


def publish(site: Site, name: str, *files: str, dates: Sequence[str] = ()) -> None:
    """Put a page that lists these files on the site's package index, at /simple/.

    A wheel is whole, and requires nothing. A source is listed and cannot be had. With `dates` (YYYY-MM-DD, one
    for each file) the page is JSON, which says when each file was published (PEP 700).
    """
    page, wheels = site.folder / "simple" / name / "index.html", site.folder / "files"
    page.parent.mkdir(parents=True)
    wheels.mkdir(exist_ok=True)
    rows, entries = [], []
    for file, date in zip_longest(files, dates, fillvalue=""):
        digest = "0" * 64
        if file.endswith(".whl"):
            stem = "-".join(file.split("-")[:2])
            with zipfile.ZipFile(wheels / file, "w") as archive:
                archive.writestr(
                    f"{stem}.dist-info/METADATA",
                    f"Metadata-Version: 2.1\nName: {name}\nVersion: {file.split('-')[1]}\n",
                )
                archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
                archive.writestr(f"{stem}.dist-info/RECORD", "")
            digest = hashlib.sha256((wheels / file).read_bytes()).hexdigest()
        rows.append(f'<a href="/files/{file}#sha256={digest}">{file}</a>\n')
        entries.append({
            "filename": file, "url": f"/files/{file}", "hashes": {"sha256": digest}, "size": 1000,
            "upload-time": f"{date}T12:00:00.000000Z",
        })  # fmt: skip
    if dates:
        versions = sorted({file.removesuffix(".tar.gz").split("-")[1] for file in files})
        listing = {"meta": {"api-version": "1.1"}, "name": name, "versions": versions, "files": entries}
        page.with_suffix(".json").write_text(json.dumps(listing))
        site.aliases[f"/simple/{name}/"] = f"/simple/{name}/index.json"
    else:
        page.write_text(f"<!doctype html>\n{''.join(rows)}")


@dataclass
class Clone:
    """A clone of a repository at `site`."""

    folder: Path
    url: str
    bare: Path

    def git(self, *words: str) -> str:
        """What git says of the clone."""
        return run(["git", "-C", self.folder, *words]).stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        """Write files, and commit all there is; the commit."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.git("add", "--all", "--force")
        self.git("commit", "-q", "--allow-empty", "-m", "one")
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        """Make the repository the same as the clone."""
        self.git("push", "-q", "--force", str(self.bare), "main")


@pytest.fixture
def clone(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A repository that anybody can fetch, with a commit, and its clone. Nobody's own settings count."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@a.example")
    made = Clone(tmp_path / "clone", f"{site.address}/shop.git", site.folder / "shop.git")
    for words in (("--bare", made.bare), (made.folder,)):
        run(["git", "init", "-q", "-b", "main", *words])
    made.git("remote", "add", "origin", made.url)
    made.commit({"app.py": "app = 1\n", "requirements.txt": ""})
    made.push()
    return made


def release_texts(folder: Path, **recipe: Any) -> dict[str, str]:
    """Return the files of a release by path, of an app whose whole folder is its source."""
    made = release_files.files(folder, Recipe.model_validate(recipe), sorted(folder.rglob("*")))
    return {name: file.text for name, file in made.items()}
