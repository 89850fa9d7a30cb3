"""Gateway client of the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from beray.config import Target
from tui.io.lazy_client import lazy_client

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

TIMEOUT: Final = (5.0, 15.0)
"""Connect and read timeouts in seconds. The stream of a run may be silent for longer."""


def connect(target: Target) -> GatewayClient:
    """Return a gateway client for ``target`` that is created on first use."""

    def make() -> GatewayClient:
        from beray.gateway import GatewayClient

        # Errors are shown at once; the user decides whether to retry.
        return GatewayClient(
            base_url=target.url, jwt_token=target.token, connection=TIMEOUT, max_retries=0
        )

    return lazy_client(make)
