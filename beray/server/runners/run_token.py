"""Access of runs to the gateway: a token of their own each, which ends with the run.

A run is one of a task, or a call of a prefab's function.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool

from beray.server.http.active_requests import ActiveRequests
from beray.server.runners.base import GatewayAccess
from beray.server.runners.token_listener import TokenListener
from beray.server.storage.shortage import patiently
from beray.server.storage.tokens import InternalTokenStore, secret_digest

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class RunTokens:
    """Issues the tokens of runs, and connects their processes.

    Args:
        url: URL that this server listens on; ``None``: it does not listen.
        listener: Connects sandboxed commands; ``None``: there is no sandbox.
    """

    def __init__(
        self,
        url: str | None,
        tokens: InternalTokenStore,
        active_requests: ActiveRequests,
        listener: TokenListener | None = None,
    ) -> None:
        self._url = _loopback(url) if url else None
        self._tokens = tokens
        self._open_requests = active_requests
        self._listener = listener

    @asynccontextmanager
    async def grant(self, user_id: int, agent_id: str) -> AsyncIterator[GatewayAccess | None]:
        """Give a run access until the end of the block; ``None`` if the server does not listen.

        Args:
            user_id: User whose prefabs, secrets and files the run may use.
            agent_id: Agent that the run is. It has one, so that it may not do what is reserved
                to persons, such as adding prefabs.
        """
        if self._url is None:
            yield None
            return
        issue = self._tokens.issue
        token = await patiently(lambda: run_in_threadpool(issue, user_id, agent_id))
        try:
            if self._listener is None:
                yield GatewayAccess(self._url, token)
            else:
                async with self._listener.listening(token) as path:
                    yield GatewayAccess(self._url, token, str(path))
        finally:
            await patiently(lambda: run_in_threadpool(self._tokens.end, token))
            self._open_requests.end(secret_digest(token))


def _loopback(url: str) -> str:
    """Return ``url`` with an address that can be connected to, if it names all addresses."""
    parts = urlsplit(url)
    host = _ANY.get(parts.hostname or "")
    return url if host is None else parts._replace(netloc=f"{host}:{parts.port}").geturl()
