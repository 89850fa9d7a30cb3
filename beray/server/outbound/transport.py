"""HTTP client that connects only to addresses that an ``OutboundPolicy`` permits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import httpcore2
import httpx2

from beray.server.outbound.policy import OutboundPolicy

_ERRORS: Final[tuple[tuple[type[Exception], type[httpx2.TransportError]], ...]] = (
    (httpcore2.ConnectTimeout, httpx2.ConnectTimeout),
    (httpcore2.ReadTimeout, httpx2.ReadTimeout),
    (httpcore2.WriteTimeout, httpx2.WriteTimeout),
    (httpcore2.PoolTimeout, httpx2.PoolTimeout),
    (httpcore2.ConnectError, httpx2.ConnectError),
    (httpcore2.ReadError, httpx2.ReadError),
    (httpcore2.WriteError, httpx2.WriteError),
    (httpcore2.RemoteProtocolError, httpx2.RemoteProtocolError),
    (httpcore2.LocalProtocolError, httpx2.LocalProtocolError),
    (httpcore2.UnsupportedProtocol, httpx2.UnsupportedProtocol),
)


def client(
    policy: OutboundPolicy,
    *,
    verify: ssl.SSLContext | None = None,
    factory: Callable[..., httpx2.AsyncClient] = httpx2.AsyncClient,
    **options: Any,
) -> httpx2.AsyncClient:
    """Return a client for URLs that users supply.

    Redirects are checked like first requests. Proxies of the environment are used only with an
    unrestricted policy, because a proxy would resolve names and connect instead of this client.

    Args:
        policy: Policy for the destinations.
        verify: TLS configuration; by default, the system's certificate authorities.
        factory: Creates the client; takes the arguments of ``httpx2.AsyncClient``.
        options: Further arguments of ``httpx2.AsyncClient``, such as ``headers`` and ``timeout``.
    """
    context = verify or httpx2.create_ssl_context()
    if policy.is_unrestricted:
        return factory(verify=context, **options)
    return factory(transport=GuardedTransport(policy, context), **options)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Transport that connects only to addresses that the policy returned.

    The Host header, SNI and certificate checks use the URL's host name.

    Args:
        policy: Policy for the destinations.
        context: TLS configuration.
    """

    def __init__(self, policy: OutboundPolicy, context: ssl.SSLContext) -> None:
        backend = _GuardedBackend(policy)
        self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=backend)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; return the response with a streamed body."""
        url = request.url
        with _translated():
            response = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for part in self._response.aiter_stream():
                yield part

    async def aclose(self) -> None:
        with _translated():
            await self._response.aclose()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, policy: OutboundPolicy) -> None:
        self._policy = policy
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore2
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._policy.addresses(host, port)
                for address in addresses[:-1]:
                    try:
                        return await self._backend.connect_tcp(
                            address, port, None, local_address, socket_options
                        )
                    except httpcore2.ConnectError:
                        continue
                return await self._backend.connect_tcp(
                    addresses[-1], port, None, local_address, socket_options
                )
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error

    async def connect_unix_socket(self, *_: object, **__: object) -> NoReturn:
        raise httpcore2.UnsupportedProtocol("URLs that users supply cannot use Unix sockets")

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


@contextmanager
def _translated() -> Iterator[None]:
    """Convert exceptions of httpcore2 to those of httpx2."""
    try:
        yield
    except Exception as error:
        for source, target in _ERRORS:
            if isinstance(error, source):
                raise target(str(error)) from error
        raise
