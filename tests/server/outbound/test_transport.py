"""Connections to URLs that users supply, with scripted name resolution and real servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.outbound.transport import client
from beray.server.setting_types.allow_list import AllowList
from beray.server.settings import Settings

Respond = Callable[[list[str]], str]


class Web:
    """Server that records the heads of its requests.

    Args:
        respond: Returns the response to the head of a request.
    """

    def __init__(self, respond: Respond) -> None:
        self.heads: list[list[str]] = []
        self.connections = 0
        self.port = 0
        self._respond = respond

    @asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None, port: int = 0
    ) -> AsyncIterator[Web]:
        server = await asyncio.start_server(self._serve, host, port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.heads.append(head)
            writer.write(self._respond(head).encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def ok(_: list[str]) -> str:
    return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Names:
    """Resolver that returns the given results in turn, and the last one repeatedly."""

    def __init__(self, *results: Sequence[str]) -> None:
        self.requested: list[str] = []
        self._results = list(results)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.requested.append(host)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if not result:
            raise OSError("unknown host")
        return list(result)


def guarded(names: Names, allow: str) -> httpx2.AsyncClient:
    policy = OutboundPolicy(allow=AllowList.parse(allow), resolver=names)
    return client(policy, timeout=5)


async def rejection(request: Awaitable[httpx2.Response]) -> str:
    with pytest.raises(ForbiddenDestination) as caught:
        await request
    return str(caught.value)


async def test_a_name_is_resolved_once_and_its_address_connected_to() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with Web(ok).serving() as web, guarded(names, "127.0.0.1") as http:
        response = await http.get(f"http://mcp.example:{web.port}/x?y=1")
        assert response.text == "ok"
        assert names.requested == ["mcp.example"]
        [head] = web.heads
        assert head[0] == "GET /x?y=1 HTTP/1.1"
        assert f"Host: mcp.example:{web.port}" in head


async def test_a_name_that_is_rebound_is_rejected_at_the_next_connection() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with Web(ok).serving() as web, Web(ok).serving("127.0.0.2", port=web.port) as other:
        async with guarded(names, "127.0.0.1") as http:
            url = f"http://mcp.example:{web.port}/"
            assert (await http.get(url)).is_success
            await rejection(http.get(url))
        assert (web.connections, other.connections) == (1, 0)


async def test_a_name_is_rejected_if_one_of_its_addresses_is_forbidden() -> None:
    async with (
        Web(ok).serving() as web,
        guarded(Names(["127.0.0.1", "127.0.0.2"]), "127.0.0.1") as http,
    ):
        await rejection(http.get(f"http://mcp.example:{web.port}/"))
        assert web.connections == 0


async def test_the_next_address_is_tried_if_one_cannot_be_connected_to() -> None:
    async with Web(ok).serving("127.0.0.2") as web:
        names = Names(["127.0.0.3", "127.0.0.2"])
        async with guarded(names, "127.0.0.0/8") as http:
            assert (await http.get(f"http://mcp.example:{web.port}/")).is_success


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_a_forbidden_address_is_rejected(status: int) -> None:
    async with Web(ok).serving() as internal:

        def redirect(_: list[str]) -> str:
            to = f"http://127.0.0.1:{internal.port}/admin"
            return f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"

        # The servers have different addresses; that of the second one is not in the allow list.
        async with (
            Web(redirect).serving("127.0.0.2") as web,
            guarded(Names([]), "127.0.0.2") as http,
        ):
            await rejection(http.get(f"http://127.0.0.2:{web.port}/", follow_redirects=True))
            assert web.connections == 1
        assert internal.connections == 0


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "0.0.0.0",
     "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::127.0.0.1]",
     "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST", "127.0.0.1.",
     "169.254.169.254", "[fe80::1]", "10.0.0.1", "100.64.0.1"],
)  # fmt: skip
async def test_all_notations_of_internal_addresses_are_rejected(host: str) -> None:
    async with Web(ok).serving() as web, client(OutboundPolicy(), timeout=5) as http:
        message = await rejection(http.get(f"http://{host}:{web.port}/"))
        assert "BERAY_MCP_ALLOW" in message
        assert web.connections == 0


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "fe80::1%lo", "not an address"]
)
async def test_names_with_internal_addresses_are_rejected_like_unknown_names(
    address: str,
) -> None:
    async with guarded(Names([]), "") as http:
        unknown = await rejection(http.get("http://mcp.example/"))
    async with guarded(Names([address]), "") as http:
        assert await rejection(http.get("http://mcp.example/")) == unknown


async def test_an_allowed_name_may_have_any_address() -> None:
    web = Web(ok)
    async with web.serving():
        http = guarded(Names(["127.0.0.1"]), f"mcp.example:{web.port}")
        assert (await http.get(f"http://MCP.example.:{web.port}/")).is_success
        await rejection(http.get(f"http://other.example:{web.port}/"))
        await http.aclose()


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Web(ok).serving() as proxy, Web(ok).serving() as web:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with guarded(Names(["127.0.0.1"]), f"mcp.example:{web.port}") as http:
            assert (await http.get(f"http://mcp.example:{web.port}/")).is_success
            await rejection(http.get("http://internal.example/"))
        assert proxy.connections == 0


async def test_certificates_are_checked_for_the_name_in_the_url() -> None:
    authority = trustme.CA()
    server, trusting = (
        ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    authority.issue_cert("mcp.example").configure_cert(server)
    authority.configure_trust(trusting)
    sent: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: sent.append(name)
    async with Web(ok).serving(context=server) as web:
        policy = OutboundPolicy(allow=AllowList.parse("127.0.0.1"), resolver=Names(["127.0.0.1"]))
        async with client(policy, verify=trusting, timeout=5) as http:
            assert (await http.get(f"https://mcp.example:{web.port}/")).is_success
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await http.get(f"https://other.example:{web.port}/")
    assert sent == ["mcp.example", "other.example"]


async def test_failures_are_raised_as_exceptions_of_the_http_library() -> None:
    async with (
        Web(lambda _: "nonsense\r\n\r\n").serving() as web,
        guarded(Names([]), "127.0.0.1") as http,
    ):
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get(f"http://127.0.0.1:{web.port}/")
        port = web.port
    async with guarded(Names([]), "127.0.0.1") as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("shared", "network", "allow", "permitted"),
    [
        (False, "task", "", {"127.0.0.1", "1.1.1.1"}),
        (False, "never", "", set()),
        (False, "never", "127.0.0.1", {"127.0.0.1"}),
        (True, "task", "", {"1.1.1.1"}),
        (True, "always", "127.0.0.1:80", {"1.1.1.1", "127.0.0.1"}),
        (True, "never", "", set()),
        (True, "never", "1.1.1.1", {"1.1.1.1"}),
    ],
)  # fmt: skip
async def test_the_policy_of_a_server_follows_from_its_settings(
    tmp_path: Path, shared: bool, network: Any, allow: str, permitted: set[str]
) -> None:
    settings = Settings(data_dir=tmp_path, sandbox_network=network, mcp_allow=allow)
    settings.set_listener("192.0.2.1" if shared else "127.0.0.1", embedded=False)
    policy = OutboundPolicy.of(settings)
    found: set[str] = set()
    for address in ("127.0.0.1", "1.1.1.1"):
        try:
            await policy.check(f"http://{address}/")
        except ForbiddenDestination:
            continue
        found.add(address)
    assert found == permitted
