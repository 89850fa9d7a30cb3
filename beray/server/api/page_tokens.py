"""Continuation tokens of file listings: the position after which the next page starts.

A token is the path of the last entry of a page, relative to the listed directory, in URL-safe
base64 (RFC 4648, 5) without padding, which can represent any name in a URL, even one that is not
UTF-8. The server stores no state for a token, and the entry may have been deleted meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from beray.server.workspace.safe_open import MAX_NAME_BYTES, InvalidPath

MAX_TOKEN_CHARACTERS: Final = 8192


def encode(parts: Sequence[bytes]) -> str:
    """Return the token for a position below the listed directory."""
    return base64.urlsafe_b64encode(b"/".join(parts)).rstrip(b"=").decode("ascii")


def decode(token: str) -> tuple[bytes, ...]:
    """Return the position that a token of ``encode`` contains.

    Raises:
        InvalidPath: ``encode`` cannot have returned the token.
    """
    try:
        data = token.encode("ascii")
        path = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise _invalid(token) from None
    parts = tuple(path.split(b"/"))
    is_position = all(
        part not in (b"", b".", b"..") and b"\0" not in part and len(part) <= MAX_NAME_BYTES
        for part in parts
    )
    if not is_position or encode(parts) != token:
        raise _invalid(token)
    return parts


def _invalid(token: str) -> InvalidPath:
    shown = repr(token if len(token) <= 60 else f"{token[:59]}…")
    return InvalidPath(
        f"after={shown} is not a position of this listing; use the Link of the previous page, or "
        "omit it to start with the first page"
    )
