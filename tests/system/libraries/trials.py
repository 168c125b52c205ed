"""Use one library in the way that touches the system: its memory, threads, sockets, files, or system calls."""

# mypy: ignore-errors
import asyncio
import ctypes
import io
import logging.handlers
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

DATA = Path(os.environ["HOME"])


def aiohttp_server():
    from aiohttp import ClientSession, web

    async def serve():
        site = web.Application()
        site.router.add_get("/", lambda request: web.Response(text="hello"))
        runner = web.AppRunner(site)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 8123).start()
        async with ClientSession() as session, session.get("http://127.0.0.1:8123/") as answer:
            assert await answer.text() == "hello"
        await runner.cleanup()

    asyncio.run(serve())


def argon2():
    from argon2 import PasswordHasher

    hasher = PasswordHasher()
    assert hasher.verify(hasher.hash("word"), "word")


def bcrypt():
    import bcrypt

    assert bcrypt.checkpw(b"word", bcrypt.hashpw(b"word", bcrypt.gensalt(4)))


def cffi_callback():
    import cffi

    ffi = cffi.FFI()
    assert ffi.callback("int(int)", lambda number: number + 1)(1) == 2


def chromium():
    page = ["chromium", "--headless", "--disable-gpu", "--dump-dom", "data:text/html,<p>hello</p>"]
    done = subprocess.run(page, capture_output=True, text=True, timeout=390)
    assert "<p>hello</p>" in done.stdout, done.stderr


def cryptography():
    from cryptography.fernet import Fernet
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = Fernet(Fernet.generate_key())
    assert key.decrypt(key.encrypt(b"word")) == b"word"
    assert rsa.generate_private_key(65537, 2048).key_size == 2048


def ctypes_callback():
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    ctypes.CDLL(None).qsort(numbers, 3, 4, kind(lambda first, second: first[0] - second[0]))
    assert list(numbers) == [1, 2, 3]


def gevent():
    import gevent.monkey

    gevent.monkey.patch_all()
    import gevent.pool

    assert gevent.pool.Pool(4).map(lambda number: number + 1, range(3)) == [1, 2, 3]


def grpc():
    from concurrent import futures

    import grpc

    server = grpc.server(futures.ThreadPoolExecutor(2))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)
    server.stop(0)


def interfaces():
    import psutil

    assert "lo" in psutil.net_if_addrs()


def joblib_processes():
    import joblib

    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in (-1, -2)) == [1, 2]


def locale_names():
    import locale

    assert locale.setlocale(locale.LC_ALL, "C.UTF-8") == "C.UTF-8"


def lupa():
    from lupa import LuaRuntime

    assert LuaRuntime().eval("1 + 1") == 2


def lxml():
    from lxml import etree

    assert etree.fromstring("<a><b>c</b></a>").xpath("string(//b)") == "c"


def matplotlib():
    from matplotlib.figure import Figure

    picture = io.BytesIO()
    figure = Figure()
    figure.subplots().plot([1, 2], label="grüße")
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")


def multiprocessing_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


def nice():
    os.nice(1)
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def numba():
    import numba

    assert numba.njit(lambda number: number + 1)(1) == 2


def numpy():
    import numpy

    assert numpy.linalg.inv(numpy.eye(200)).sum() == 200


def orjson():
    import orjson

    assert orjson.loads(orjson.dumps({"a": [1, 2.5, "ü"]})) == {"a": [1, 2.5, "ü"]}


def pandas():
    import pandas

    assert pandas.read_csv(io.StringIO("a,b\n1,2\n1,3\n")).groupby("a").b.sum()[1] == 5


def pillow_font():
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (99, 33))
    ImageDraw.Draw(image).text((1, 1), "grüße", font=ImageFont.truetype("DejaVuSans.ttf", 20))
    image.save(io.BytesIO(), "WEBP")
    assert image.getbbox()


def playwright():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", timeout=390_000)
        page = browser.new_page()
        page.set_content("<p>hello</p>")
        assert page.inner_text("p") == "hello"
        browser.close()


def prometheus():
    from prometheus_client import generate_latest

    assert b"process_resident_memory_bytes" in generate_latest()


def psutil():
    import psutil

    assert psutil.virtual_memory().total and psutil.boot_time() and psutil.cpu_percent(0.1) is not None
    assert psutil.swap_memory() and psutil.net_io_counters() and psutil.disk_usage("/").total


def psutil_process():
    import psutil

    assert psutil.Process().memory_info().rss and psutil.Process().open_files() is not None


def psycopg():
    import psycopg

    try:
        psycopg.connect("host=127.0.0.1 connect_timeout=5")
    except psycopg.OperationalError as error:
        assert "refused" in str(error)


def pyarrow():
    import pyarrow
    import pyarrow.parquet

    path = Path(tempfile.gettempdir()) / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2]}), path)
    assert pyarrow.parquet.read_table(path, memory_map=True).num_rows == 2


def pyzmq():
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as server, context.socket(zmq.REQ) as client:
        address = f"ipc://{tempfile.gettempdir()}/zmq"
        server.bind(address)
        client.connect(address)
        client.send(b"word")
        assert server.recv() == b"word"
        client.close(0)


def resource_limits():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))


def shared_memory():
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.buf[0] = 7
    memory.close()
    memory.unlink()


def sqlalchemy():
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"sqlite:///{DATA}/alchemy.db")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1


def sqlite_wal():
    with sqlite3.connect(DATA / "wal.db") as database:
        assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        database.execute("CREATE TABLE IF NOT EXISTS t (a)")
        database.execute("INSERT INTO t VALUES (1)")


def syslog():
    logging.handlers.SysLogHandler("/dev/log").close()


def threads():
    started = [threading.Thread(target=sum, args=([1, 2],)) for _ in range(64)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def uvloop():
    import uvloop

    async def work():
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(None, Path(__file__).read_text)
        process = await asyncio.create_subprocess_exec("true")
        assert text and await process.wait() == 0

    uvloop.run(work())


def wasmtime():
    import wasmtime

    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, '(module (func (export "f") (result i32) i32.const 7))')
    assert wasmtime.Instance(store, module, []).exports(store)["f"](store) == 7


def watchdog():
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers.inotify import InotifyObserver

    changed = threading.Event()
    handler = FileSystemEventHandler()
    handler.on_any_event = lambda event: changed.set()
    folder = Path(tempfile.mkdtemp())
    observer = InotifyObserver()
    observer.schedule(handler, str(folder))
    observer.start()
    (folder / "a").touch()
    assert changed.wait(30)
    observer.stop()


def weasyprint():
    from weasyprint import HTML

    assert HTML(string="<p>grüße</p>").write_pdf().startswith(b"%PDF")


def zoneinfo():
    from datetime import datetime
    from zoneinfo import ZoneInfo

    assert datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")).utcoffset().total_seconds() == 7200


def zstandard():
    import zstandard

    assert zstandard.decompress(zstandard.compress(b"word" * 999)) == b"word" * 999


TRIALS = {name: trial for name, trial in globals().items() if callable(trial) and trial.__module__ == __name__}

if __name__ == "__main__":
    TRIALS[sys.argv[1]]()
