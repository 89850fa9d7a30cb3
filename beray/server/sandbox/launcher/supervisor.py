"""Supervision of a child process whose descendants must all end with it.

POSIX only, standard library only. On Linux the supervisor is a subreaper: a process that
double-forks becomes a child of the supervisor again. On other systems the supervisor kills the
child's process group.
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
    from beray.server.sandbox.launcher.excess import Excess
else:  # in the launcher, which imports its modules by their plain names
    import resource_usage
    from excess import Excess

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_LINUX = sys.platform == "linux"
_FORK_SECONDS = 0.2
"""Pause between attempts to fork."""


def supervise(
    control: int,
    run: Callable[[], object],
    limits: dict[str, int],
    report: str | None = None,
    *,
    owns_network: bool = False,
    on_exit: Callable[[list[int]], object] | None = None,
) -> tuple[int, Excess | None]:
    """Fork a child that calls ``run``; return when the child and all its descendants have ended.

    Args:
        control: Descriptor; the child is killed when it reaches its end of file.
        run: Called in the child, and expected to end the process or to replace it. If it returns,
            the child exits with status 127.
        limits: Limits by name. Those that ``ResourceWatch`` documents are enforced here.
        report: File for the report of ``ResourceWatch``.
        owns_network: As for ``ResourceWatch``.
        on_exit: Called with the pids of the remaining descendants if the child ended by itself.
            Linux only.

    Returns:
        The child's exit status, and the limit that was exceeded or None.
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
    if _LINUX and resource_usage.is_watched(limits):
        watch = resource_usage.ResourceWatch(limits, report, owns_network=owns_network)
    status, excess = _wait(child, control, wake_read, watch)
    if on_exit is not None and status is not None and _LINUX:
        on_exit(_all_descendants())
    _kill_all(child)
    return (128 + signal.SIGKILL if status is None else _exit_status(status)), excess


def hide() -> None:
    """Hide the environment and the memory of this process from other processes of its user."""
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
    """Fork like os.fork; wait while the system is short of processes or memory."""
    while True:
        try:
            return os.fork()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOMEM):
                raise
        time.sleep(_FORK_SECONDS)


def die_with(parent: int) -> None:
    """Make the kernel kill this process when its parent, the process ``parent``, ends.

    Linux only. Must be called again after a change of the uid, which clears this setting.
    """
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(125)


def set_limits(limits: dict[str, int]) -> None:
    """Apply the ``limits`` that setrlimit(2) has, by lower-case name. Others are ignored."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        # Only root may exceed the hard limit of the server.
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))


def _wait(
    child: int, control: int, wake: int, watch: "resource_usage.ResourceWatch | None"
) -> tuple[int | None, Excess | None]:
    """Wait until ``child`` ends or must be killed.

    Returns:
        The wait status of ``child``, or None if it must be killed; and the exceeded limit or None.
    """
    while True:
        status = _reap(child)
        if status is not None:
            return status, None
        pause = watch.pause_seconds if watch is not None else None
        readable, _, _ = select.select([control, wake], [], [], pause)
        if control in readable and not os.read(control, 4096):
            return None, None
        if wake in readable:
            os.read(wake, 4096)
        if watch is not None and (excess := watch.excess(_descendants)):
            return None, excess


def _reap(child: int) -> int | None:
    """Reap all children that have ended; return the wait status of ``child`` if it is included."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == child:
            return status
        if pid == 0:
            return None


def _kill_all(child: int) -> None:
    """Kill and reap descendants until none is left, including those that are forked meanwhile."""
    while True:
        # Stop all of them first, because processes might fork faster than they are killed.
        for number in (signal.SIGSTOP, signal.SIGKILL) if _LINUX else ():
            for pid in _all_descendants():
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
    """Return the pids of all descendants, quickly.

    The kernel may leave out some of them while processes start and end.
    """
    try:
        return _collect(_children)
    except FileNotFoundError:
        return _all_descendants()


def _collect(children_of: Callable[[int], list[int]]) -> list[int]:
    """Return the pids of this process's children, their children, and so on."""
    found: list[int] = []
    parents = [os.getpid()]
    while parents:
        children = children_of(parents.pop())
        found += children
        parents += children
    return found


def _children(pid: int) -> list[int]:
    """Return the pids of a process's children.

    Raises:
        FileNotFoundError: The kernel does not provide lists of children.
    """
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


def _all_descendants() -> list[int]:
    """Return the pids of all descendants, from the list of all processes."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name of the program may contain any character, including parentheses.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    return _collect(lambda pid: children.get(pid, []))


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
