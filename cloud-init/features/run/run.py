"""Run the program that the recipe names, which serves HTTP at a port, behind the socket that systemd passes.

The program gets its port in PORT. When it answers there, this program reports READY and forwards each connection of the
socket to the port. At SIGTERM it accepts no more connections, waits for those that it has, and stops the program.
Runs as the app's user. Part of a release with `run`.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path

#: Seconds for one request, unless the recipe has `limits.request`.
REQUEST = 60
#: The longest time in seconds for the requests of a program that stops, and for its own end after SIGTERM.
#: app.service kills it after TimeoutStopSec.
DRAIN, END = 55, 10
#: Bytes that are forwarded at once.
SIZE = 1 << 16
#: Seconds without new visitors, after the descriptors or the memory for one are used up. As in asyncio.
PAUSE = 1
#: Seconds until a program that listens only at other ports is reported.
PATIENCE = 10
#: The variables that give frameworks the port and the address, and the documentation of each.
VARIABLES = {
    # https://docs.streamlit.io/develop/api-reference/configuration/config.toml
    "STREAMLIT_SERVER_PORT": "{port}",
    "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
    "STREAMLIT_SERVER_HEADLESS": "true",
    # https://www.gradio.app/guides/environment-variables
    "GRADIO_SERVER_PORT": "{port}",
    "GRADIO_SERVER_NAME": "127.0.0.1",
    # https://docs.bokeh.org/en/latest/docs/reference/settings.html. Panel uses Bokeh's server.
    "BOKEH_ALLOW_WS_ORIGIN": "{names}",
    # https://flask.palletsprojects.com/en/stable/cli/
    "FLASK_RUN_PORT": "{port}",
    "FLASK_RUN_HOST": "127.0.0.1",
    # https://www.uvicorn.org/settings/
    "UVICORN_PORT": "{port}",
    "UVICORN_HOST": "127.0.0.1",
}


def environment(release: Path, port: int) -> dict[str, str]:
    """Return the program's environment. systemd's own variables are not part of it."""
    # As for the app's jobs, for a program that is not in the app's folder.
    modules = f"{release}/source:{release}/source/src:{release}/settings/django"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LISTEN_", "NOTIFY_"))}
    names = ",".join(os.environ.get("APP_DOMAINS", "").split()) or "*"
    variables = {name: value.format(port=port, names=names) for name, value in VARIABLES.items()}
    return {**inherited, **variables, "PYTHONPATH": modules, "PORT": str(port)}


class Side:
    """One of the two connections of a visitor. What arrives here goes to the other one."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection that does not block."""
        self.connection = connection
        self.other = self
        self.waiting = b""
        self.interest = 0
        self.is_upgraded = False
        #: When the visitor last sent something that the program has not reacted to, or 0.
        self.since = 0.0


class Forwarder:
    """Forwards each connection of the socket to the program's port.

    One for each request, as nginx makes them: what one visitor sends never reaches the connection of another. So their
    cost counts. asyncio's transports take three times the CPU time of this class.
    """

    def __init__(self, listener: socket.socket, port: int) -> None:
        """Begin to accept connections, in the running loop."""
        listener.setblocking(False)
        self.listener, self.port = listener, port
        #: The connections by their descriptors.
        self.sides: dict[int, Side] = {}
        self.poll = select.epoll()
        self.poll.register(listener, select.EPOLLIN)
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.poll, self.handle)
        self.resume: asyncio.TimerHandle | None = None

    def pause(self, error: OSError) -> None:
        """Accept no connections for a while. They wait in the socket."""
        print(f"<4>app: no visitor can connect for {PAUSE} s: {error}", file=sys.stderr)
        self.poll.modify(self.listener, 0)
        self.resume = self.loop.call_later(PAUSE, self.poll.modify, self.listener, select.EPOLLIN)

    def stop(self) -> None:
        """Accept no more connections."""
        self.poll.unregister(self.listener)
        if self.resume:
            self.resume.cancel()

    def is_idle(self) -> bool:
        """Return whether all connections that are left are WebSockets."""
        return all(side.is_upgraded or side.other.is_upgraded for side in self.sides.values())

    def is_late(self, limit: float) -> bool:
        """Return whether a visitor has waited for `limit` seconds without a byte from the program."""
        late = time.monotonic() - limit
        return any(0 < side.since < late and not side.is_upgraded for side in self.sides.values())

    def handle(self) -> None:
        """Do what can be done without waiting."""
        for number, events in self.poll.poll(0):
            if number == self.listener.fileno():
                self.accept()
            elif side := self.sides.get(number):
                try:
                    if events & select.EPOLLOUT:
                        self.send(side, side.waiting)
                    if events & ~select.EPOLLOUT and not side.other.waiting:
                        self.receive(side)
                except BlockingIOError:
                    pass
                except OSError:
                    self.close(side)

    def accept(self) -> None:
        """Accept a connection, and connect to the program. If that fails, nginx shows the machine's page."""
        try:
            program = Side(socket.socket())
            visitor = Side(self.listener.accept()[0])
        except BlockingIOError:
            return
        except OSError as error:
            self.pause(error)
            return
        program.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visitor.other, program.other = program, visitor
        for side in (visitor, program):
            side.connection.setblocking(False)
            self.sides[side.connection.fileno()] = side
        # Most connections are there at once. Of one that comes later, or fails, epoll tells.
        program.connection.connect_ex(("127.0.0.1", self.port))
        self.watch(program)
        self.watch(visitor)

    def receive(self, side: Side) -> None:
        """Forward what a side has sent, or its end. Raises OSError."""
        if data := side.connection.recv(SIZE):
            if side.connection.family == socket.AF_INET:
                side.since = 0
                if data.startswith(b"HTTP/1.1 101"):
                    side.is_upgraded = True
            else:
                side.other.since = time.monotonic()
            self.send(side.other, data)
        else:
            self.close(side)

    def send(self, side: Side, data: bytes) -> None:
        """Send data, and keep what a slow reader does not take yet: the other side waits for it. Raises OSError."""
        try:
            sent = side.connection.send(data)
        except BlockingIOError:
            sent = 0
        side.waiting = data[sent:]
        self.watch(side)
        self.watch(side.other)

    def watch(self, side: Side) -> None:
        """Have epoll tell when there is something to do for a side."""
        events = (0 if side.other.waiting else select.EPOLLIN) | (select.EPOLLOUT if side.waiting else 0)
        if events == side.interest:
            return
        if not side.interest:
            self.poll.register(side.connection, events)
        elif events:
            self.poll.modify(side.connection, events)
        else:
            self.poll.unregister(side.connection)
        side.interest = events

    def close(self, side: Side) -> None:
        """Close both connections of a visitor."""
        for each in (side, side.other):
            del self.sides[each.connection.fileno()]
            each.connection.close()


