"""WebSocket connection attempts of the library ``websockets``.

This is the only module that uses undocumented interfaces of ``websockets``:
``connect.process_redirect`` and ``websockets.uri.parse_uri``. There is no option that restricts
redirects, which would send the credentials to another server.
"""

from __future__ import annotations

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri


class SameOriginConnect(connect):
    """Connection attempt that follows redirects only within the same scheme, host and port."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the URL to connect to after ``exc``, or the exception to raise."""
        source = parse_uri(self.uri)
        try:
            target = super().process_redirect(exc)
        except InvalidURI:
            return exc
        if isinstance(target, str):
            uri = parse_uri(target)
            if (uri.secure, uri.host, uri.port) == (source.secure, source.host, source.port):
                return target
        return exc
