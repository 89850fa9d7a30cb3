"""The gateway of an account: the one place where its client is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from beray.config import Target
from tui.io.lazy_client import later

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

TIMEOUT: Final = (5.0, 15.0)
"""Seconds to connect, and seconds without a byte; a run that is watched may be silent longer."""


def connect(target: Target) -> GatewayClient:
    """A client of the gateway that the server at ``target`` is, as its account."""

    def make() -> GatewayClient:
        from beray.gateway import GatewayClient

        # What the server says is shown at once; the user asks again.
        return GatewayClient(
            base_url=target.url, jwt_token=target.token, connection=TIMEOUT, max_retries=0
        )

    return later(make)
