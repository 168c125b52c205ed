"""Tell bake the next step of a build, and wait for its reply: announce.py NAME [REGISTRY].

The socket to bake is standard input. With the URL of a registry, bake also gets a listening socket of this network
namespace, and its port goes to standard output.
"""

import fcntl
import socket
import struct
import sys

#: From linux/sockios.h and linux/if.h: set the flags of a network interface, and the flag of one that is up.
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def listener() -> socket.socket:
    """Return a socket that listens at 127.0.0.1. A new network namespace has an interface for that, which is down."""
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    return socket.create_server(("127.0.0.1", 0), backlog=128)


def main() -> None:
    """Send the step, and exit with status 1 if bake has ended."""
    bake, words = socket.socket(fileno=0), sys.argv[1:]
    message = " ".join(words).encode()
    if words[1:]:
        server = listener()
        print(server.getsockname()[1])
        socket.send_fds(bake, [message], [server.fileno()])
    else:
        bake.send(message)
    sys.exit(not bake.recv(1))


if __name__ == "__main__":
    main()
