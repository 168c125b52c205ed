"""Front ends that bake builds: in a real builder root with Node, made by mmdebstrap from Debian's archive.

No case boots a machine. The root is made once for all cases. The package registry is one at 127.0.0.1.
BAKE_TEST_BUILDERS names a cache that stays.
"""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import socket
import ssl
import tarfile
import threading
from pathlib import Path

import pytest
import trustme

from bake.bundle import registry_proxy, release_archive
from bake.bundle.app_source import AppSource
from bake.bundle.lock import Lock
from bake.config.debian import TARGETS
from bake.config.recipe import Recipe
from bake.errors import AssetsError
from bake.host.progress import Reporter

pytestmark = pytest.mark.long
#: Tries everything that a build could want, and writes what it learns to argv[2]. argv[3] is a port of the host.
HOSTILE = """
const fs = require("fs"), net = require("net"), os = require("os");
const [, , host, out, port] = process.argv, attempt = (f) => { try { return f(); } catch (e) { return e.code; } };
const reach = (host, port, text) => new Promise((done) => {
  const s = net.connect({ host, port, timeout: 3000 });
  s.on("error", (e) => done(e.code)).on("timeout", () => done("timeout"));
  s.on("connect", () => (text ? s.write(text) : done("connected")));
  s.on("data", (d) => done(String(d).split("\\r")[0]));
});
(async () => {
  const proxy = process.env.HTTPS_PROXY && new URL(process.env.HTTPS_PROXY);
  const learned = {
    uid: [process.getuid(), process.getgid()],
    status: fs.readFileSync("/proc/self/status", "utf8").split("\\n")
      .filter((l) => /^(NoNewPrivs|CapEff|CapBnd)/.test(l)),
    environment: Object.keys(process.env).sort(),
    processes: fs.readdirSync("/proc").filter((n) => /^\\d+$/.test(n)).map((n) =>
      attempt(() => fs.readFileSync(`/proc/${n}/cmdline`, "utf8")) || ""),
    sockets: fs.readdirSync("/proc/self/fd").map((n) => attempt(() => fs.readlinkSync(`/proc/self/fd/${n}`)) || "")
      .filter((l) => l.startsWith("socket")).length,
    interfaces: Object.keys(os.networkInterfaces()),
    host: JSON.parse(host).filter((p) => fs.existsSync(p)),
    write: ["/", "/usr", "/etc", "/mnt", "/tmp/input"].map((p) => attempt(() => fs.writeFileSync(`${p}/marker`, ""))),
    direct: await reach("127.0.0.1", port),
    name: await reach("registry.test", 443),
    proxied: proxy && await reach(proxy.hostname, proxy.port, `CONNECT 127.0.0.1:${port} HTTP/1.1\\r\\n\\r\\n`),
  };
  fs.mkdirSync(require("path").dirname(out), { recursive: true });
  fs.writeFileSync(out, JSON.stringify(learned));
})();
"""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKE_CACHE", os.environ.get("BAKE_TEST_BUILDERS") or str(tmp_path_factory.mktemp("cache")))
        yield


#: The paths that were asked for at the registry.
REQUESTS: list[str] = []


class Registry(http.server.SimpleHTTPRequestHandler):
    """Serve files, and note the paths of the requests."""

    def log_message(self, *words):
        REQUESTS.append(self.path)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with TLS at localhost, whose authority this computer seems to trust; its URL and its folder."""
    # bake refuses a registry at this computer.
    monkeypatch.setattr(registry_proxy, "is_own", lambda address: False)
    authority, folder = trustme.CA(), tmp_path / "registry"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    REQUESTS.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *words: Registry(*words, directory=str(folder)))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}/", folder
    server.shutdown()
    server.server_close()


def publish(url, folder, name, files):
    """Put a package on the registry; the lines of a package-lock.json for it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    (folder / f"{name}/-").mkdir(parents=True)
    (folder / f"{name}/-/{name}-1.0.0.tgz").write_bytes(stream.getvalue())
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(stream.getvalue()).digest()).decode()
    return {"version": "1.0.0", "resolved": f"{url}{name}/-/{name}-1.0.0.tgz", "integrity": integrity,
            "hasInstallScript": True, "bin": {name: f"{name}.js"}}  # fmt: skip


