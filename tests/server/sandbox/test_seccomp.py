"""Seccomp filter: its verdicts on both architectures, and real system calls."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from beray.server.sandbox import seccomp
from beray.server.sandbox.seccomp import ARCHITECTURES, assemble
from tests.server.sandbox.sandbox_harness import SandboxHarness

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NEWUSER, TIOCSTI, TIOCLINUX, AF_VSOCK = 0x10000000, 0x5412, 0x541C, 40
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
REQUIRED = [
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "open_by_handle_at",
    "name_to_handle_at",
    "setns",
    "unshare",
    "mount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "clone3",
    "memfd_secret",
]

both = pytest.mark.parametrize("machine", sorted(ARCHITECTURES))


def verdict(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """Return the verdict of the filter, which is executed as in the kernel."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *(*arguments, *[0] * (6 - len(arguments))))
    code = list(struct.iter_unpack("=HBBI", program))
    value, index = 0, 0
    while True:
        operation, if_so, if_not, constant = code[index]
        index += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", data, constant)
            case 0x15:
                index += if_so if value == constant else if_not
            case 0x35:
                index += if_so if value >= constant else if_not
            case 0x45:
                index += if_so if value & constant else if_not
            case 0x06:
                return int(constant)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


@both
@pytest.mark.parametrize("name", REQUIRED)
def test_a_dangerous_call_fails(machine: str, name: str) -> None:
    known = ARCHITECTURES[machine]
    found = verdict(assemble(known), known.audit, known.calls[name])
    assert found in (ERRNO | errno.EPERM, ERRNO | errno.ENOSYS)
    assert name != "clone3" or found == ERRNO | errno.ENOSYS


@both
def test_calls_fail_depending_on_their_arguments(machine: str) -> None:
    known = ARCHITECTURES[machine]
    denied = ERRNO | errno.EPERM

    def result(name: str, *arguments: int) -> int:
        return verdict(assemble(known), known.audit, known.calls[name], *arguments)

    assert result("clone", NEWUSER | signal.SIGCHLD) == denied
    assert result("clone", signal.SIGCHLD) == ALLOW
    assert result("ioctl", 0, TIOCSTI) == result("ioctl", 0, TIOCLINUX) == denied
    # The kernel uses only the low half.
    assert result("ioctl", 0, 1 << 32 | TIOCSTI) == denied
    assert result("ioctl", 0, 0x5413) == ALLOW
    assert result("socket", AF_VSOCK) == denied
    assert result("socket", 2) == ALLOW


@both
def test_foreign_architectures_are_killed(machine: str) -> None:
    known = ARCHITECTURES[machine]
    for audit in (0x40000003, 0x40000028, *(other.audit for other in ARCHITECTURES.values())):
        found = verdict(assemble(known), audit, 0 if audit == known.audit else 39)
        assert found == (ALLOW if audit == known.audit else KILL)
    x32 = verdict(assemble(known), known.audit, 0x40000000 | 39)
    assert x32 == (KILL if known.has_x32 else ALLOW)


@both
def test_the_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in lines}
    known = ARCHITECTURES[machine].calls
    assert {name: numbers.get(name, known[name]) for name in known} == dict(known)


PROBE = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *map(ctypes.c_long, arguments))
    return ctypes.get_errno()
