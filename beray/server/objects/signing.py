"""URLs that are credentials themselves: for one method, one object, and a while.

The signature is an HMAC-SHA256 (RFC 2104) over all that the URL lets its holder do.
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


class Forged(Exception):
    """The URL is not one of ours, or is one for something else."""


class Expired(Exception):
    """The URL was good until a while ago."""


class Signer:
    """Signs URLs of one bucket with a secret of its own."""

    def __init__(self, secret: bytes, bucket: str) -> None:
        self._secret = secret
        self._bucket = bucket

    def url(self, base_url: str, method: str, key: str, seconds: float) -> str:
        """A URL for ``method`` on ``key`` that is good for ``seconds``."""
        expires = str(ceil(time.time() + seconds))
        query = {
            "method": method,
            "expires": expires,
            "signature": self._signature(method, key, expires),
        }
        return f"{base_url.rstrip('/')}{OBJECTS_PATH}{quote(key)}?{urlencode(query)}"

    def check(self, method: str, key: str, expires: str, signature: str) -> None:
        """Prove that a URL lets its holder do ``method`` on ``key`` now.

        Raises:
            Forged, Expired: it does not.
        """
        if not _EXPIRES.fullmatch(expires):
            raise Forged
        wanted = self._signature(method, key, expires)
        if not hmac.compare_digest(wanted.encode(), signature.encode(errors="replace")):
            raise Forged
        if int(expires) <= time.time():
            raise Expired

    def _signature(self, method: str, key: str, expires: str) -> str:
        said = "\n".join((method, self._bucket, key, expires))
        return hmac.new(self._secret, said.encode(errors="replace"), hashlib.sha256).hexdigest()


def secret_at(path: Path) -> bytes:
    """The secret in a file that only its owner may read; it is made where there is none.

    Raises:
        OSError: the file cannot be read or written.
    """
    try:
        secret = bytes.fromhex(path.read_text("ascii"))
    except FileNotFoundError:
        secret = b""
    except ValueError:
        log.error("a damaged secret is replaced; URLs that were signed by it are void", path=path)
        secret = b""
    if len(secret) != _KEY_BYTES:
        secret = secrets.token_bytes(_KEY_BYTES)
        write_private_file(path, secret.hex())
    return secret
