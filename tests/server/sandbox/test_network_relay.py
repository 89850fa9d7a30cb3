"""Relays from a sandbox to the services of ``BERAY_NETWORK_ALLOW``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from beray.server.sandbox import network_policy, relay
from beray.server.setting_types.destinations import Destination, parse_allow, subnet
from beray.server.settings import Settings
from tests.network_support import ASK, needs_own_network, run

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reply after the end of the request, so that the directions are closed one after the other."""
    request = await reader.read()
    writer.write(b"answer to " + request)
    await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(handler: Handler, address: str = "127.0.0.1") -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, address, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@needs_own_network
@pytest.mark.parametrize(
    ("listed", "address", "host"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1", "::1"),
        ("localhost", "127.0.0.1", "localhost"),
        ("LOCALHOST.", "127.0.0.1", "localhost"),
    ],
)
@pytest.mark.parametrize("policy", ["task", "never"])
async def test_a_listed_service_is_reached(
    tmp_path: Path, listed: str, address: str, host: str, policy: str
) -> None:
    async with serving(echo, address) as port:
        allow = f"{listed}:{port}"
        output = await run(
            tmp_path, ASK, host, str(port), network_allow=allow, sandbox_network=policy
        )
    assert output == "answer to question"


@needs_own_network
async def test_other_ports_and_tasks_without_a_network_do_not_reach_it(tmp_path: Path) -> None:
    async with serving(echo) as listed, serving(echo) as other:
        allow = f"127.0.0.1:{listed}"
        assert "refused" in await run(tmp_path, ASK, "127.0.0.1", str(other), network_allow=allow)
        output = await run(
            tmp_path, ASK, "127.0.0.1", str(listed), network=False, network_allow=allow
        )
        assert "refused" in output


@needs_own_network
async def test_each_listed_name_has_its_own_address(tmp_path: Path) -> None:
    names = ["mirror.example", "model.example"]
    code = "import socket, sys\nfor name in sys.argv[1:]: print(socket.gethostbyname(name))"
    allow = ",".join(f"{name}:443" for name in names)
    output = await run(tmp_path, code, *names, network_allow=allow)
    assert output.split() == ["127.77.0.1", "127.77.0.2"]


@needs_own_network
async def test_a_service_that_is_down_resets_the_connection(tmp_path: Path) -> None:
    async with serving(echo) as port:
        pass
    output = await run(tmp_path, ASK, "127.0.0.1", str(port), network_allow=f"127.0.0.1:{port}")
    assert "ConnectionResetError" in output or "BrokenPipeError" in output


@needs_own_network
async def test_large_data_is_relayed_in_both_directions_at_once(tmp_path: Path) -> None:
    async def send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    code = """
import hashlib, os, socket, sys, threading
data = os.urandom(4 << 20)
def transfer():
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    def send():
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    sender.join()
    print(got == data)
threads = [threading.Thread(target=transfer) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    async with serving(send_back) as port:
        output = await run(tmp_path, code, str(port), network_allow=f"127.0.0.1:{port}")
    assert output.split() == ["True"] * 4


@needs_own_network
async def test_connections_end_with_the_command(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    code = (
        "import os, socket, sys\n"
        "connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "connection.send(b'x')\nos._exit(0)\n"
    )
    async with serving(wait) as port:
        await run(tmp_path, code, str(port), network_allow=f"127.0.0.1:{port}")
        async with asyncio.timeout(10):
            await ended.wait()


async def test_the_number_of_connections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 2)
    open_now: list[asyncio.StreamWriter] = []
    arrived = asyncio.Semaphore(0)

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.append(writer)
        arrived.release()

    async with serving(hold) as port:
        listener = socket.create_server(("127.0.0.1", 0))
        connect = relay.tcp_connector(Destination("127.0.0.1", port))
        async with relay.relay_connections([listener], [connect]):
            address = listener.getsockname()
            clients = [await asyncio.open_connection(*address) for _ in range(4)]
            for _ in range(2):
                await arrived.acquire()
            assert len(open_now) == 2
            # After one of them ends, the next one is accepted.
            for writer in (clients[0][1], open_now[0]):
                writer.close()
            await arrived.acquire()
            assert len(open_now) == 3
            for _, writer in clients:
                writer.close()
        for writer in open_now:
            writer.close()


@pytest.mark.parametrize(
    "text",
    ["host", "host:0", "host:65536", "host:x", ":80", "::1:80", "[127.0.0.1]:80", "[::1]", "1.2.3:4",
     "0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[fe80::1]:80", "[::ffff:127.0.0.1]:80", "a b:80",
     "http://host:80", "host:80/x", "-host:80", "host\n127.0.0.1 x:80",
     ",".join(f"h{number}:80" for number in range(65)),
     "10.0.2.1:1,10.77.2.1:1,10.177.2.1:1"],
)  # fmt: skip
def test_an_invalid_entry_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Settings(network_allow=text)


def test_entries_are_parsed_and_get_listeners() -> None:
    allow = parse_allow(" Mirror.lan:443, [fd00:1::5]:80,10.0.2.2:11434,mirror.lan:443,,")
    assert [str(destination) for destination in allow] == [
        "mirror.lan:443",
        "[fd00:1::5]:80",
        "10.0.2.2:11434",
    ]
    listeners = [(found.address, found.port) for found in network_policy.listeners(allow)]
    assert listeners == [("127.77.0.1", 443), ("fd00:1::5", 80), ("10.0.2.2", 11434)]
    assert subnet(allow) == "10.77.2.0/24"
