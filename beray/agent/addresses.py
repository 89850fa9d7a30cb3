"""URL and credentials of an agent's WebSocket, from the arguments of ``AgentApi``.

Source: the agent WebSocket API page; RFC 3986, 3.2.1 (user information); RFC 7617 (Basic
authentication); RFC 6455, 3 (URLs of WebSockets).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from beray.config import checked_token
from beray.exceptions import ConfigurationError, InvalidArgument

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_VERBATIM_PATHS: Final = ("/ws", "/ws/", "/agent_ws/")
"""Suffixes of paths of URLs that are used verbatim, as in version 1.0 of the published client."""


@dataclass(frozen=True)
class AgentAddress:
    """URL of a WebSocket without credentials, and the value of the ``Authorization`` header."""

    url: str
    authorization: str | None = field(default=None, repr=False)


def resolve_address(
    address: str | None,
    *,
    base_url: str | None,
    url: str | None,
    chat_id: int | str,
    token: str | None,
) -> AgentAddress:
    """Return the address that the arguments of ``AgentApi`` describe.

    Raises:
        ConfigurationError: The URL is invalid.
        InvalidArgument: No URL or more than one was passed; ``chat_id`` is invalid, or has no
            effect because the URL is used verbatim; ``token`` is invalid, or contradicts the
            user information of the URL.
    """
    urls = [value for value in (address, base_url, url) if value is not None]
    if len(urls) != 1:
        raise InvalidArgument(
            "AgentApi needs exactly one URL: that of the agent's server (second argument or "
            "base_url=), or that of its WebSocket (url=)"
        )
    parts = _split(urls[0])
    if url is not None or (base_url is None and parts.path.endswith(_VERBATIM_PATHS)):
        if chat_id != 0:
            raise InvalidArgument(
                f"chat_id={chat_id!r} has no effect on the URL of a WebSocket; pass the URL of the "
                "agent's server as base_url="
            )
        query = f"?{parts.query}" if parts.query else ""
        path = f"{parts.path}{query}"
    elif parts.query:
        raise ConfigurationError("the agent's URL must not have a query or a fragment")
    else:
        path = f"{parts.path.rstrip('/')}/v1/agent_ws/{_quoted_chat_id(chat_id)}/"
    user_info, _, host = parts.netloc.rpartition("@")
    return AgentAddress(
        f"{_SCHEMES[parts.scheme]}://{host}{path}", _authorization(user_info, token)
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        is_valid = parts.scheme in _SCHEMES and bool(parts.hostname)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigurationError("the agent's URL must look like http://host:port")
    if parts.fragment:
        raise ConfigurationError("the agent's URL must not have a query or a fragment")
    return parts


def _quoted_chat_id(chat_id: int | str) -> str:
    if str(chat_id) in ("", ".", ".."):
        raise InvalidArgument(f"chat_id must not be '', '.' or '..', got {chat_id!r}")
    try:
        return quote(str(chat_id), safe="")
    except ValueError as error:
        raise InvalidArgument(f"chat_id must be Unicode text: {error}") from None


def _authorization(user_info: str, token: str | None) -> str | None:
    """Return the value of the header for a token, or for the user information of a URL."""
    if user_info and token is not None:
        raise InvalidArgument(
            "the agent's URL contains credentials, and token= was passed; pass only one of them"
        )
    if user_info:
        user, _, password = user_info.partition(":")
        pair = f"{unquote(user)}:{unquote(password)}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return None if token is None else f"Bearer {checked_token(token)}"
