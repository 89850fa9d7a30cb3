"""Runs one command and leaves nothing of it behind. A program of its own.

    python -I -S supervisor.py LIMITS COMMAND [ARGUMENT …]

LIMITS bind the command: ``core=0,nofile=4096``, names and values of setrlimit(2).
Standard input is a pipe that the server holds open. When it ends (the server closed
it, or died), and also when the command itself has ended, every process that descends
from the command is killed. The exit status is the command's, or 128 + n for signal n.

POSIX only, standard library only. On Linux the supervisor is a subreaper, so that a
process which double-forks away becomes its child again and is found; elsewhere it
kills the command's process group.
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_LINUX = sys.platform == "linux"


def main(limits: str, command: list[str]) -> int:
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    child = _start(limits, command)
    status = _wait(child, wake_read)
    _sweep(child)
    return 128 + signal.SIGKILL if status is None else _exit_status(status)


def _start(limits: str, command: list[str]) -> int:
    supervisor = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        if _LINUX:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(125)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        # The server's own files are its owner's alone; a command's are as is usual.
        os.umask(0o022)
        _limit(limits)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _limit(limits: str) -> None:
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        hard = resource.getrlimit(kind)[1]
        # Nobody but root may have more than was given to the server.
        most = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (most, most))


def _wait(child: int, wake: int) -> int | None:
    """The wait status of ``child``; ``None`` where the server wants the end first."""
    while True:
        status = _reaped(child)
        if status is not None:
            return status
        readable, _, _ = select.select([0, wake], [], [])
        if 0 in readable and not os.read(0, 4096):
            return None
        if wake in readable:
            os.read(wake, 4096)


def _reaped(child: int) -> int | None:
    """Reap whoever has ended; the status of ``child`` if it was among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == child:
            return status
        if pid == 0:
            return None


def _sweep(child: int) -> None:
    """Kill and reap until there is nobody left. Whoever forks meanwhile is met again."""
    while True:
        for pid in _descendants() if _LINUX else []:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not _LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name may hold anything, parentheses too.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        below = children.get(parents.pop(), [])
        found += below
        parents += below
    return found


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
