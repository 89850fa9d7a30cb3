"""SHA-256 of files, and how HTTP says it.

Source: RFC 9530 (Repr-Digest, Want-Repr-Digest); RFC 9651 (byte sequences).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sys
from collections.abc import Mapping
from typing import BinaryIO, Final, Protocol

WANTED: Final = {"Want-Repr-Digest": "sha-256=1"}
"""Headers that ask for the digest of a file."""
_BLOCK_BYTES: Final = 1024 * 1024
_SHA256: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{44}):")


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def sha256_of(headers: Mapping[str, str]) -> bytes | None:
    """The digest that the headers of an answer tell, if they do."""
    match = _SHA256.search(headers.get("Repr-Digest", ""))
    if match is None:
        return None
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None


def header(digest: bytes) -> str:
    """The value of ``Repr-Digest`` for a SHA-256."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def is_wanted(want: str | None) -> bool:
    """Whether a ``Want-Repr-Digest`` asks for a SHA-256; a weight of 0 asks for none."""
    items = (item.strip().partition("=") for item in (want or "").lower().split(","))
    return any(name == "sha-256" and weight.strip() not in ("0", "") for name, _, weight in items)


def of_file(file: BinaryIO) -> bytes:
    """The SHA-256 of a file, from its beginning."""
    hashed = hashlib.sha256()
    feed(hashed, file, sys.maxsize)
    return hashed.digest()


def feed(hashed: Hash, file: BinaryIO, length: int) -> None:
    """Hash the first ``length`` bytes of ``file``."""
    file.seek(0)
    while length > 0 and (block := file.read(min(_BLOCK_BYTES, length))):
        hashed.update(block)
        length -= len(block)
