"""Requests of a signed-in account without the client: its token, its header, and raw requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import requests

from beray.client import BeRayClient

TIMEOUT_SECONDS: Final = 30.0


def access_token(client: BeRayClient) -> str:
    """Return the access token of a client.

    Raises:
        ValueError: The client has no token.
    """
    token = client.access_token
    if token is None:
        raise ValueError("the client has no access token; sign in first")
    return token


def authorization(client: BeRayClient) -> dict[str, str]:
    """Return the ``Authorization`` header of a client's requests, for another HTTP library.

    Raises:
        ValueError: The client has no token.
    """
    return {"Authorization": f"Bearer {access_token(client)}"}


def raw_request(
    client: BeRayClient,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str | bytes] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    **options: Any,
) -> requests.Response:
    """Send a request once, as the account of a client, and return the response of any status.

    ::

        response = raw_request(client, "POST", "/api/v1/tasks/", data=b"no JSON")
        assert response.status_code == 422

    Args:
        client: Signed-in client; its retries, checks and connections are not used.
        method: HTTP method.
        path: Path on the server, with the query.
        headers: Additional headers.
        timeout: Seconds to wait for a connection, and for each part of the response.
        options: Further arguments of ``requests.request``.

    Raises:
        ValueError: The client has no token.
        requests.RequestException: The server sent no response.
    """
    return requests.request(
        method,
        f"{client.base_url}{path}",
        headers={**authorization(client), **(headers or {})},
        timeout=timeout,
        **options,
    )