"""


def test_dangerous_calls_fail_in_the_sandbox(harness: SandboxHarness) -> None:
    calls = ARCHITECTURES[platform.machine()].calls
    wanted = {name: calls[name] for name in REQUIRED}
    status, output = harness.python(
        f"{PROBE}\nprint(json.dumps({{n: call(c, 0, 0, 0, 0, 0) for n, c in {wanted}.items()}}))"
    )
    assert status == 0, output
    found = json.loads(output)
    allowed = (errno.EPERM, errno.ENOSYS)
    assert {name: error for name, error in found.items() if error not in allowed} == {}


def test_calls_that_would_succeed_fail_in_the_sandbox(harness: SandboxHarness) -> None:
    """These calls need no capability, so that only the filter can make them fail."""
    calls = ARCHITECTURES[platform.machine()].calls
    status, output = harness.python(
        f"{PROBE}\n"
        f"print(call({calls['keyctl']}, 0, -3, 1))\n"
        f"print(call({calls['unshare']}, 0))\n"
        f"print(call({calls['ioctl']}, 0, {TIOCSTI}, 0))\n"
        f"print(call({calls['unshare']}, {NEWUSER}))\n"
        f"print(call({calls['clone']}, {NEWUSER | signal.SIGCHLD}))\n"
    )
    assert (status, output.split()) == (0, [str(errno.EPERM)] * 5)


def test_nested_user_namespaces_cannot_be_created(harness: SandboxHarness) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    status, output = harness.run("unshare", "-U", "true")
    assert status != 0 and "Operation not permitted" in output


def test_x32_is_killed_in_the_sandbox(harness: SandboxHarness) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("only x86_64 has x32")
    status, _ = harness.python(f"{PROBE}\ncall(0x40000000 | 39)")
    assert status == 128 + signal.SIGSYS


FOREIGN = """
#include <stdio.h>
int main(void) {
    long answer = 20; /* getpid of i386 */
    __asm__ volatile ("int $0x80" : "+a" (answer) : : "memory");
    printf("%ld\\n", answer);
    return 0;
}
"""


def test_calls_of_i386_are_killed_in_the_sandbox(harness: SandboxHarness, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if platform.machine() != "x86_64" or compiler is None:
        pytest.skip("needs x86_64 and a C compiler")
    (tmp_path / "foreign.c").write_text(FOREIGN)
    program = harness.work_dir / "foreign"
    subprocess.run([compiler, "-o", program, tmp_path / "foreign.c"], check=True)
    if subprocess.run([program], check=False, capture_output=True).returncode:
        pytest.skip("this kernel does not execute calls of i386")
    assert harness.run("./foreign")[0] == 128 + signal.SIGSYS


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert seccomp.program.__wrapped__() is None


ORDINARY = {
    "threads": "import threading as t; x = t.Thread(target=print, args=(1,)); x.start(); x.join()",
    "processes": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "pools": "import multiprocessing as m; m.set_start_method('fork'); m.Pool(2).map(abs, [-1])",
    "names": "import getpass, pwd, os; getpass.getuser(); pwd.getpwuid(os.getuid())",
    "sockets": "import socket; socket.socketpair(); socket.socket()",
    "loops": "import asyncio; asyncio.run(asyncio.create_subprocess_exec('/bin/true'))",
    "memory": "import mmap; mmap.mmap(-1, 4096).write(b'x')",
    "terminals": "import pty, os; os.close(pty.openpty()[0])",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_python_works(harness: SandboxHarness, name: str) -> None:
    status, output = harness.python(ORDINARY[name])
    assert (status, output.replace("1\n", "")) == (0, "")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("git", "git init -q repo && cd repo && touch a && git add a && "
                "git -c user.name=a -c user.email=a@example.test commit -qm first && git log"),
        ("node", "node -e 'require(\"os\").userInfo(); "
                 "require(\"child_process\").execSync(\"true\"); "
                 "require(\"fs\").readFile(\"/etc/passwd\", () => 0)'"),
        ("gcc", "echo 'int main(void) { return 0; }' > a.c && gcc -o a.out a.c && ./a.out"),
        ("tar", "mkdir -p t && tar cf t.tar t && tar xf t.tar"),
        ("pip3", "pip3 --version && pip3 download --no-index --no-deps nothing 2>&1 | grep -q nothing"),
        ("make", "printf 'all:\\n\\ttrue\\n' > Makefile && make -s -j4"),
    ],
)  # fmt: skip
def test_ordinary_programs_work(harness: SandboxHarness, program: str, command: str) -> None:
    if shutil.which(program, path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip(f"{program} is not installed")
    status, output = harness.run("/bin/sh", "-c", command)
    assert status == 0, output


def test_the_work_dir_belongs_to_the_command(harness: SandboxHarness) -> None:
    status, output = harness.run("/bin/sh", "-c", "stat -c %u . /tmp /dev/shm; id -u")
    owner = str(os.stat(harness.work_dir).st_uid)
    assert (status, output.split()) == (0, [owner] * 4)
