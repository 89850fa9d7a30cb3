"""Password hashing with argon2 in a limited number of workers that clients share fairly.

One check takes 64 MiB and tens of milliseconds of all cores. At most ``workers`` checks run at a
time, at most one per client, and clients take turns: many attempts of one client delay only its
own next attempts. Clients that have sent wrong passwords never use the last worker, so any other
client waits for at most one of their checks, however many they are.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from beray.server.http.errors import ApiHTTPError

T = TypeVar("T")

MAX_WORKERS: Final = 4
"""256 MiB of memory; one check uses up to four cores itself."""
MAX_WAITING_PER_CLIENT: Final = 64
MAX_WAITING_CLIENTS: Final = 256
"""Limit for clients that have sent wrong passwords. The limit for all clients is twice this."""
MAX_WAIT_SECONDS: Final = 45.0
"""Less than the 60 seconds after which BeRay's clients give up."""
RETRY_SECONDS: Final = 5

hasher = PasswordHasher()


@dataclass
class _Queue:
    """Waiting attempts of one client address."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class PasswordHashing:
    """Hashes and verifies passwords in threads. Used on one event loop."""

    def __init__(self, workers: int | None = None) -> None:
        count = workers or min(os.cpu_count() or 1, MAX_WORKERS)
        # Waiters of a semaphore are served in order; each client waits at most once.
        self._free = asyncio.Semaphore(count)
        self._free_for_suspicious = asyncio.Semaphore(max(1, count - 1))
        self._threads = CapacityLimiter(count)
        self._clients: dict[str, _Queue] = {}

    @asynccontextmanager
    async def worker(self, client: str, *, suspicious: bool = False) -> AsyncIterator[None]:
        """Wait for a worker for ``client``, and occupy it during the block.

        A client has at most one worker at a time.

        Args:
            client: Key of the client's address.
            suspicious: Whether the client has sent wrong passwords recently.

        Raises:
            ApiHTTPError: 429, too many attempts of the client are waiting; 503, too many
                clients are waiting, or no worker became free in time.
        """
        queue = self._join(client, suspicious)
        deadline = asyncio.get_running_loop().time() + MAX_WAIT_SECONDS
        try:
            async with AsyncExitStack() as acquired:
                await _acquire(queue.lock, deadline, acquired)
                if suspicious:
                    await _acquire(self._free_for_suspicious, deadline, acquired)
                await _acquire(self._free, deadline, acquired)
                yield
        finally:
            queue.length -= 1
            if not queue.length:
                del self._clients[client]

    def _join(self, client: str, suspicious: bool) -> _Queue:
        queue = self._clients.get(client)
        if queue is None:
            max_clients = MAX_WAITING_CLIENTS if suspicious else 2 * MAX_WAITING_CLIENTS
            if len(self._clients) >= max_clients:
                raise _busy(f"{len(self._clients)} clients are waiting to sign in")
            queue = self._clients[client] = _Queue()
        if queue.length >= MAX_WAITING_PER_CLIENT:
            raise ApiHTTPError(
                429,
                f"{queue.length} sign-ins or registrations from your address are already waiting, "
                f"which is the maximum. Try again in {RETRY_SECONDS} s.",
                RETRY_SECONDS,
            )
        queue.length += 1
        return queue

    async def hash(self, password: str) -> str:
        """Return the argon2 hash of a password. Call it within ``worker``."""
        return await self._run(lambda: hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Return True if ``stored`` is a hash of ``password``. Call it within ``worker``.

        Args:
            stored: Stored hash. ``None``, if there is no account, takes the same time, so that
                the duration of a response does not reveal whether an account exists.
            password: Password to check.
        """
        expected = stored or unmatchable_hash()

        def check() -> bool:
            try:
                return hasher.verify(expected, password)
            except (VerificationError, InvalidHashError):
                return False

        return await self._run(check) and stored is not None

    async def _run(self, function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=self._threads)


async def _acquire(
    lock: asyncio.Lock | asyncio.Semaphore, deadline: float, acquired: AsyncExitStack
) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await lock.acquire()
    except TimeoutError:
        raise _busy(f"no worker was free for {MAX_WAIT_SECONDS:.0f} s") from None
    acquired.callback(lock.release)


def unmatchable_hash() -> str:
    """Return a random hash with the current parameters."""
    parts = [_encoded(secrets.token_bytes(size)) for size in (hasher.salt_len, hasher.hash_len)]
    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return "$".join(["", "argon2id", "v=19", cost, *parts])


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _busy(reason: str) -> ApiHTTPError:
    text = f"The server is busy checking passwords: {reason}. Try again in {RETRY_SECONDS} s."
    return ApiHTTPError(503, text, RETRY_SECONDS)
