"""An image booted here, for a person to look at."""

import os
import signal
import subprocess
import sys
import urllib.request

from bake import vm


def test_a_url_and_an_end(baked, where):
    _, image, _ = baked
    before = image.stat().st_mtime
    port = vm.free_port()
    # A shell starts its background jobs deaf to SIGINT; a terminal's are not.
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "bake", "run", str(image), "--port", str(port)]
    process = subprocess.Popen(argv, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
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
    assert vm.free_port(port) == port
    assert image.stat().st_mtime == before
    assert not os.path.lexists(where / "vm")
