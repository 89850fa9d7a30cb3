"""Attempts to bypass the limits of a command, which are all stopped without cgroups."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.server.sandbox import sandbox
from beray.server.sandbox.bubblewrap import PATH
from beray.testing import RunningServer
from tests.network_support import needs_bubblewrap, needs_own_network
from tests.support import done, text

PYTHON = shutil.which("python3", path=PATH)
needs_python = pytest.mark.skipif(PYTHON is None, reason="python3 is not installed for the sandbox")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

pytestmark = linux_only

DISK = 2_000_000
FILES = 3_000
MEMORY = 100_000_000


@pytest.fixture(scope="module", params=["auto", "none"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Server with little disk space for each task."""
    with started(tmp_path_factory.mktemp("server"), request.param, disk=DISK, memory=0) as server:
        yield server


@pytest.fixture(scope="module", params=["auto", "none"])
def memory_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Server with much disk space, but few files and little memory for each task."""
    with started(
        tmp_path_factory.mktemp("server"), request.param, disk=10**9, memory=MEMORY
    ) as server:
        yield server


def started(data_dir: Path, kind: str, *, disk: int, memory: int) -> RunningServer:
    return RunningServer.start(
        data_dir,
        BERAY_SANDBOX=kind,
        BERAY_WORK_DIR_BYTES=str(disk),
        BERAY_WORK_DIR_FILES=str(FILES),
        BERAY_TASK_MAX_MEMORY_BYTES=str(memory),
        BERAY_TASK_MAX_OPEN_FILES="64",
        BERAY_TASK_SECONDS="60",
    )


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


@pytest.fixture
def memory_client(memory_server: RunningServer) -> Iterator[BeRayClient]:
    with memory_server.sign_up() as client:
        yield client


def is_sandboxed(server: RunningServer) -> bool:
    return "sandbox: bubblewrap" in server.log.read_text()


def output_of_ended(client: BeRayClient, goal: str, **options: Any) -> str:
    """Return the output and the error of a task that a limit ends.

    Args:
        client: Client that creates the task.
        goal: Goal of the task.
        options: Further arguments of ``create_task``.
    """
    events: list[Any] = done(client, goal, **options)
    assert events[-1]["status"] == "FAILED", text(events)
    assert events[-1]["reason"] in ("quota", "exit_code"), events[-1]
    return text(events) + str(events[-2].get("details", ""))


def python(program: str) -> str:
    """Return a goal that runs a Python program and then sleeps."""
    return f"!cat > p.py <<'END'\n{program}\nimport time; time.sleep(60)\nEND\npython3 p.py"


# Disk


@pytest.mark.parametrize("count", [1, 50])
def test_unlinked_files_that_are_open_count(client: BeRayClient, count: int) -> None:
    size = 3_000_000 if count == 1 else 1_900_000
    each = f"exec 3>f$n; rm f$n; head -c {size} /dev/zero >&3; sleep 60"
    loop = f"for n in $(seq {count}); do ({each}) & done; wait"
    assert f"more than {DISK:,} bytes" in output_of_ended(client, f"!{loop}")


def test_unlinked_files_and_others_count_together(client: BeRayClient) -> None:
    goal = "!head -c 1300000 /dev/zero > a; exec 3>f; rm f; head -c 1300000 /dev/zero >&3; sleep 60"
    assert f"more than {DISK:,} bytes in the work_dir" in output_of_ended(client, goal)


@needs_python
def test_an_unlinked_file_that_is_only_mapped_counts(
    server: RunningServer, client: BeRayClient
) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
for n in range(4):
    file = os.open("f", os.O_CREAT | os.O_RDWR)
    os.unlink("f")
    os.write(file, b"x" * 1_000_000)
    libc.mmap(None, 4096, 1, 1, file, 0)
    os.close(file)
"""
    assert f"more than {DISK:,} bytes" in output_of_ended(client, python(program))


def test_the_files_of_a_process_whose_parent_has_ended_count(client: BeRayClient) -> None:
    goal = "!(setsid sh -c 'exec 3>f; rm f; head -c 2500000 /dev/zero >&3; sleep 60' &); sleep 60"
    assert f"more than {DISK:,} bytes" in output_of_ended(client, goal)


