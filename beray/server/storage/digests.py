"""Digests of secrets, by which they are stored and found."""

from __future__ import annotations

import hashlib


def secret_digest(secret: str) -> str:
    """Return the SHA-256 digest of a token, key or code.

    A slow hash is not needed for secrets with 256 random bits.
    """
    return hashlib.sha256(secret.encode()).hexdigest()
