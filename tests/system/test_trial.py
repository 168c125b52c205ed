"""An image booted here, for a person to look at."""

import http.server
import os
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

from bake.vm import qemu

#: Asks as the app, as a service's user and as root: only without the firewall's rules does one of them reach what
#: listens here. curl says 7 where it is refused.
ASK = """
ask() {{ echo "$1 $($2 curl -sf --max-time 20 http://$3/) $?"; }}
app="sudo setpriv --reuid=app --regid=app --clear-groups"
ask app "$app" 10.0.2.2:{port}
ask app-by-the-name-server "$app" 10.0.2.3:{port}
ask service "sudo setpriv --reuid=www-data --clear-groups" 10.0.2.2:{port}
ask root sudo 10.0.2.2:{port}
$app python3 -c 'import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9)); print("app sent")'
sudo nft flush chain inet app output
ask root-without-rules sudo 10.0.2.2:{port}
"""


@pytest.mark.long
def test_a_url_and_an_end(baked, where):
    _, image, _ = baked
    before = image.stat().st_mtime
    port = qemu.free_port()
    # A shell starts its background jobs deaf to SIGINT; a terminal's are not.
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "bake", "run", str(image), "--port", str(port)]
    process = subprocess.Popen(argv, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(url) as answer:
            assert b"Hello" in answer.read()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "SECRET_KEY, SPARE_KEY" in said
    finally:
        process.kill()
    # The port is free again, and the image is as it was.
    assert qemu.free_port(port) == port
    assert image.stat().st_mtime == before
    assert not os.path.lexists(where / "vm")


@pytest.mark.long
def test_the_app_reaches_the_world_but_not_what_listens_here(baked, where):
    _, image, _ = baked
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"a service of this computer")

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, "-m", "bake", "run", str(image), "--ssh"], cwd=where, capture_output=True, text=True,
            input=ASK.format(port=server.server_port), timeout=900, check=False,
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 0, done.stderr
    url, *said = done.stdout.split("\n", 1)
    assert url.startswith("http://127.0.0.1:")
    # A machine greets who logs in; what was asked for comes last.
    assert "".join(said).splitlines()[-6:] == [
        "app  7", "app-by-the-name-server  7", "service  7", "root  7", "app sent",
        "root-without-rules a service of this computer 0",
    ]  # fmt: skip
    assert asked == ["/"]