def app_of(folder, files, **assets):
    """An app's folder with a front end in web/."""
    (folder / "web").mkdir(parents=True, exist_ok=True)
    if not (folder / "web/package.json").exists():
        files = {"app.py": "app = 1\n", "web/package.json": "{}", **files}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    keys = {"source": "web", "folder": "static/dist", **assets}
    values = {"name": "shop", "wsgi": "app:app", "base": "debian-13", "requirements": (), "assets": keys}
    return AppSource(folder, Recipe.model_validate(values), Lock("", "none"))


def collected(app):
    """The content of the files in the bundle of an app, and the bundle's digest."""
    bundle = release_archive.collect(app, app.folder.parent / "bundle.tar", Reporter())
    content = {}
    with tarfile.open(bundle.path) as tar:
        for member in tar:
            if stream := tar.extractfile(member):
                content[member.name.removeprefix("source/")] = stream.read()
    return content, bundle.sha256


def test_a_front_end_is_built_with_packages_of_the_registry(registry, tmp_path):
    url, folder = registry
    greet = publish(url, folder, "greet", {
        "package.json": json.dumps({
            "name": "greet", "version": "1.0.0", "bin": {"greet": "greet.js"},
            "scripts": {"postinstall": "node post.js"},
        }),
        "post.js": "require('fs').writeFileSync(__dirname + '/proxy', String(process.env.HTTPS_PROXY))\n",
        "greet.js": "#!/usr/bin/env node\nconst fs = require('fs'), out = '../static/dist';\n"
        "fs.mkdirSync(out + '/js', {recursive: true}); fs.writeFileSync(out + '/js/app.js', 'hello');\n"
        "fs.copyFileSync(__dirname + '/proxy', out + '/proxy');\n",
    })  # fmt: skip
    project = {"name": "web", "version": "1.0.0", "dependencies": {"greet": "1.0.0"}, "scripts": {"build": "greet"}}
    lock = {"name": "web", "version": "1.0.0", "lockfileVersion": 3, "packages": {
        "": project, "node_modules/greet": greet,
    }}  # fmt: skip
    files = {"web/package.json": json.dumps(project), "web/package-lock.json": json.dumps(lock)}
    app = app_of(tmp_path / "app", files, run="npm run build", registry=url)
    contents, digest = collected(app)
    assert contents["static/dist/js/app.js"] == b"hello"
    # The package's script ran after the installation, when there was no proxy.
    assert contents["static/dist/proxy"] == b"undefined"
    assert REQUESTS == ["/greet/-/greet-1.0.0.tgz"]
    assert not any("node_modules" in name for name in contents)
    # Again: from the cache.
    assert collected(app) == (contents, digest) and len(REQUESTS) == 1
    # Without the key, the registry of the lock file is another host.
    with pytest.raises(AssetsError) as caught:
        collected(app_of(tmp_path / "app", {}, run="npm run build", install="npm ci --fetch-retries=0"))
    assert "failed with exit status" in caught.value.message and "localhost:" in caught.value.hint


