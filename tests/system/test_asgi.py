"""A FastAPI app: its bake, its WebSocket, and a push with visitors."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import baked_machine, extended
from server_faults import LIMIT, assert_faults_end
from test_push import VISITORS, host, visited  # noqa: F401

from bake.vm import qemu

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi-hello"

pytestmark = pytest.mark.long

#: Routes to see how the machine serves.
MORE = """
import asyncio, datetime, locale, os, time
from fastapi import Request
from fastapi.responses import PlainTextResponse, StreamingResponse

@app.get("/facts")
def facts(request: Request):
    return {"scheme": request.url.scheme, "client": request.client.host, "pid": os.getpid(), "version": "first"}

@app.get("/stream")
async def stream():
    async def parts():
        for number in range(3):
            yield f"part {number}\\n"
            await asyncio.sleep(3)
    return StreamingResponse(parts(), media_type="text/plain")

@app.get("/place")
def place():
    return [time.tzname, locale.setlocale(locale.LC_ALL, ""), datetime.date(2026, 3, 1).strftime("%B")]

@app.get("/slow")
async def slow(seconds: float = 0, memory: int = 0):
    await asyncio.sleep(seconds)
    len(b"x" * (memory << 20))
    return PlainTextResponse(f"{os.getpid()} version")
"""
#: Sends a text to the WebSocket each second, and connects again when it is closed, until /tmp/stop is there. Prints the
#: number of echoes and the codes, or "no response" where a handshake failed. It runs in the app's virtualenv, which has
#: the library. With Debian 13's Python 3.13.5, the library's client for threads sometimes never sends its handshake.
WEBSOCKET = """
import asyncio, json, os, ssl, sys
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage
count, most, codes = 0, int(sys.argv[1]), []
options = {"ssl": ssl._create_unverified_context(), "proxy": None, "open_timeout": 180}

async def main():
    global count
    while count < most and not os.path.exists("/tmp/stop"):
        try:
            async with connect("wss://127.0.0.1/echo", **options) as client:
                while count < most and not os.path.exists("/tmp/stop"):
                    await client.send(f"text {count}")
                    assert await asyncio.wait_for(client.recv(), 60) == f"text {count}"
                    count += 1
                    await asyncio.sleep(1)
        except ConnectionClosed as closed:
            codes.append(closed.rcvd and closed.rcvd.code)
        except InvalidMessage:
            codes.append("no response")

asyncio.run(main())
print(json.dumps([count, codes]))
"""
PYTHON = "/srv/app/current/venv/bin/python"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example and more, with a line of its own so that no cache answers."""
    base = os.environ.get("BAKE_TEST_BASE", "debian-13")
    place = "timezone: Europe/Berlin\nlocale: de_DE.UTF-8\nswap: 64M\n"
    recipe = f"base: {base}\nlimits: {{request: {LIMIT}s}}\ncheck: {{pages: [/facts]}}\n{place}"
    text = f"{MORE}\n# {os.urandom(8).hex()}\n"
    return extended(EXAMPLE, tmp_path_factory.mktemp("apps") / "fastapi-hello", recipe, text)


@pytest.fixture(scope="module")
def machine(folder, bake, tmp_path_factory):
    """A machine of the app's image, which its proof has compared with the author's server."""
    with baked_machine(bake, folder, tmp_path_factory.mktemp("asgi")) as (booted, printed):
        assert "asgi: main:app" in printed and "bake adds uvicorn" in printed
        yield booted


def test_the_app_sees_its_visitor_and_sends_its_stream(machine):
    facts = json.loads(machine.ssh("curl -sk -H 'X-Forwarded-For: 192.0.2.1' https://127.0.0.1/facts").stdout)
    assert (facts["scheme"], facts["client"]) == ("https", "127.0.0.1")
    times = machine.ssh("curl -skN https://127.0.0.1/stream | while read line; do date +%s; done").stdout.split()
    assert int(times[2]) - int(times[0]) >= 5


def test_the_app_has_its_time_zone_and_its_locale_and_the_machine_its_swap(machine):
    place = json.loads(machine.ssh("curl -sk https://127.0.0.1/place").stdout)
    assert place == [["CET", "CEST"], "de_DE.UTF-8", "März"]
    assert machine.ssh("sudo swapon --bytes --noheadings --show=NAME,SIZE").stdout.split() == [
        "/var/swap",
        str((64 << 20) - 4096),
    ]


def test_a_websocket_works_over_https(machine):
    assert json.loads(machine.ssh(f"{PYTHON} - 3", stdin=WEBSOCKET).stdout) == [3, []]


def test_a_push_fails_no_request_and_closes_a_websocket_once(machine, host, folder, bake):  # noqa: F811
    argv = qemu.ssh_argv(machine.port, machine.private_key, machine.known_hosts, f"{PYTHON} - 999")
    source = folder / "main.py"
    source.write_text(source.read_text().replace('"version": "first"', '"version": "second"'))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(WEBSOCKET)
        client.stdin.close()
        with visited(machine, VISITORS) as seen:
            pushed = bake("push", *host, folder)
            machine.ssh("sudo systemctl restart app", timeout=300)
        echoes, codes = json.loads(client.stdout.read())
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"} and seen["200"] >= 300, seen
    assert json.loads(machine.ssh("curl -sk https://127.0.0.1/facts").stdout)["version"] == "second"
    # The push closed it once, and so did the restart.
    assert (client.returncode, echoes > 0, codes) == (0, True, [1012, 1012])


def test_a_push_of_a_release_that_takes_60_s_to_load_fails_no_request(machine, host, folder, bake):  # noqa: F811
    source = folder / "main.py"
    whole = source.read_text()
    source.write_text(f"{whole}\ntime.sleep(60)\n")
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    source.write_text(whole)
    assert pushed.code == 0, pushed.stderr
    assert set(seen) == {"200"}, seen
    assert bake("push", *host, folder).code == 0


def test_its_faults_end_with_the_request(machine):
    assert_faults_end(machine, "/slow")


def test_a_release_that_does_not_start_is_refused_with_its_exception(machine, host, folder, bake):  # noqa: F811
    source = folder / "main.py"
    whole = source.read_text()
    source.write_text(f"{whole}\nraise RuntimeError('broken on purpose')\n")
    with visited(machine, VISITORS) as seen:
        pushed = bake("push", *host, folder)
    source.write_text(whole)
    assert pushed.code == 43 and "RuntimeError: broken on purpose" in pushed.stderr, pushed.stderr
    assert set(seen) == {"200"}, seen
