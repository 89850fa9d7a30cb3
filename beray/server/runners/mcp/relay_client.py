"""Program that connects standard input and output to a Unix socket: ``relay_client.py SOCKET``.

It uses the standard library only. An ACP agent starts it inside its sandbox in place of an MCP
program, which ``relay`` runs outside of that sandbox.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_BLOCK = 64 * 1024


def main(path: str) -> None:
    """Copy bytes between the standard streams and the socket until the socket is closed."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Socket paths are limited to about 100 bytes; a relative one is short.
    directory, _, name = path.rpartition("/")
    os.chdir(directory)
    connection.connect(name)
    # The program ends with the responses. Requests are sent by a daemon thread.
    threading.Thread(target=_send, args=(connection,), daemon=True).start()
    while data := connection.recv(_BLOCK):
        while data:
            data = data[os.write(1, data) :]


def _send(connection: socket.socket) -> None:
    while data := os.read(0, _BLOCK):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(sys.argv[1])
