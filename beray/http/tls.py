"""Certificates: whether they can be used, and what a connection that fails by them means.

Source: RFC 8446, 6.2 (alerts); OpenSSL's names of them.
"""

from __future__ import annotations

import os
import ssl
from typing import Any, Final

from beray.exceptions import BeRayException, ConfigurationError, InvalidResponseError

_CERTIFICATE_ALERTS: Final = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_",  # REVOKED, EXPIRED, UNKNOWN
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
)
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


def require_usable(verify: bool | str | None, cert: str | tuple[str, str] | None) -> None:
    """Raise ``ConfigurationError`` where a file cannot be what it is given for."""
    own, key = cert if isinstance(cert, tuple) else (cert, None)
    trusted = verify if isinstance(verify, str) else None
    for path in (trusted, own, key):
        if path is not None and not os.path.exists(path):
            raise ConfigurationError(f"there is no file {path}")
    if trusted is None and own is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted is not None:
        kind = "capath" if os.path.isdir(trusted) else "cafile"
        try:
            context.load_verify_locations(**{kind: trusted})
        except OSError as error:
            raise _unusable(trusted, "certificates", error) from None
    if own is not None:
        try:
            # Else somebody would be asked for the password of an encrypted key, at any time.
            context.load_cert_chain(own, key, password="")
        except OSError as error:
            raise _unusable(own, "a client certificate", error) from None


def _unusable(path: str, purpose: str, error: OSError) -> ConfigurationError:
    reason = getattr(error, "reason", None)
    why = _words(reason) if reason else error.strerror
    return ConfigurationError(f"{path} cannot be used as {purpose} ({why})")


def refusal(error: ssl.SSLError, call: str, at: dict[str, Any]) -> BeRayException | None:
    """The exception for a connection that no repetition makes better; ``None`` for others.

    Nothing was done by the server: it has taken no request.
    """
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return InvalidResponseError(
            f"{call}: the server's certificate is not trusted ({why})", body="", **at
        )
    if "ALERT_CERTIFICATE_REQUIRED" in reason:
        return ConfigurationError(f"{call}: the server asks for a client certificate", **at)
    if any(alert in reason for alert in _CERTIFICATE_ALERTS):
        text = f"the server does not take the client certificate ({_words(reason)})"
        return ConfigurationError(f"{call}: {text}", **at)
    if "ALERT_HANDSHAKE_FAILURE" in reason:
        text = "the server refuses the TLS connection; it may ask for a client certificate"
        return ConfigurationError(f"{call}: {text}", **at)
    if any(name in reason for name in _NOT_TLS):
        text = "no TLS is spoken there; is it a server for http:// URLs?"
        return InvalidResponseError(f"{call}: {text}", body="", **at)
    return None


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")
