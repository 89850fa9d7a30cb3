"""Networks of namespaces with servers in them, for tests of the addresses that tasks can reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from beray.server.sandbox import network_policy
from beray.server.sandbox.network_policy import GatewayRelay
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.ownership import set_owner
from tests.support import descendants

HOST_LAN: Final = "192.168.50.1"
HOST_PUBLIC: Final = "93.184.216.7"
HOST_PUBLIC6: Final = "2001:470::1"
NEIGHBOUR: Final = "192.168.50.2"
PUBLIC: Final = "93.184.216.34"
PUBLIC6: Final = "2606:4700::99"
METADATA: Final = "169.254.169.254"
PORT: Final = 8000

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None or sys.platform != "linux", reason="needs bubblewrap"
)
needs_own_network = pytest.mark.skipif(
    sys.platform != "linux"
    or shutil.which("bwrap") is None
    or network_policy.find_state(sandboxed=True, shared=True).mode != "own",
    reason="needs bubblewrap, slirp4netns and /dev/net/tun",
)
needs_namespaces = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter"))),
    reason="needs root, iproute2 and util-linux to make a network of namespaces",
)

_SERVER: Final = """
    import json, selectors, socket, sys
    selector, port = selectors.DefaultSelector(), int(sys.argv[2])
    for address in sys.argv[3:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = socket.socket(family, kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen()
            selector.register(sock, selectors.EVENT_READ, address)
    print("ready", flush=True)
    log = open(sys.argv[1], "a")
    while True:
        for key, _ in selector.select():
            if key.fileobj.type == socket.SOCK_STREAM:
                connection, _ = key.fileobj.accept()
                connection.sendall(key.data.encode())
                connection.close()
            else:
                _, peer = key.fileobj.recvfrom(2000)
                key.fileobj.sendto(key.data.encode(), peer)
            print(key.data, file=log, flush=True)
"""
_COMMAND: Final = """
    import asyncio, json, sys
    from pathlib import Path
    from beray.server.workspace.ownership import set_owner
    from beray.server.sandbox.sandbox import Sandbox
    from beray.server.settings import Settings

    async def main(directory, settings, command, network):
        sandbox = await Sandbox.detect(Settings(data_dir=directory, **settings))
        work_dir = directory / "work"
        work_dir.mkdir(exist_ok=True)
        set_owner(work_dir, sandbox.uid_of(None))
        async with sandbox.process(command, work_dir, network=network) as process:
            output = await process.stdout.read()
            status = await process.wait()
        print(json.dumps([status, output.decode(errors="replace"), str(sandbox.networks.state)]))

    arguments = json.loads(sys.argv[1])
    asyncio.run(main(Path(arguments.pop("directory")), **arguments))
"""
REACH: Final = """
    import concurrent.futures, json, socket, sys

    def reached(address, port, bound):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        found = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as sock:
                sock.settimeout(3)
                try:
                    if bound:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap0")
                    sock.connect((address, port))
                    if kind == socket.SOCK_DGRAM:
                        sock.send(b"hello")
                    found.append(sock.recv(100).decode())
                except OSError as error:
                    found.append(type(error).__name__)
        return found

    bound = sys.argv[1] == "bound"
    def reply(destination):
        address, port = destination.rsplit("@", 1)
        return reached(address, int(port), bound)

    destinations = sys.argv[2:]
    with concurrent.futures.ThreadPoolExecutor(len(destinations)) as threads:
        print(json.dumps(dict(zip(destinations, threads.map(reply, destinations)))))
"""


ASK: Final = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    connection.sendall(b"question")
    connection.shutdown(socket.SHUT_WR)
    print(b"".join(iter(lambda: connection.recv(100), b"")).decode())
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """Result of a command."""

    status: int
    output: str
    network: str


class Namespace:
    """Network namespace that exists as long as a process in it."""

    def __init__(self, closing: ExitStack) -> None:
        self._closing = closing
        holder = subprocess.Popen(
            ["unshare", "-n", "-m", "sh", "-c", "echo ready; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        closing.callback(_end, holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        self.pid = holder.pid
        self.ip("link", "set", "lo", "up")

    def command(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", "-m", *command]

    def ip(self, *arguments: str) -> None:
        subprocess.run(self.command("ip", *arguments), check=True, timeout=30)

    def serve(self, log: Path, port: int, *addresses: str) -> None:
        """Reply to TCP and UDP on these addresses with the address; log the address to ``log``."""
        server = subprocess.Popen(
            self.command(sys.executable, "-c", _code(_SERVER), str(log), str(port), *addresses),
            stdout=subprocess.PIPE,
        )
        self._closing.callback(_end, server)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"

    def sandboxed(
        self, directory: Path, command: list[str], *, network: bool = True, **settings: str
    ) -> Finished:
        """Run a command like that of a task, on a host in this namespace."""
        arguments: dict[str, Any] = {
            "directory": str(directory),
            "settings": settings,
            "command": command,
            "network": network,
        }
        completed = subprocess.run(
            self.command(sys.executable, "-c", _code(_COMMAND), json.dumps(arguments)),
            stdout=subprocess.PIPE, timeout=100, check=True,
        )  # fmt: skip
        return Finished(*json.loads(completed.stdout.splitlines()[-1]))

    def reached(
        self, directory: Path, *destinations: str, bound: bool = False, **settings: Any
    ) -> dict[str, list[str]]:
        """Return the replies, or the errors, that a task gets by TCP and by UDP.

        Args:
            directory: Directory for the data and the work_dir.
            destinations: Destinations ``ADDRESS@PORT``.
            bound: True if the task binds its sockets to the interface.
            settings: Settings of the server.
        """
        mode = "bound" if bound else "plain"
        command = ["/usr/bin/python3", "-c", _code(REACH), mode, *destinations]
        found: dict[str, list[str]] = json.loads(
            self.sandboxed(directory, command, **settings).output
        )
        return found


@contextmanager
def host_and_internet(log: Path) -> Iterator[Namespace]:
    """Create a host with loopback, private, public and link-local addresses, and an "Internet".

    Servers reply on all addresses of both.
    """
    with ExitStack() as closing:
        host, internet = Namespace(closing), Namespace(closing)
        host.ip("link", "add", "lan", "type", "veth", "peer", "name", "wan")
        host.ip("link", "set", "wan", "netns", str(internet.pid))
        for address in (f"{HOST_LAN}/24", f"{HOST_PUBLIC}/32", f"{METADATA}/32"):
            host.ip("addr", "add", address, "dev", "lan")
        host.ip("-6", "addr", "add", f"{HOST_PUBLIC6}/64", "dev", "lan", "nodad")
        host.ip("-6", "addr", "add", "fd12::1/64", "dev", "lan", "nodad")
        host.ip("link", "set", "lan", "up")
        internet.ip("addr", "add", f"{NEIGHBOUR}/24", "dev", "wan")
        internet.ip("-6", "addr", "add", "2001:470::2/64", "dev", "wan", "nodad")
        internet.ip("link", "set", "wan", "up")
        internet.ip("addr", "add", f"{PUBLIC}/32", "dev", "lo")
        internet.ip("-6", "addr", "add", f"{PUBLIC6}/128", "dev", "lo", "nodad")
        host.ip("route", "add", "default", "via", NEIGHBOUR)
        host.ip("-6", "route", "add", "default", "via", "2001:470::2")
        host.serve(log, PORT, "0.0.0.0", "::1", HOST_PUBLIC6, "fd12::1")
        internet.serve(log, PORT, NEIGHBOUR, PUBLIC, PUBLIC6)
        yield host


@contextmanager
def without_slirp4netns(tmp_path: Path) -> Iterator[str]:
    """Return a ``PATH`` without slirp4netns."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bwrap", "sh", "cat"):
        if (program := shutil.which(name)) is not None:
            (directory / name).symlink_to(program)
    yield str(directory)


async def run(
    tmp_path: Path,
    code: str,
    *arguments: str,
    gateway: GatewayRelay | None = None,
    network: bool = True,
    **settings: Any,
) -> str:
    """Run Python code as a command of a task; return its output after all its processes ended."""
    before = set(descendants())
    sandbox = await Sandbox.detect(Settings(data_dir=tmp_path / "data", **settings))
    work_dir = tmp_path / "work"
    work_dir.mkdir(exist_ok=True)
    set_owner(work_dir, sandbox.uid_of(None))
    command = ["/usr/bin/python3", "-c", code, *arguments]
    async with sandbox.process(command, work_dir, network=network, gateway=gateway) as process:
        assert process.stdout is not None
        output = (await process.stdout.read()).decode()
    assert set(descendants()) <= before
    return output.strip()


def _code(text: str) -> str:
    return textwrap.dedent(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