def test_a_hostile_front_end_reaches_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "stolen")
    host = [str(tmp_path), os.environ["BAKE_CACHE"], str(Path(__file__).parent), str(Path.home() / ".cache"),
            "/etc/hostname", "/run/systemd"]  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = f"node hostile.js '{json.dumps(host)}'"
        port = server.getsockname()[1]
        app = app_of(
            tmp_path / "app", {"web/hostile.js": HOSTILE}, registry="https://registry.test/",
            install=f"{words} ../learned/install.json {port}",
            run=f"{words} ../static/dist/run.json {port} && cp ../learned/install.json ../static/dist/",
        )  # fmt: skip
        contents, _ = collected(app)
    run, install = (json.loads(contents[f"static/dist/{name}.json"]) for name in ("run", "install"))
    for learned in (run, install):
        assert learned["uid"] == [65000, 65000] and learned["sockets"] == 0
        assert learned["status"] == ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
        assert learned["host"] == [] and set(learned["write"]) <= {"EACCES", "EROFS"}
        # The script that prepares the namespaces has paths of the host in its arguments.
        assert not [line for line in learned["processes"] if "enter.sh" in line]
        assert set(learned["interfaces"]) <= {"lo"}
        assert learned["direct"] == "ECONNREFUSED"
        assert learned["name"] in ("EAI_AGAIN", "ENOTFOUND")
    assert {*run["environment"]} <= {"HOME", "LANG", "OLDPWD", "PATH", "PWD", "SOURCE_DATE_EPOCH", "SHLVL", "_"}
    assert "proxied" not in run and install["proxied"] == "HTTP/1.1 403 Forbidden"
    assert not [name for name in install["environment"] if name.startswith(("AWS", "BAKE", "SSH"))]
    assert not list(tmp_path.glob("marker")) and not Path("/marker").exists()


def test_a_connection_that_the_installation_leaves_open_is_closed(registry, tmp_path):
    url, _ = registry
    stay = (
        "const net = require('net'), fs = require('fs'), proxy = new URL(process.env.HTTPS_PROXY);\n"
        "const s = net.connect(proxy.port, proxy.hostname);\n"
        "s.write('CONNECT localhost:PORT HTTP/1.1\\r\\n\\r\\n');\n"
        "s.on('data', (d) => { fs.appendFileSync('log', String(d)); fs.writeFileSync('ready', ''); });\n"
        "s.on('error', () => 0).on('close', () => {\n"
        "  fs.appendFileSync('log', 'closed ');\n"
        "  net.connect(proxy.port, proxy.hostname).on('error', (e) => { fs.appendFileSync('log', e.code); });\n"
        "});\n"
    ).replace("PORT", url.split(":")[2].strip("/"))
    app = app_of(
        tmp_path / "app", {"web/stay.js": stay}, registry=url,
        install="setsid node stay.js >/dev/null 2>&1 & until [ -e ready ]; do sleep 0.1; done",
        run="sleep 2; mkdir -p ../static/dist; cp log ../static/dist/",
    )  # fmt: skip
    assert collected(app)[0]["static/dist/log"] == b"HTTP/1.1 200 OK\r\n\r\nclosed ECONNREFUSED"


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("mkdir -p ../static/dist && ln -s /etc/passwd ../static/dist/a", "static/dist/a, which is a link"),
        ("mkdir -p ../static && ln -s / ../static/dist", "static/dist, which is a link"),
        ("mkdir -p ../static/dist && mkfifo ../static/dist/a", "static/dist/a, which is a link, a device or a pipe"),
        ("mkdir -p ../dist && touch ../dist/a", "did not make static/dist"),
        ("mkdir -p ../static/dist", "wrote no file to static/dist"),
        ("exit 7", "failed with exit status 7"),
    ],
)  # fmt: skip
def test_a_result_that_bake_cannot_use_is_refused(tmp_path, run, message):
    with pytest.raises(AssetsError) as caught:
        collected(app_of(tmp_path / "app", {}, run=run))
    assert message in caught.value.message
    if "did not make" in message:
        assert "./dist" in caught.value.details.splitlines()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_target_has_the_node_that_bake_names(tmp_path, name):
    app = app_of(tmp_path / "app", {}, run="mkdir -p ../static/dist; node --version > ../static/dist/version")
    app = AppSource(app.folder, app.recipe.model_copy(update={"base": name}), app.lock)
    with contextlib.suppress(KeyError):
        assert collected(app)[0]["static/dist/version"].startswith(f"v{TARGETS[name].node}.".encode())