async def answers(port: int, path: str, limit: float = REQUEST) -> bool:
    """Return whether the program answers a request within `limit` seconds, with any status: app-setup checks that."""
    with contextlib.suppress(OSError, asyncio.TimeoutError, ValueError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = (f"GET {path} HTTP/1.1", "Host: localhost", "X-Forwarded-Proto: https", "Connection: close")
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        try:
            return (await asyncio.wait_for(reader.readline(), limit)).startswith(b"HTTP/")
        finally:
            writer.close()
    return False


def ports(session: int) -> set[int]:
    """Return the TCP ports at which the processes of a session listen."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(process.name)) == session:
                sockets |= {str(file.readlink()) for file in (process / "fd").iterdir()}
    # proc_net_tcp in the kernel's documentation: local address, state and inode are fields 1, 3 and 9. 0A: listening.
    tables = (path.read_text().splitlines() for path in Path("/proc/self/net").glob("tcp*"))
    rows = [line.split() for table in tables for line in table if " 0A " in line]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in sockets}


async def await_answer(port: int, path: str, session: int) -> None:
    """Wait until the program answers. Report once if it listens only at other ports."""
    begin, is_reported = time.monotonic(), False
    while not await answers(port, path):
        await asyncio.sleep(0.2)
        if not is_reported and time.monotonic() - begin > PATIENCE:
            others = ports(session)
            is_reported = bool(others)
            if others and port not in others:
                print(
                    f"<4>app: the program listens at port {min(others)} instead of PORT, {port}; write  "
                    f"port: {min(others)}",
                    file=sys.stderr,
                )


async def hang(forwarder: Forwarder, port: int, path: str, limit: float) -> None:
    """Wait until a visitor gets nothing within the limit, and another request neither: the program is stuck."""
    while not forwarder.is_late(limit) or await answers(port, path, limit):
        await asyncio.sleep(1)
    print(f"<3>app: the program answers nothing within {limit} s, so it is ended", file=sys.stderr)


async def end(program: asyncio.subprocess.Process) -> None:
    """Stop the program's processes. systemd kills those that are left."""
    deadline = time.monotonic() + END
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            os.killpg(program.pid, 0)


async def main(release: Path, listener: socket.socket, place: str, port: int) -> int:
    """Serve until SIGTERM or the program's end, and return the exit status."""
    recipe = json.loads((release / "recipe.json").read_text())
    command, port = recipe["run"], recipe.get("port", port)
    limit = recipe.get("limits", {}).get("request", REQUEST)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print(f"app: {command!r} starts with PORT={port}", flush=True)
    program = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, cwd=release / "source", env=environment(release, port), start_new_session=True
    )
    path = (recipe.get("check") or {}).get("health") or "/"
    ended, stopped, ready = (
        loop.create_task(each)
        for each in (program.wait(), stop.wait(), await_answer(port, path, program.pid))
    )  # fmt: skip
    await asyncio.wait({ended, stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
    is_stuck = False
    if ready.done() and not ended.done():
        forwarder = Forwarder(listener, port)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"READY=1", place)
        stuck = loop.create_task(hang(forwarder, port, path, limit))
        await asyncio.wait({ended, stopped, stuck}, return_when=asyncio.FIRST_COMPLETED)
        is_stuck = stuck.done()
        # systemd keeps the socket, in which new connections wait for the next start.
        forwarder.stop()
        deadline = time.monotonic() + min(DRAIN, limit)
        while not (ended.done() or is_stuck) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            if forwarder.is_idle():
                break
    if ended.done():
        print(f"<3>app: {command!r} ended with {program.returncode}", file=sys.stderr)
        return 1
    await end(program)
    return int(is_stuck)


if __name__ == "__main__":
    socket_of_unit = socket.socket(fileno=3)
    socket_of_unit.set_inheritable(False)
    arguments = Path(os.environ["APP_RELEASE"]), socket_of_unit, os.environ["NOTIFY_SOCKET"], int(sys.argv[1])
    sys.exit(asyncio.run(main(*arguments)))
