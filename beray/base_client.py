"""What every client of a server is, whatever it calls there."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self

from beray.http.transport import Transport


class BaseClient:
    """A context manager around connections. Shows its server, and no credential."""

    _transport: Transport

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds credentials and connections: it cannot be pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client opens new ones if it is used again."""
        self._transport.close()
