"""The ASGI app that the benchmark serves: a small page, and a page that waits."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def small(request: Request) -> PlainTextResponse:
    """Answer at once, so that mostly the server computes."""
    return PlainTextResponse("small")


async def wait(request: Request) -> PlainTextResponse:
    """Wait for 50 ms, as for a database."""
    await asyncio.sleep(0.05)
    return PlainTextResponse("waited")


app = Starlette(routes=[Route("/", small), Route("/small", small), Route("/wait", wait)])
