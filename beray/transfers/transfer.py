"""Handle on a file transfer: progress reports and cancellation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from beray.exceptions import BeRayException, TransferCancelled
from beray.http.connection import CancelToken

BLOCK_BYTES: Final = 1024 * 1024
ProgressCallback = Callable[[int, int | None], None]
"""Called with the number of bytes transferred, and the total or ``None`` if it is unknown."""


class Transfer:
    """Handle on one transfer: reports its progress, and cancels it from any thread.

    Args:
        on_progress: Called in the transferring thread with the number of bytes transferred, and
            the total or ``None`` if it is unknown.

    Attributes:
        cancel_token: Cancels the requests of the transfer.
    """

    def __init__(self, on_progress: ProgressCallback | None = None) -> None:
        self._on_progress = on_progress
        self.cancel_token = CancelToken()

    def cancel(self) -> None:
        """Cancel the transfer in any of its waits. Idempotent and thread-safe."""
        self.cancel_token.cancel()

    def advance(self, done: int, total: int | None) -> None:
        """Report progress.

        Args:
            done: Number of bytes transferred.
            total: Number of bytes in total; ``None`` if it is unknown.

        Raises:
            TransferCancelled: ``cancel`` was called.
        """
        self.raise_if_cancelled()
        if self._on_progress is not None:
            self._on_progress(done, total)

    def part(self, before: int, total: int) -> Transfer:
        """Return a handle on a part of this transfer.

        Args:
            before: Number of bytes transferred before the part.
            total: Number of bytes of the whole transfer.
        """
        part = Transfer(lambda done, _: self.advance(before + done, total))
        part.cancel_token = self.cancel_token
        return part

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``.

        Raises:
            TransferCancelled: ``cancel`` was called before or meanwhile.
        """
        if self.cancel_token.wait(seconds):
            raise TransferCancelled("the transfer was cancelled")

    def raise_if_cancelled(self) -> None:
        """Check for cancellation.

        Raises:
            TransferCancelled: ``cancel`` was called.
        """
        if self.cancel_token.cancelled:
            raise TransferCancelled("the transfer was cancelled")

    @contextmanager
    def separating_cancel(self) -> Iterator[None]:
        """Replace any failure in the block by ``TransferCancelled`` after a cancellation."""
        try:
            yield
        except BeRayException as error:
            if self.cancel_token.cancelled and not isinstance(error, TransferCancelled):
                raise TransferCancelled("the transfer was cancelled") from None
            raise
