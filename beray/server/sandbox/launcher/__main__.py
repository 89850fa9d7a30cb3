"""Program that starts one command and supervises it.

    python -I -S PATH/launcher CONTROL

CONTROL is the descriptor of a Unix stream socket. The server sends one message on it (see
``framing``): JSON with these keys:

- ``command``: list of arguments, executed with ``execvp``.
- ``limits``: names and values of setrlimit(2) in lower case (``core``, ``nofile``); on Linux also
  ``processes`` (number of processes at once), ``memory`` (bytes of all processes together),
  ``disk`` (bytes of unlinked files) and ``descriptors`` (of all processes together).
  If one of these four is exceeded, the command is killed.
- ``cgroup`` (optional): directory of cgroup v2 below which a group is created for the command.
- ``report`` (optional): path of a file to which the usage of unlinked files is written.
- ``data`` (optional): list of strings; the command can read the bytes of each (latin-1) from the
  descriptors 3, 4, ….
- ``user`` (optional, only if this program runs as root): ``uid`` that executes the command, and
  ``directory`` and ``sources`` of ``mounts.stage``.
- ``network`` (optional): ``spec`` of ``network.prepare``. The launcher replies with one message
  in the same format before it starts the command. The reply is ``{"problem": null}``, with the
  listening sockets as ancillary data (SCM_RIGHTS) of its first byte, or ``{"problem": REASON}``.
  In the latter case the launcher does not start the command, writes the reason to stderr and exits
  with status 125, or 126 if the kernel does not permit such namespaces to this user.
- ``leftovers`` (optional): method of finding processes that the command leaves running. ``init``:
  the command starts with ``leftovers.INIT`` in a PID namespace, and a pipe is its standard input.
  ``descendants``: the launcher searches its descendants (Linux only).

If a limit ended the command, the launcher sends ``{"limit": NAME, "problem": REASON}`` as its last
message and closes the socket. If the command left processes running, the launcher sends
``{"left": [NAME, …]}`` in the same way.

The server keeps the socket open. When the server closes it or dies, and when the command ends,
every process that descends from the command is killed. The exit status is the command's, or
128 + n for signal n.
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

    from beray.server.sandbox.launcher import (
        cgroup,
        framing,
        leftovers,
        mounts,
        privileges,
        supervisor,
    )
else:
    import cgroup
    import framing
    import leftovers
    import mounts
    import privileges
    import supervisor

_FIRST_DATA = 3
"""Descriptor of the first item of ``data``."""
NOT_STARTED = 125
"""Exit status if the network could not be set up."""
NOT_PERMITTED = 126
"""Exit status if the kernel does not permit network namespaces to this user."""


def main(control: int) -> int:
    """Run the command that the server describes on ``control``; return the exit status."""
    # The numbers of a busy server's descriptors may exceed the limit of select(2).
    low = os.dup(control)
    os.close(control)
    try:
        spec = _receive(low)
    except EOFError:
        return 128 + signal.SIGKILL
    limits: dict[str, int] = spec["limits"]
    if "network" in spec and (status := _prepare_network(low, spec["network"])):
        return status
    group = _create_group(spec.get("cgroup"), limits)

    pipe = leftovers.Pipe() if spec.get("leftovers") == "init" else None
    left: list[str] = []

    def run() -> None:
        if group is not None:
            group.enter()
        if pipe is not None:
            pipe.become_stdin()
        _execute(spec)

    def on_exit(descendants: list[int]) -> None:
        left.extend(leftovers.names_of(descendants) if pipe is None else pipe.names())

    status, excess = supervisor.supervise(
        low,
        run,
        limits,
        spec.get("report"),
        owns_network="network" in spec,
        on_exit=on_exit if "leftovers" in spec else None,
    )
    if group is not None:
        excess = excess or group.excess()
        group.remove()
    if excess is not None:
        os.write(2, f"\n[The command was ended: {excess.problem}.]\n".encode())
        _send_last(low, {"limit": excess.limit, "problem": excess.problem})
    elif left:
        _send_last(low, {"left": left})
    return status


def _send_last(control: int, message: "dict[str, Any]") -> None:
    """Send the last message to the server. The command has no access to this socket."""
    with socket.socket(fileno=os.dup(control)) as connection, contextlib.suppress(OSError):
        connection.sendall(framing.encode(json.dumps(message).encode()))


def _create_group(parent: str | None, limits: dict[str, int]) -> "cgroup.CommandGroup | None":
    """Create a cgroup for the command; return None if that is not possible.

    The supervisor enforces the same limits, but with a delay.
    """
    if parent is None:
        return None
    try:
        return cgroup.CommandGroup(parent, limits)
    except OSError:
        return None


def _prepare_network(control: int, spec: "dict[str, Any]") -> int:
    """Enter the command's network namespace and reply to the server.

    Returns:
        0, or the exit status if the network could not be set up.
    """
    if TYPE_CHECKING:
        from beray.server.sandbox.launcher import network
    else:
        import network  # imported here because most commands do not need it

    listeners: list[socket.socket] = []
    problem, status = None, 0
    try:
        listeners = network.prepare(spec, control)
    except network.NetworkProblem as error:
        problem = str(error)
        status = NOT_PERMITTED if error.permission else NOT_STARTED
        os.write(2, f"[The command was not started: {problem}.]\n".encode())
    message = framing.encode(json.dumps({"problem": problem}).encode())
    with socket.socket(fileno=os.dup(control)) as connection:
        try:
            numbers = [listener.fileno() for listener in listeners]
            sent = socket.send_fds(connection, [message[:1]], numbers) if numbers else 0
            connection.sendall(message[sent:])
        except OSError:
            return NOT_STARTED  # the server has closed the socket
    for listener in listeners:
        listener.close()
    return status


def _receive(control: int) -> "dict[str, Any]":
    """Receive the server's message.

    Raises:
        EOFError: The server closed the socket before the message was complete.
    """
    with socket.socket(fileno=os.dup(control)) as connection:
        spec: dict[str, Any] = json.loads(framing.read(connection.recv))
        return spec


def _execute(spec: "dict[str, Any]") -> None:
    """Replace this process by the command. If that fails, write the reason to stderr and return."""
    command: list[str] = spec["command"]
    user: dict[str, Any] | None = spec.get("user")
    parent = os.getppid()
    step = "cannot prepare the command"
    try:
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        # The server's umask makes files private; a command has the usual umask.
        os.umask(0o022)
        if user is not None:
            step = "root cannot mount without CAP_SYS_ADMIN; run the server as another user"
            mounts.stage(user["directory"], user["sources"])
            step = "cannot prepare the command"
        _open_data(spec.get("data", []))
        supervisor.set_limits(spec["limits"])
        if user is not None:
            step = f"cannot become uid {user['uid']}"
            privileges.drop(user["uid"])
            supervisor.die_with(parent)
        step = command[0]
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{step}: {error.strerror}\n".encode())


def _open_data(data: list[str]) -> None:
    """Make each item readable from its descriptor, which the command inherits."""
    descriptors = []
    for text in data:
        descriptor = os.memfd_create("beray")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode("latin-1"))
        os.lseek(descriptor, 0, os.SEEK_SET)
        # Above the descriptors that are assigned below.
        first_free = _FIRST_DATA + len(data)
        descriptors.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first_free))
        os.close(descriptor)
    for number, descriptor in enumerate(descriptors, _FIRST_DATA):
        os.dup2(descriptor, number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
