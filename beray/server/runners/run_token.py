"""Access of runs to the gateway, with one internal token for each run.

A run is the execution of a task, of a chat's answer, or of a prefab's function.
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
from beray.server.storage.digests import secret_digest
from beray.server.storage.internal_tokens import InternalTokenRepository
from beray.server.storage.shortage import retry_on_shortage

_LOOPBACK_OF_WILDCARD: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class RunTokens:
    """Issuer of the tokens of runs.

    Args:
        url: URL that this server listens on; ``None`` if it does not listen.
        tokens: Repository of the tokens.
        active_requests: Active requests; those with a token end with its run.
        listener: Unix socket of the gateway for sandboxed commands; ``None`` without a sandbox.
    """

    def __init__(
        self,
        *,
        url: str | None,
        tokens: InternalTokenRepository,
        active_requests: ActiveRequests,
        listener: TokenListener | None = None,
    ) -> None:
        self._url = _loopback(url) if url else None
        self._tokens = tokens
        self._active_requests = active_requests
        self._listener = listener

    @asynccontextmanager
    async def grant(self, user_id: int, agent_id: str) -> AsyncIterator[GatewayAccess | None]:
        """Grant a run access during the block; yield ``None`` if the server does not listen.

        Args:
            user_id: User whose prefabs, secrets and files the run may use.
            agent_id: Agent as which the run authenticates. It is required, because operations
                that are reserved for users, such as adding prefabs, are rejected for agents.
        """
        if self._url is None:
            yield None
            return
        create = self._tokens.create
        token = await retry_on_shortage(lambda: run_in_threadpool(create, user_id, agent_id))
        try:
            if self._listener is None:
                yield GatewayAccess(self._url, token)
            else:
                async with self._listener.listening(token) as path:
                    yield GatewayAccess(self._url, token, str(path))
        finally:
            await retry_on_shortage(lambda: run_in_threadpool(self._tokens.delete, token))
            self._active_requests.end(secret_digest(token))


def _loopback(url: str) -> str:
    """Return ``url`` with a loopback address in the place of a wildcard address."""
    parts = urlsplit(url)
    host = _LOOPBACK_OF_WILDCARD.get(parts.hostname or "")
    return url if host is None else parts._replace(netloc=f"{host}:{parts.port}").geturl()
