"""Hold 2,000 slow connections to nginx for a while, and ask for a page all the time. Print the counts as JSON.

Runs on the machine. Each slow visitor has an address of its own, as many visitors have. nginx's bound for one address
counts only requests whose headers it has read.
"""

import collections
import http.client
import json
import resource
import selectors
import socket
import time

SLOW, SECONDS = 2000, 45


def connection(number):
    """Begin a request from another address of the loopback network."""
    visitor = socket.socket()
    visitor.setblocking(False)
    visitor.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
    visitor.connect_ex(("127.0.0.1", 80))
    return visitor


def ask():
    """Ask for the page, and return the status."""
    site = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
    try:
        site.request("GET", "/")
        return str(site.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        site.close()


def main():
    """Send each slow visitor's header a byte at a time, and connect again when nginx ends the connection."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * SLOW, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    slow = [connection(number) for number in range(SLOW)]
    seen: collections.Counter[str] = collections.Counter()
    most, end, turn = 0, time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        turn += 1
        for number in range(turn % 20, SLOW, 20):
            try:
                slow[number].send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " if turn <= 20 else b"x")
            except BlockingIOError:
                pass
            except OSError:
                slow[number].close()
                slow[number] = connection(number)
        with selectors.DefaultSelector() as selector:
            for visitor in slow:
                selector.register(visitor, selectors.EVENT_WRITE)
            most = max(most, len(selector.select(0)))
        seen[ask()] += 1
    for visitor in slow:
        visitor.close()
    print(json.dumps({"answers": seen, "slow": most}))


main()
