"""Start one command under supervision.

    python -I -S PATH/launcher CONTROL

CONTROL is the descriptor of a Unix stream socket. The server sends one message on it: four bytes
with the length (big-endian), then JSON with these keys:

- ``command``: list of arguments, executed with ``execvp``.
- ``limits``: names and values of setrlimit(2) in lower case (``core``, ``nofile``); on Linux also
  ``processes`` (number of processes at once), ``memory`` (bytes of all processes together),
  ``disk`` (bytes of unlinked files) and ``descriptors`` (of all processes together).
  Exceeding one of these four ends the command as SIGKILL does.
- ``cgroup``: optional folder of cgroup v2 below which the command gets a group.
- ``report``: optional path of a file that receives what unlinked files use.
- ``data`` (optional): list of strings; the command can read the bytes of each (latin-1) from the
  descriptors 3, 4, ….
- ``user`` (optional, only if this program runs as root): ``uid`` that executes the command, and
  ``directory`` and ``sources`` of ``mounts.stage``.

The server keeps the socket open. When it ends (the server closed it, or died), and also when
the command itself has ended, every process that descends from the command is killed. The exit
status is the command's, or 128 + n for signal n.
"""

import fcntl
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING:
    from typing import Any

    from beray.server.sandbox.launcher import cgroup, mounts, privileges, supervisor
else:
    import cgroup
    import mounts
    import privileges
    import supervisor

_FIRST_DATA = 3
"""Descriptor of the first item of ``data``."""


def main(control: int) -> int:
    # Descriptors of a busy server have numbers above what select(2) accepts.
    low = os.dup(control)
    os.close(control)
    try:
        spec = _received(low)
    except EOFError:
        return 128 + signal.SIGKILL
    limits: dict[str, int] = spec["limits"]
    group = _group(spec.get("cgroup"), limits)

    def run() -> None:
        if group is not None:
            group.enter()
        _execute(spec)

    status, problem = supervisor.supervise(low, run, limits, spec.get("report"))
    if group is not None:
        problem = problem or group.problem()
        group.remove()
    if problem is not None:
        os.write(2, f"\n[ended: {problem}]\n".encode())
    return status


def _group(parent: str | None, limits: dict[str, int]) -> "cgroup.CommandGroup | None":
    """Return a group for the command; ``None`` if there can be none.

    The supervisor enforces the same limits, only less quickly.
    """
    if parent is None:
        return None
    try:
        return cgroup.CommandGroup(parent, limits)
    except OSError:
        return None


def _received(control: int) -> "dict[str, Any]":
    """Return the server's message.

    Raises:
        EOFError: the server closed the socket before the message was complete.
    """
    with socket.socket(fileno=os.dup(control)) as connection:
        size = int.from_bytes(_exactly(connection, 4), "big")
        spec: dict[str, Any] = json.loads(_exactly(connection, size))
        return spec


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        block = connection.recv(size - len(received))
        if not block:
            raise EOFError
        received += block
    return bytes(received)


def _execute(spec: "dict[str, Any]") -> None:
    """Replace this process by the command; return after writing the reason if that fails."""
    command: list[str] = spec["command"]
    user: dict[str, Any] | None = spec.get("user")
    parent = os.getppid()
    step = "cannot prepare the command"
    try:
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        # The server creates private files; a command has the usual mask.
        os.umask(0o022)
        if user is not None:
            step = "root without CAP_SYS_ADMIN cannot mount; run the server as another user"
            mounts.stage(user["directory"], user["sources"])
            step = "cannot prepare the command"
        _provide(spec.get("data", []))
        supervisor.set_limits(spec["limits"])
        if user is not None:
            step = f"cannot become uid {user['uid']}"
            privileges.drop(user["uid"])
            supervisor.die_with(parent)
        step = command[0]
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{step}: {error.strerror}\n".encode())


def _provide(data: list[str]) -> None:
    """Make each item readable from its descriptor, which the command inherits."""
    pipes = []
    for text in data:
        reading, writing = os.pipe()
        # Small enough for the buffer of a pipe.
        os.write(writing, text.encode("latin-1"))
        os.close(writing)
        # Away from the descriptors that are assigned below.
        pipes.append(fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, _FIRST_DATA + len(data)))
        os.close(reading)
    for number, reading in enumerate(pipes, _FIRST_DATA):
        os.dup2(reading, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
