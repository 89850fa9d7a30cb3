"""Signed URLs that permit one method on one object for a limited time.

The signature is an HMAC-SHA256 (RFC 2104) over the method, the bucket, the key and the time of
expiry.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import structlog

from beray.config import write_private_file

OBJECTS_PATH: Final = "/internal/objects/"
_KEY_BYTES: Final = 32
_EXPIRES: Final = re.compile("[1-9][0-9]{0,11}")

log = structlog.get_logger("beray.gateway")


class InvalidSignature(Exception):
    """The URL was not signed by this server, or not for this method and object."""


class SignatureExpired(Exception):
    """The validity of the URL has ended."""


class UrlSigner:
    """Signer of URLs for one bucket."""

    def __init__(self, secret: bytes, bucket: str) -> None:
        self._secret = secret
        self._bucket = bucket

    def url(self, base_url: str, method: str, key: str, seconds: float) -> str:
        """Return a URL that permits ``method`` on ``key`` for ``seconds``."""
        expires = str(ceil(time.time() + seconds))
        query = {
            "method": method,
            "expires": expires,
            "signature": self._signature(method, key, expires),
        }
        return f"{base_url.rstrip('/')}{OBJECTS_PATH}{quote(key)}?{urlencode(query)}"

    def check(self, method: str, key: str, expires: str, signature: str) -> None:
        """Check that a URL permits ``method`` on ``key`` now.

        Raises:
            InvalidSignature: The URL was not signed for this method and key.
            SignatureExpired: The validity of the URL has ended.
        """
        if not _EXPIRES.fullmatch(expires):
            raise InvalidSignature
        expected = self._signature(method, key, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            raise InvalidSignature
        if int(expires) <= time.time():
            raise SignatureExpired

    def _signature(self, method: str, key: str, expires: str) -> str:
        signed = "\n".join((method, self._bucket, key, expires))
        return hmac.new(self._secret, signed.encode(errors="replace"), hashlib.sha256).hexdigest()


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret in a file with mode 0600, which is created if missing.

    A damaged secret is replaced.

    Raises:
        OSError: The file cannot be read or written.
    """
    try:
        secret = bytes.fromhex(path.read_text("ascii"))
    except FileNotFoundError:
        secret = b""
    except ValueError:
        log.error("a damaged secret was replaced; URLs signed with it are invalid", path=path)
        secret = b""
    if len(secret) != _KEY_BYTES:
        secret = secrets.token_bytes(_KEY_BYTES)
        write_private_file(path, secret.hex())
    return secret
