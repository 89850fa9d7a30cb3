"""Measure what the processes of one command use, and compare it with the command's limits.

Linux only, standard library only. Besides resident memory and the number of processes, the
following count, because a command can use them without exceeding any limit of setrlimit(2):

- files that were unlinked but are still open or mapped (disk);
- ``memfd``, System V and other shared memory, mapped or not (memory);
- buffers of sockets, System V messages and semaphores, page tables (memory);
- open descriptors of all processes together, which bounds what the kernel keeps for pipes and
  sockets, and the cost of looking at them.

Sources: proc(5), unix(7), namespaces(7), Documentation/filesystems/proc.rst of Linux.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterable

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING or __package__:
    from beray.server.sandbox.launcher import namespace_memory
else:  # in the launcher, which finds its modules by their plain names
    import namespace_memory

LOOK_SECONDS = 0.25
"""Shortest time between two measurements of processes and resident memory."""
DETAIL_SECONDS = 0.5
"""Shortest time between two measurements of descriptors and mappings."""
REST = 4
"""Pause after a measurement, in multiples of its duration."""
_REPORT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_FEWEST_UNSEEN = 2


def is_watched(limits: dict[str, int]) -> bool:
    """Return whether one of ``limits`` is enforced by ``ResourceWatch``."""
    return any(limits.get(name) for name in ("processes", "memory", "disk", "descriptors"))


class ResourceWatch:
    """Compare the processes of one command with its limits, again and again.

    Args:
        limits: ``processes``, ``memory`` and ``disk`` in bytes, ``descriptors``; 0 or missing
            means no limit. ``disk`` is the limit of the whole work_dir.
        report: file that receives the bytes and the number of unlinked files, two decimal
            numbers, so that the server can add them to the files of the work_dir.
        owns_network: the network namespace of this process is that of the command.
    """

    def __init__(
        self, limits: dict[str, int], report: str | None = None, *, owns_network: bool = False
    ) -> None:
        self._owns_network = owns_network
        self._processes = limits.get("processes", 0)
        self._memory = limits.get("memory", 0)
        self._disk = limits.get("disk", 0)
        self._descriptors = limits.get("descriptors", 0)
        self._report = report
        self._reported = (0, 0)
        self._shared_device = _shared_memory_device()
        self._next_detail = 0.0
        self._detail = _Detail()
        self._unseen = 0
        self._disk_before = _disk_used()
        self._shared_before = _shared_memory_used()
        self._next_look = 0.0
        self.pause_seconds = LOOK_SECONDS

    def excess(self, processes: Callable[[], list[int]]) -> str | None:
        """Return the limit that is exceeded, such as "more than 64 processes".

        Does nothing if it was called a moment ago.

        Args:
            processes: returns the ids of the command's processes.
        """
        started = time.monotonic()
        if started < self._next_look:
            return None
        pids = processes()
        if self._processes and len(pids) > self._processes:
            return f"more than {self._processes:,} processes"
        problem = self._excess_of_memory(pids) if self._memory else None
        looked = time.monotonic()
        self.pause_seconds = max(LOOK_SECONDS, REST * (looked - started))
        if problem is None and looked >= self._next_detail:
            problem = self._excess_of_detail(pids)
            ended = time.monotonic()
            self._next_detail = ended + max(DETAIL_SECONDS, REST * (ended - looked))
        # A little less than the pause, which may end early by its rounding.
        self._next_look = time.monotonic() + 0.9 * self.pause_seconds
        return problem

    def _excess_of_memory(self, pids: list[int]) -> str | None:
        detail = self._detail
        used = sum(map(_resident_bytes, pids))
        used += detail.swapped + detail.page_tables + detail.kernel
        if used + detail.shared > self._memory:
            # Shared memory that is mapped is resident memory already.
            mapped = sum(_status_bytes(pid, b"RssShmem:") for pid in pids)
            used += max(0, detail.shared - mapped)
        return f"more than {self._memory:,} bytes of memory" if used > self._memory else None

    def _excess_of_detail(self, pids: list[int]) -> str | None:
        if not (self._memory or self._disk or self._descriptors):
            return None
        self._detail = detail = _Detail()
        for pid in pids:
            detail.add_process(pid, self._shared_device)
            if self._descriptors and detail.descriptors > self._descriptors:
                return f"more than {self._descriptors:,} open files of all processes together"
        if self._memory:
            detail.swapped = _swapped_bytes(pids)
            detail.page_tables = sum(_status_bytes(pid, b"VmPTE:") for pid in pids)
            detail.kernel = namespace_memory.used_bytes(pids, owns_network=self._owns_network)
            if problem := self._excess_of_memory(pids):
                return problem
        if self._disk and detail.unlinked > self._disk:
            return f"more than {self._disk:,} bytes in unlinked files"
        self._write_report((detail.unlinked, detail.unlinked_files))
        self._unseen = self._unseen + 1 if detail.unseen else 0
        return self._excess_of_unseen() if self._unseen >= _FEWEST_UNSEEN else None

    def _excess_of_unseen(self) -> str | None:
        """Judge a command that hides what it holds by the growth of the whole system.

        Only commands that cannot be measured are judged by it: others may have caused it.
        """
        why = "; a process hides its open files, so that the whole system's use counted"
        if self._disk and _disk_used() - self._disk_before > self._disk:
            return f"more than {self._disk:,} bytes in files{why}"
        if self._memory and _shared_memory_used() - self._shared_before > self._memory:
            return f"more than {self._memory:,} bytes of memory{why}"
        return None

    def _write_report(self, used: tuple[int, int]) -> None:
        if self._report is None or used == self._reported:
            return
        with contextlib.suppress(OSError):  # on a full disk, the limit above holds by itself
            # One write of a fixed length: a reader never sees half of it.
            file = os.open(self._report, _REPORT_FLAGS, 0o600)
            try:
                os.pwrite(file, b"%020d %020d\n" % used, 0)
                self._reported = used
            finally:
                os.close(file)


class _Detail:
    """Sums over the descriptors and mappings of processes; each file counts once."""

    def __init__(self) -> None:
        self.descriptors = 0
        self.unlinked = 0
        self.unlinked_files = 0
        self.shared = 0
        self.swapped = 0
        self.kernel = 0
        self.page_tables = 0
        self.unseen = False
        """True if a process holds something that the supervisor cannot measure."""
        self._counted: set[tuple[int, int]] = set()

    def add_process(self, pid: int, shared_device: int) -> None:
        try:
            folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            self.unseen = True  # it is not dumpable, see prctl(2)
            return
        except OSError:
            return  # it has just ended
        try:
            names = os.listdir(folder)
            self.descriptors += len(names)
            for name in names:
                self._add_descriptor(pid, folder, name, shared_device)
        except OSError:
            return
        finally:
            os.close(folder)
        self._add_mappings(pid, shared_device)

    def _add_descriptor(self, pid: int, folder: int, name: str, shared_device: int) -> None:
        try:
            status = os.stat(name, dir_fd=folder)
        except OSError:
            return
        if stat.S_ISREG(status.st_mode):
            self._add_file(status, shared_device)
        elif stat.S_ISSOCK(status.st_mode) and _descriptors_on_the_way(pid, name):
            self.unseen = True

    def _add_file(self, status: os.stat_result, shared_device: int) -> None:
        is_shared = status.st_dev == shared_device
        identity = (status.st_dev, status.st_ino)
        if identity in self._counted or not (is_shared or status.st_nlink == 0):
            return
        self._counted.add(identity)
        if is_shared:
            self.shared += status.st_blocks * 512
        else:
            self.unlinked += status.st_blocks * 512
            self.unlinked_files += 1

    def _add_mappings(self, pid: int, shared_device: int) -> None:
        """Add files that are mapped and have neither a name nor a descriptor."""
        for line in _lines_with(f"/proc/{pid}/maps", b" (deleted)"):
            addresses, _, _, device, inode = line.split(maxsplit=5)[:5]
            major, minor = (int(part, 16) for part in device.split(b":"))
            if (os.makedev(major, minor), int(inode)) in self._counted:
                continue
            try:
                status = os.stat(f"/proc/{pid}/map_files/{addresses.decode()}")
            except PermissionError:
                self.unseen = True  # only root may open what is mapped
            except OSError:
                continue
            else:
                self._add_file(status, shared_device)


def _descriptors_on_the_way(pid: int, name: str) -> bool:
    """Return whether a socket has descriptors in its queue (SCM_RIGHTS), held by no process."""
    found = _lines_with(f"/proc/{pid}/fdinfo/{name}", b"scm_fds:")
    return any(int(line.split()[1]) for line in found)


def _lines_with(path: str, part: bytes) -> list[bytes]:
    """Return the lines of a file of /proc that contain ``part``; none once its process ended."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return []
    return [line for line in data.splitlines() if part in line] if part in data else []


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0  # it has just ended


def _status_bytes(pid: int, name: bytes) -> int:
    return sum(int(line.split()[1]) * 1024 for line in _lines_with(f"/proc/{pid}/status", name))


def _swapped_bytes(pids: Iterable[int]) -> int:
    if len(_lines_with("/proc/swaps", b"/")) == 0:
        return 0
    return sum(_status_bytes(pid, b"VmSwap:") for pid in pids)


def _disk_used() -> int:
    """Return the bytes in use on the file system of the working directory, the work_dir."""
    try:
        status = os.statvfs(".")
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _shared_memory_used() -> int:
    """Return the bytes of shared memory of the whole system."""
    return sum(int(line.split()[1]) * 1024 for line in _lines_with("/proc/meminfo", b"Shmem:"))


def _shared_memory_device() -> int:
    """Return the device of ``memfd``, System V and anonymous shared memory; -1 if unknown."""
    try:
        file = os.memfd_create("device")
    except (AttributeError, OSError):
        return -1
    try:
        return os.fstat(file).st_dev
    finally:
        os.close(file)