@pytest.mark.parametrize("directory", ["/tmp", "/dev/shm"])
def test_temporary_files_count(server: RunningServer, client: BeRayClient, directory: str) -> None:
    if not is_sandboxed(server):
        pytest.skip("without a sandbox, these are directories of the host")
    goal = f"!for n in 1 2 3; do head -c 900000 /dev/zero > {directory}/$n; done; sleep 60"
    assert f"more than {DISK:,} bytes" in output_of_ended(client, goal)


@pytest.mark.parametrize(
    "make",
    [
        "seq 60000 | xargs touch",
        pytest.param("seq 60000 | xargs mkdir", marks=pytest.mark.long),
        pytest.param("seq 60000 | xargs mkfifo", marks=pytest.mark.long),
        pytest.param("seq 60000 | xargs -n 1 ln -s nowhere", marks=pytest.mark.long),
        pytest.param("touch a; seq 60000 | xargs -n 1 ln a", marks=pytest.mark.long),
        pytest.param('cd "$TMPDIR" && seq 60000 | xargs touch', marks=pytest.mark.long),
    ],
    ids=["files", "folders", "fifos", "links", "names", "temporary"],
)
def test_names_of_any_kind_count(memory_client: BeRayClient, make: str) -> None:
    assert f"more than {FILES:,} files and folders" in output_of_ended(
        memory_client, f"!{make}; sleep 60"
    )


@needs_python
def test_open_files_of_all_processes_count(client: BeRayClient) -> None:
    program = """
import os
for n in range(40):
    if os.fork() == 0:
        files = [os.open("/dev/null", os.O_RDONLY) for n in range(50)]
        break
"""
    assert "more than 1,024 open files" in output_of_ended(client, python(program))


def test_holes_and_hard_links_take_no_space(client: BeRayClient) -> None:
    goal = (
        "!head -c 900000 /dev/zero > a; for n in 1 2 3 4 5; do ln a b$n; done; "
        "dd if=/dev/zero of=hole bs=1 count=1 seek=2500000 2>/dev/null; sleep 2.5; echo fine"
    )
    events = done(client, goal)
    assert (events[-1]["status"], text(events)) == ("COMPLETED", "fine\n")


@needs_python
def test_directories_that_are_renamed_continuously_do_not_hide_files(client: BeRayClient) -> None:
    program = """
import os, threading
os.makedirs("a/a/a/a")
def write():
    for n in range(10_000):
        for path in ("a/a/a/a", "b/a/a/a", "a/b/a/a", "b/b/a/a"):
            try:
                with open(f"{path}/{n}", "wb") as file:
                    file.write(b"x" * 500_000)
            except OSError:
                continue
threading.Thread(target=write, daemon=True).start()
def swap(one, other):
    try:
        os.rename(one, other)
    except OSError:
        pass
while True:
    for path in ("", "a/", "b/"):
        swap(f"{path}a", f"{path}b"); swap(f"{path}b", f"{path}a")
"""
    assert f"more than {DISK:,} bytes" in output_of_ended(client, python(program))


@pytest.mark.long
def test_a_burst_beside_a_large_directory_is_ended(tmp_path: Path) -> None:
    environ = {"BERAY_WORK_DIR_BYTES": "400000000", "BERAY_WORK_DIR_FILES": "100000"}
    with RunningServer.start(tmp_path / "data", environ) as server:
        client = server.sign_up()
        burst = "n=0; while :; do n=$((n+1)); head -c 4000000 /dev/zero > burst$n || exit; done"
        goal = f"!mkdir many; (cd many; seq 60000 | xargs touch); {burst}"
        assert "more than 400,000,000 bytes" in output_of_ended(client, goal)


# Memory


@needs_python
@pytest.mark.parametrize("processes", [1, 10])
def test_anonymous_files_count_as_memory(memory_client: BeRayClient, processes: int) -> None:
    program = f"""
import os
for n in range({processes} - 1):
    if os.fork() == 0:
        break
file = os.memfd_create("large")
for n in range(300 // {processes}):
    os.write(file, b"x" * 1_000_000)
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_anonymous_files_that_are_only_mapped_count(memory_client: BeRayClient) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
file = os.memfd_create("large")
for n in range(300):
    os.write(file, b"x" * 1_000_000)
libc.mmap(None, 4096, 1, 1, file, 0)
os.close(file)
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_anonymous_files_queued_in_a_socket_count(memory_client: BeRayClient) -> None:
    program = """
