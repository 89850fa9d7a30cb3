"""Connects standard input and output to a Unix socket: ``relay_client.py SOCKET``.

A program of its own that uses the standard library only: an ACP agent starts it inside its
sandbox in place of an MCP program, which ``relay`` runs elsewhere.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_BLOCK = 64 * 1024


def main(path: str) -> None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The path of a socket has about 100 bytes at most; its name alone is short.
    os.chdir(os.path.dirname(path))
    connection.connect(os.path.basename(path))
    # The answers decide when this ends: after them nothing more comes.
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
