"""The program with a server of its own that the benchmark runs, as aiohttp's documentation shows it."""

import asyncio
import os

from aiohttp import web


async def small(request: web.Request) -> web.Response:
    """Answer at once, so that mostly the server computes."""
    return web.Response(text="small")


async def wait(request: web.Request) -> web.Response:
    """Wait for 50 ms, as for a database."""
    await asyncio.sleep(0.05)
    return web.Response(text="waited")


app = web.Application()
app.add_routes([web.get("/", small), web.get("/small", small), web.get("/wait", wait)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None)