import os, socket
one, other = socket.socketpair()
for n in range(3):
    file = os.memfd_create("large")
    for n in range(100):
        os.write(file, b"x" * 1_000_000)
    socket.send_fds(one, [b"x"], [file])
    os.close(file)
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_shared_memory_that_another_process_has_filled_counts(memory_client: BeRayClient) -> None:
    program = """
import mmap, os
shared = mmap.mmap(-1, 300_000_000)
if os.fork() == 0:
    for n in range(0, 300_000_000, 4096):
        shared[n] = 1
    os._exit(0)
os.wait()
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_segments_that_no_process_has_attached_count(
    memory_server: RunningServer, memory_client: BeRayClient
) -> None:
    if not is_sandboxed(memory_server):
        pytest.skip("without a sandbox, segments of other programs would count")
    program = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for n in range(6):
    segment = libc.shmget(0, 50_000_000, 0o1600)
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 50_000_000)
    libc.shmdt(ctypes.c_void_p(place))
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


SOCKETS = {
    "streams": """
for n in range(25):
    one, other = socket.socketpair()
    fill(one), fill(other), kept.extend((one, other))
""",
    "streams whose sender has been closed": """
for n in range(25):
    for one, other in (socket.socketpair(), socket.socketpair()):
        fill(one), one.close(), kept.append(other)
""",
    "datagrams": """
for n in range(25):
    for one, other in (socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)):
        fill(one), one.close(), kept.append(other)
""",
    "connections that are not accepted": """
listener = socket.socket(socket.AF_UNIX)
listener.bind("l"), listener.listen(64), kept.append(listener)
for n in range(50):
    one = socket.socket(socket.AF_UNIX)
    one.connect("l"), fill(one), one.close()
""",
    "TCP": """
listener = socket.create_server(("127.0.0.1", 0))
for n in range(25):
    one = socket.create_connection(listener.getsockname())
    fill(one), kept.extend((one, listener.accept()[0]))
""",
}


@needs_python
@pytest.mark.parametrize("network", [False, pytest.param(True, marks=needs_own_network)])
@pytest.mark.parametrize("kind", SOCKETS)
def test_the_buffers_of_sockets_count(
    memory_server: RunningServer, memory_client: BeRayClient, kind: str, network: bool
) -> None:
    if not is_sandboxed(memory_server):
        pytest.skip("without a sandbox, sockets of other programs would count")
    # A process has 64 descriptors, so that several processes are needed.
    program = f"""
import os, socket
kept = []
def fill(one):
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
    try:
        while True:
            one.send(b"x" * 50_000)
    except BlockingIOError:
        pass
for n in range(19):
    if os.fork() == 0:
        break
os.mkdir(str(os.getpid()))
os.chdir(str(os.getpid()))
{SOCKETS[kind]}
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program), limits={"network": network}
    )


@needs_python
@pytest.mark.parametrize(
    "take",
    [
        """
for n in range(20_000):
    queue = libc.msgget(0, 0o1600)
    while libc.msgsnd(queue, b"1" * 8200, 8192, 0o4000) == 0:
        pass
""",
        """
for n in range(100):
    libc.semget(0, 32_000, 0o1600)
""",
    ],
    ids=["messages", "semaphores"],
)
def test_messages_and_semaphores_count(
    memory_server: RunningServer, memory_client: BeRayClient, take: str
) -> None:
    if not is_sandboxed(memory_server):
        pytest.skip("without a sandbox, those of other programs would count")
    program = f"import ctypes\nlibc = ctypes.CDLL(None)\n{take}"
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_page_tables_count(memory_client: BeRayClient) -> None:
    program = """
import mmap
# All pages that are only read are the same page, which is not memory of the process.
large = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=1)
for place in range(0, 60_000 << 21, 1 << 21):
    large[place]
"""
    assert f"more than {MEMORY:,} bytes of memory" in output_of_ended(
        memory_client, python(program)
    )


