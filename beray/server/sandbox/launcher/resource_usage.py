"""Measurement of the resources that the processes of one command use, and check of its limits.

Linux only, standard library only. Besides resident memory and the number of processes, the
following are counted, because a command can use them without exceeding a limit of setrlimit(2):

- files that were unlinked but are still open or mapped (disk);
- ``memfd``, System V and other shared memory, mapped or not (memory);
- buffers of sockets, System V messages and semaphores, page tables (memory);
- open descriptors of all processes together. Their limit bounds the kernel memory of pipes and
  sockets, and the cost of the measurement.

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
    from beray.server.sandbox.launcher.excess import Excess, memory_excess
else:  # in the launcher, which imports its modules by their plain names
    import namespace_memory
    from excess import Excess, memory_excess

MIN_PAUSE_SECONDS = 0.25
"""Minimum time between two measurements of processes and resident memory."""
MIN_DETAIL_PAUSE_SECONDS = 0.5
"""Minimum time between two measurements of descriptors and mappings."""
PAUSE_FACTOR = 4
"""Minimum pause after a measurement, as a multiple of its duration."""
_REPORT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MIN_UNMEASURABLE = 2
"""Number of consecutive incomplete measurements before the usage of the system is checked."""


def is_watched(limits: dict[str, int]) -> bool:
    """Return True if ``ResourceWatch`` enforces one of ``limits``."""
    return any(limits.get(name) for name in ("processes", "memory", "disk", "descriptors"))


class ResourceWatch:
    """Compares the usage of one command's processes with its limits, repeatedly.

    Args:
        limits: ``processes``, ``memory`` and ``disk`` in bytes, ``descriptors``; 0 or missing
            means no limit. ``disk`` is the limit of the whole work_dir.
        report: File to which the size in bytes and the number of unlinked files are written, as
            two decimal numbers. The server adds them to the usage of the work_dir.
        owns_network: True if the network namespace of this process is that of the command.

    Attributes:
        pause_seconds: Time to wait before ``excess`` measures again.
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
        self._unmeasurable = 0
        self._disk_before = _disk_used()
        self._shared_before = _shared_memory_used()
        self._next_measurement = 0.0
        self.pause_seconds = MIN_PAUSE_SECONDS

    def excess(self, processes: Callable[[], list[int]]) -> Excess | None:
        """Return the limit that is exceeded, or None.

        Does nothing before ``pause_seconds`` have passed since the last measurement.

        Args:
            processes: Returns the ids of the command's processes.
        """
        started = time.monotonic()
        if started < self._next_measurement:
            return None
        pids = processes()
        if self._processes and len(pids) > self._processes:
            return Excess("processes", f"more than {self._processes:,} processes")
        excess = self._excess_of_memory(pids) if self._memory else None
        measured = time.monotonic()
        self.pause_seconds = max(MIN_PAUSE_SECONDS, PAUSE_FACTOR * (measured - started))
        if excess is None and measured >= self._next_detail:
            excess = self._excess_of_detail(pids)
            ended = time.monotonic()
            pause = max(MIN_DETAIL_PAUSE_SECONDS, PAUSE_FACTOR * (ended - measured))
            self._next_detail = ended + pause
        # Slightly less than the pause, which may end early because of rounding.
        self._next_measurement = time.monotonic() + 0.9 * self.pause_seconds
        return excess

    def _excess_of_memory(self, pids: list[int]) -> Excess | None:
        detail = self._detail
        used = sum(map(_resident_bytes, pids))
        used += detail.swapped + detail.page_tables + detail.kernel
        if used + detail.shared > self._memory:
            # Mapped shared memory is already counted as resident memory.
            mapped = sum(_status_bytes(pid, b"RssShmem:") for pid in pids)
            used += max(0, detail.shared - mapped)
        return memory_excess(self._memory) if used > self._memory else None

    def _excess_of_detail(self, pids: list[int]) -> Excess | None:
        if not (self._memory or self._disk or self._descriptors):
            return None
        self._detail = detail = _Detail()
        for pid in pids:
            detail.add_process(pid, self._shared_device)
            if self._descriptors and detail.descriptors > self._descriptors:
                problem = f"more than {self._descriptors:,} open files of all processes together"
                return Excess("descriptors", problem)
        if self._memory:
            detail.swapped = _swapped_bytes(pids)
            detail.page_tables = sum(_status_bytes(pid, b"VmPTE:") for pid in pids)
            detail.kernel = namespace_memory.used_bytes(pids, owns_network=self._owns_network)
            if excess := self._excess_of_memory(pids):
                return excess
        if self._disk and detail.unlinked > self._disk:
            return Excess("disk", f"more than {self._disk:,} bytes in unlinked files")
        self._write_report((detail.unlinked, detail.unlinked_files))
        self._unmeasurable = self._unmeasurable + 1 if detail.incomplete else 0
        if self._unmeasurable < _MIN_UNMEASURABLE:
            return None
        return self._excess_of_system()

    def _excess_of_system(self) -> Excess | None:
        """Compare the growth of the whole system's usage since the start with the limits.

        This is only used for commands that hide their usage, because other processes may have
        caused the growth.
        """
        reason = " (measured for the whole system, because a process hides its open files)"
        if self._disk and _disk_used() - self._disk_before > self._disk:
            return Excess("disk", f"more than {self._disk:,} bytes in files{reason}")
        if self._memory and _shared_memory_used() - self._shared_before > self._memory:
            return memory_excess(self._memory, reason)
        return None

    def _write_report(self, used: tuple[int, int]) -> None:
        if self._report is None or used == self._reported:
            return
        with contextlib.suppress(OSError):  # on a full disk, the check above is still effective
            # A single write of fixed length, so that a reader never sees a part of it.
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
        self.incomplete = False
        """True if a process holds resources that the supervisor cannot measure."""
        self._counted: set[tuple[int, int]] = set()

    def add_process(self, pid: int, shared_device: int) -> None:
        """Add the descriptors and mappings of one process.

        Args:
            pid: Id of the process. A process that has ended is ignored.
            shared_device: Device of shared memory.
        """
        try:
            directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            self.incomplete = True  # the process is not dumpable, see prctl(2)
            return
        except OSError:
            return  # it has just ended
        try:
            names = os.listdir(directory)
            self.descriptors += len(names)
            for name in names:
                self._add_descriptor(pid, directory, name, shared_device)
        except OSError:
            return
        finally:
            os.close(directory)
        self._add_mappings(pid, shared_device)

    def _add_descriptor(self, pid: int, directory: int, name: str, shared_device: int) -> None:
        try:
            status = os.stat(name, dir_fd=directory)
        except OSError:
            return
        if stat.S_ISREG(status.st_mode):
            self._add_file(status, shared_device)
        elif stat.S_ISSOCK(status.st_mode) and _has_queued_descriptors(pid, name):
            self.incomplete = True

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
        """Add mapped files that have neither a name nor a descriptor."""
        for line in _lines_with(f"/proc/{pid}/maps", b" (deleted)"):
            addresses, _, _, device, inode = line.split(maxsplit=5)[:5]
            major, minor = (int(part, 16) for part in device.split(b":"))
            if (os.makedev(major, minor), int(inode)) in self._counted:
                continue
            try:
                status = os.stat(f"/proc/{pid}/map_files/{addresses.decode()}")
            except PermissionError:
                self.incomplete = True  # only root may open mapped files
            except OSError:
                continue
            else:
                self._add_file(status, shared_device)


def _has_queued_descriptors(pid: int, name: str) -> bool:
    """Return True if descriptors that no process holds are in a socket's queue (SCM_RIGHTS)."""
    found = _lines_with(f"/proc/{pid}/fdinfo/{name}", b"scm_fds:")
    return any(int(line.split()[1]) for line in found)


def _lines_with(path: str, part: bytes) -> list[bytes]:
    """Return the lines of a file of /proc that contain ``part``; none if the process has ended."""
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
    """Return the used bytes of the file system of the working directory, the work_dir."""
    try:
        status = os.statvfs(".")
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _shared_memory_used() -> int:
    """Return the size of all shared memory of the system, in bytes."""
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
