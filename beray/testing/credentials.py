"""Credentials of a signed-in client, for requests that a test sends without the client."""

from __future__ import annotations

from beray.client import BeRayClient


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
    """Return the ``Authorization`` header of a client's requests.

    ::

        requests.get(f"{client.api_base_url}/tasks/", headers=authorization(client), timeout=10)

    Raises:
        ValueError: The client has no token.
    """
    return {"Authorization": f"Bearer {access_token(client)}"}
