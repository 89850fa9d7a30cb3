"""SHA-256 digests of files, and their HTTP headers.

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

WANT_SHA256: Final = {"Want-Repr-Digest": "sha-256=1"}
"""Headers that request the digest of a file."""
_BLOCK_BYTES: Final = 1024 * 1024
_SHA256: Final = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{44}):")


class Hash(Protocol):
    """Hash object of ``hashlib``."""

    def update(self, data: bytes, /) -> None:
        """Add data to the hash."""


def sha256_from_headers(headers: Mapping[str, str]) -> bytes | None:
    """Return the SHA-256 in the ``Repr-Digest`` of a response; ``None`` if there is none."""
    match = _SHA256.search(headers.get("Repr-Digest", ""))
    if match is None:
        return None
    try:
        return base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return None


def repr_digest(digest: bytes) -> str:
    """Return the value of ``Repr-Digest`` for a SHA-256."""
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def wants_sha256(header: str | None) -> bool:
    """Return True if a ``Want-Repr-Digest`` requests SHA-256 with a weight other than 0."""
    items = (item.strip().partition("=") for item in (header or "").lower().split(","))
    return any(name == "sha-256" and weight.strip() not in ("0", "") for name, _, weight in items)


def sha256_of_file(file: BinaryIO) -> bytes:
    """Return the SHA-256 of a file, from its beginning."""
    sha256 = hashlib.sha256()
    hash_prefix(sha256, file, sys.maxsize)
    return sha256.digest()


def hash_prefix(hash_object: Hash, file: BinaryIO, length: int) -> None:
    """Add the first ``length`` bytes of ``file`` to a hash."""
    file.seek(0)
    while length > 0 and (block := file.read(min(_BLOCK_BYTES, length))):
        hash_object.update(block)
        length -= len(block)
