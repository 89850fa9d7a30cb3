"""Run one child process and leave nothing of it behind.

POSIX only, standard library only. On Linux the supervisor is a subreaper: a process that
double-forks becomes its child again and is found. Elsewhere it kills the child's process group.
"""

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING or __package__:
    from beray.server.sandbox.launcher import resource_usage
else:  # in the launcher, which finds its modules by their plain names
    import resource_usage

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_LINUX = sys.platform == "linux"
_FORK_SECONDS = 0.2


def supervise(
    control: int,
    run: Callable[[], object],
    bounds: dict[str, int],
    report: str | None = None,
    *,
    owns_network: bool = False,
    ended: Callable[[list[int]], object] | None = None,
) -> tuple[int, str | None]:
    """Fork a child that calls ``run``; return ``(status, problem)`` when all of it is gone.

    ``status`` is the child's exit status; ``problem`` says in words of what there was too
    much, else it is ``None``.

    Args:
        control: a descriptor; once it can be read no further, the child is killed.
        run: leaves the process by itself; where it does not, that ends with status 127.
        bounds: names and numbers; ``ResourceWatch`` says which of them are watched here.
        report: file for what ``ResourceWatch`` finds.
        owns_network: as ``ResourceWatch`` takes it.
        ended: Linux: called with the pids of its descendants when the child has ended by itself.
    """
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    child = _start(run)
    watch = None
    if _LINUX and resource_usage.is_watched(bounds):
        watch = resource_usage.ResourceWatch(bounds, report, owns_network=owns_network)
    status, problem = _wait(child, control, wake_read, watch)
    if ended is not None and status is not None and _LINUX:
        ended(_descendants_of_all())
    _sweep(child)
    return (128 + signal.SIGKILL if status is None else _exit_status(status)), problem


def hide() -> None:
    """Keep the environment and the memory of this process from others of its user."""
    if _LINUX:
        _prctl(_PR_SET_DUMPABLE, 0)


def _start(run: Callable[[], object]) -> int:
    supervisor = os.getpid()
    child = fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        die_with(supervisor)
        run()
    finally:
        os._exit(127)


def fork() -> int:
    """Return what fork(2) does, once there is a process and memory for it."""
    while True:
        try:
            return os.fork()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOMEM):
                raise
        time.sleep(_FORK_SECONDS)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process ``parent``, ends.

    Linux only; to be repeated after a change of the uid, which clears this.
    """
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)


def set_limits(bounds: dict[str, int]) -> None:
    """Apply those ``bounds`` that are names of setrlimit(2)."""
    for name, value in bounds.items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        # Nobody but root may have more than was given to the server.
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))


def _wait(
    child: int, control: int, wake: int, watch: "resource_usage.ResourceWatch | None"
) -> tuple[int | None, str | None]:
    """The wait status of ``child``, ``None`` where it has to end first, and the problem."""
    while True:
        status = _reaped(child)
        if status is not None:
            return status, None
        pause = watch.pause_seconds if watch is not None else None
        readable, _, _ = select.select([control, wake], [], [], pause)
        if control in readable and not os.read(control, 4096):
            return None, None
        if wake in readable:
            os.read(wake, 4096)
        if watch is not None and (problem := watch.excess(_descendants)):
            return None, problem


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
        # All are held first: a process that forks faster than it is killed would win.
        for number in (signal.SIGSTOP, signal.SIGKILL) if _LINUX else ():
            for pid in _descendants_of_all():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        if not _LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return


def _descendants() -> list[int]:
    """Quickly; while processes come and go, the kernel may leave some of them out."""
    try:
        return _below(_children)
    except FileNotFoundError:
        return _descendants_of_all()


def _below(children_of: Callable[[int], list[int]]) -> list[int]:
    """The children of this process, theirs, and so on."""
    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        below = children_of(parents.pop())
        found += below
        parents += below
    return found


def _children(pid: int) -> list[int]:
    """Raises ``FileNotFoundError`` where the kernel does not keep such lists."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []  # it has just ended
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except ProcessLookupError:
            continue
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                raise
    return found


def _descendants_of_all() -> list[int]:
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
    return _below(lambda pid: children.get(pid, []))


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