@needs_python
def test_shared_memory_below_the_limit_is_counted_once(memory_client: BeRayClient) -> None:
    program = """
import mmap, os, time
file = os.memfd_create("shared")
os.ftruncate(file, 60_000_000)
shared = mmap.mmap(file, 60_000_000)
for n in range(60):
    shared[n * 1_000_000 : (n + 1) * 1_000_000] = b"x" * 1_000_000
time.sleep(2.5)
print("fine")
"""
    events = done(memory_client, f"!cat > p.py <<'END'\n{program}\nEND\npython3 p.py")
    assert (events[-1]["status"], text(events)) == ("COMPLETED", "fine\n"), text(events)


# Processes that hide their usage from a supervisor that is not root


@pytest.mark.alone
@needs_python
@pytest.mark.parametrize(
    ("hide", "limit"),
    [
        ("libc.prctl(4, 0, 0, 0, 0)", "disk"),
        ("one, other = socket.socketpair(); socket.send_fds(one, [b'x'], [file]); os.close(file)",
         "disk"),
        ("libc.prctl(4, 0, 0, 0, 0)", "memory"),
        ("libc.mmap(None, 4096, 1, 1, file, 0); os.close(file)", "memory"),
    ],
)  # fmt: skip
def test_hidden_files_count_by_the_growth_of_the_system(
    unprivileged_dir: Path, hide: str, limit: str
) -> None:
    made = 'os.memfd_create("f")' if limit == "memory" else 'os.open("f", os.O_CREAT | os.O_RDWR)'
    unlink = "" if limit == "memory" else 'os.unlink("f")'
    program = f"""
import ctypes, os, socket, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
file = {made}
{unlink}
for n in range(60):
    os.write(file, b"x" * 1_000_000)
{hide}
time.sleep(60)
"""
    limits = {limit: 40_000_000}
    status, output = supervised(unprivileged_dir, [str(PYTHON), "-c", program], limits)
    assert status == 128 + signal.SIGKILL, output
    assert "more than 40,000,000 bytes" in output


@needs_python
@needs_bubblewrap
@pytest.mark.parametrize("nested", [[], ["--disable-userns"]])
@pytest.mark.parametrize(
    "take",
    [
        "for n in range(100): libc.semget(0, 32_000, 0o1600)",
        "kept = [filled(*socket.socketpair()) for n in range(400)]",
    ],
    ids=["semaphores", "sockets"],
)
def test_namespaces_count_for_a_supervisor_that_is_not_root(
    unprivileged_dir: Path, take: str, nested: list[str]
) -> None:
    program = f"""
import ctypes, socket, time
libc = ctypes.CDLL(None)
def filled(one, other):
    one.setblocking(False)
    try:
        while True:
            one.send(b"x" * 50_000)
    except BlockingIOError:
        return one, other
{take}
time.sleep(60)
"""
    bwrap = ["bwrap", "--unshare-all", "--unshare-user", *nested, "--ro-bind", "/", "/", "--"]
    works = subprocess.run([*bwrap, "true"], capture_output=True, check=False)
    if works.returncode:
        pytest.skip(works.stderr.decode())
    command = [*bwrap, str(PYTHON), "-c", program]
    status, output = supervised(unprivileged_dir, command, {"memory": 60_000_000})
    assert status == 128 + signal.SIGKILL, output
    assert "more than 60,000,000 bytes of memory" in output


@pytest.fixture
def unprivileged_dir() -> Iterator[Path]:
    """Directory of an unprivileged user, with a copy of the launcher."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        launcher = Path(sandbox.__file__).with_name("launcher")
        shutil.copytree(launcher, directory / "launcher", ignore=lambda *_: {"__pycache__"})
        (directory / "work").mkdir()
        if os.geteuid() == 0:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, 65534, 65534)
        yield directory


def supervised(directory: Path, command: list[str], limits: dict[str, int]) -> tuple[int, str]:
    """Run a command in the launcher as an unprivileged user; return its status and output."""
    launcher_end, server_end = socket.socketpair()
    with launcher_end, server_end:
        spec = json.dumps({"command": command, "limits": limits}).encode()
        server_end.sendall(len(spec).to_bytes(4, "big") + spec)
        unprivileged: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [
                str(PYTHON),
                "-I",
                "-S",
                "-B",
                str(directory / "launcher"),
                str(launcher_end.fileno()),
            ],
            pass_fds=[launcher_end.fileno()],
            cwd=directory / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=50,
            check=False,
            **unprivileged,
        )
        return done.returncode, done.stdout.decode()
