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
- ``network`` (optional): ``spec`` of ``network.prepare``. The launcher answers with one message
  in the same form before it starts the command: ``{"problem": null}``, with the listening sockets
  as ancillary data (SCM_RIGHTS) of its first byte, or ``{"problem": REASON}``. Then it starts
  nothing, writes the reason to stderr and exits with status 125, or 126 if the kernel does not
  permit such namespaces to this user.

- ``leftovers`` (optional): how processes are found that the command leaves running: ``init`` if it
  starts with ``leftovers.INIT`` in a PID namespace, which then has a pipe as standard input;
  ``descendants`` otherwise (Linux only).

When a limit has ended the command, the launcher sends ``{"problem": REASON}`` as its last message,
without a length, and closes the socket. If the command has left processes running, it sends
``{"left": [NAME, …]}`` in the same way.

The server keeps the socket open. When it ends (the server closed it, or died), and also when
the command itself has ended, every process that descends from the command is killed. The exit
status is the command's, or 128 + n for signal n.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING:
    from typing import Any

    from beray.server.sandbox.launcher import cgroup, leftovers, mounts, privileges, supervisor
else:
    import cgroup
    import leftovers
    import mounts
    import privileges
    import supervisor

_FIRST_DATA = 3
"""Descriptor of the first item of ``data``."""
NOT_STARTED = 125
NOT_PERMITTED = 126


def main(control: int) -> int:
    # Descriptors of a busy server have numbers above what select(2) accepts.
    low = os.dup(control)
    os.close(control)
    try:
        spec = _received(low)
    except EOFError:
        return 128 + signal.SIGKILL
    limits: dict[str, int] = spec["limits"]
    if "network" in spec and (failed := _prepare_network(low, spec["network"])):
        return failed
    group = _group(spec.get("cgroup"), limits)

    pipe = leftovers.Pipe() if spec.get("leftovers") == "init" else None
    left: list[str] = []

    def run() -> None:
        if group is not None:
            group.enter()
        if pipe is not None:
            pipe.become_stdin()
        _execute(spec)

    def ended(descendants: list[int]) -> None:
        left.extend(leftovers.names_of(descendants) if pipe is None else pipe.names())

    status, problem = supervisor.supervise(
        low,
        run,
        limits,
        spec.get("report"),
        owns_network="network" in spec,
        ended=ended if "leftovers" in spec else None,
    )
    if group is not None:
        problem = problem or group.problem()
        group.remove()
    if problem is not None:
        os.write(2, f"\n[ended: {problem}]\n".encode())
        _report(low, {"problem": problem})
    elif left:
        _report(low, {"left": left})
    return status


def _report(control: int, message: "dict[str, Any]") -> None:
    """Send the server the last message, in a way that the command cannot imitate."""
    with socket.socket(fileno=os.dup(control)) as connection, contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode())


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


def _prepare_network(control: int, spec: "dict[str, Any]") -> int:
    """Enter the command's network namespace and answer the server.

    Returns:
        0, or the exit status if there is no such network.
    """
    if TYPE_CHECKING:
        from beray.server.sandbox.launcher import network
    else:
        import network  # here because most commands do without

    listeners: list[socket.socket] = []
    problem, status = None, 0
    try:
        listeners = network.prepare(spec, control)
    except network.NetworkProblem as error:
        problem = str(error)
        status = NOT_PERMITTED if error.permission else NOT_STARTED
        os.write(2, f"[not started: {problem}]\n".encode())
    body = json.dumps({"problem": problem}).encode()
    message = len(body).to_bytes(4, "big") + body
    with socket.socket(fileno=os.dup(control)) as connection:
        try:
            numbers = [listener.fileno() for listener in listeners]
            sent = socket.send_fds(connection, [message[:1]], numbers) if numbers else 0
            connection.sendall(message[sent:])
        except OSError:
            return NOT_STARTED  # the server has gone
    for listener in listeners:
        listener.close()
    return status


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
    files = []
    for text in data:
        file = os.memfd_create("beray")
        with open(file, "wb", closefd=False) as written:
            written.write(text.encode("latin-1"))
        os.lseek(file, 0, os.SEEK_SET)
        # Away from the descriptors that are assigned below.
        files.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST_DATA + len(data)))
        os.close(file)
    for number, file in enumerate(files, _FIRST_DATA):
        os.dup2(file, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
