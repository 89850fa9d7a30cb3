"""The gateway for runs of tasks: a token of their own each, that ends with the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from beray.server.dependencies import digest
from beray.server.gateway.prefabs.registry import Registry
from beray.server.gateway.token_listener import TokenListener
from beray.server.gateway.tokens import InternalTokens
from beray.server.runners.base import GatewayAccess
from beray.server.sessions import OpenRequests
from beray.server.shortage import patiently

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class TaskAccess:
    """Gives runs what they reach the gateway with.

    Args:
        url: where this server listens; ``None``: nowhere.
        listener: connects sandboxed commands; None: there is no sandbox.
    """

    def __init__(
        self,
        url: str | None,
        tokens: InternalTokens,
        registry: Registry,
        open_requests: OpenRequests,
        listener: TokenListener | None = None,
    ) -> None:
        self._url = _loopback(url) if url else None
        self._tokens = tokens
        self._registry = registry
        self._open_requests = open_requests
        self._listener = listener

    @asynccontextmanager
    async def of(self, user_id: int, task_id: int) -> AsyncIterator[GatewayAccess | None]:
        """What a run of a task has, until the end of the block; ``None``: there are no prefabs."""
        if self._url is None or not self._registry.newest():
            yield None
            return
        issue = self._tokens.issue
        name = f"task-{task_id}"
        token = await patiently(lambda: run_in_threadpool(issue, user_id, name))
        try:
            if self._listener is None:
                yield GatewayAccess(self._url, token)
            else:
                async with self._listener.listening(token) as path:
                    yield GatewayAccess(self._url, token, str(path))
        finally:
            await patiently(lambda: run_in_threadpool(self._tokens.end, token))
            self._open_requests.end(digest(token))


def _loopback(url: str) -> str:
    """``url``, where it names all addresses, by one that can be connected to."""
    parts = urlsplit(url)
    host = _ANY.get(parts.hostname or "")
    return url if host is None else parts._replace(netloc=f"{host}:{parts.port}").geturl()
