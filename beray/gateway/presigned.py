"""Requests for presigned URLs, which are sent without credentials.

The query of a presigned URL is a signature that grants access to the file. It therefore never
appears in messages or logs, including those of the HTTP library, and an error response of the
store is reported by its status only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from beray.exceptions import APIError, ConfigurationError, InvalidResponseError
from beray.gateway import schema
from beray.gateway.validation import checked_s3_url
from beray.http.auth import HeaderAuth
from beray.http.connection import CancelToken, shared_session
from beray.http.errors import PRESIGNED_PATH
from beray.http.request import ApiRequest, Timeout
from beray.http.transport import Transport
from beray.transfers.transfer import Transfer

EXPIRES_IN_SECONDS: Final = 3600
"""Validity of a presigned URL."""
_EXPIRED_STATUSES: Final = frozenset({400, 401, 403})
"""Statuses with which stores reject an expired presigned URL."""
_current_request: Final = threading.local()


class PresignedTransport(Transport):
    """Transport for the requests of one presigned URL.

    Args:
        url: The presigned URL.
        gateway: Transport of the gateway that returned the URL; its timeouts, proxies and
            certificates are used here, too.

    Raises:
        InvalidResponseError: The URL is relative, has a scheme other than http and https, a
            password or a fragment, or contains characters that are invalid in a URL.
    """

    def __init__(self, url: str, gateway: Transport) -> None:
        try:
            parts = urlsplit(url)
            if not url.isascii() or not url.isprintable() or " " in url or parts.fragment:
                raise ConfigurationError
            options = gateway.connection_options(url)
            super().__init__(
                f"{parts.scheme}://{parts.netloc}", prefix="", session=shared_session(),
                timeout=gateway.timeout, deadline=gateway.deadline,
                max_retries=gateway.max_retries, **options,
            )  # fmt: skip
        except (ConfigurationError, ValueError):
            is_valid = False
        else:
            is_valid = True
        # Raised outside of the handler, because the handled exception contains the URL.
        if not is_valid:
            raise InvalidResponseError("the gateway returned an invalid presigned URL", body="")
        self._presigned = url

    def send(
        self, method: str, *, timeout: Timeout | None = None, **options: Any
    ) -> requests.Response:
        """Send a request for the URL and return the response, as :meth:`Transport.request` does."""
        return self.request(method, PRESIGNED_PATH, timeout=timeout, **options)

    def _url(self, request: ApiRequest) -> str:
        return self._presigned

    def send_once(
        self, request: ApiRequest, ends_at: float, cancel: CancelToken, auth: HeaderAuth
    ) -> requests.Response:
        """Send the request once; log records of this thread meanwhile lose their query."""
        _current_request.is_presigned = True
        try:
            return super().send_once(request, ends_at, cancel, auth)
        finally:
            _current_request.is_presigned = False


class PresignedFile:
    """File that is downloaded by presigned URLs; an expired URL is replaced by a new one.

    Args:
        gateway: Transport of the gateway, which returns the URLs.
        s3_url: ``s3://`` URL of the file.
        transfer: Cancels the requests.
    """

    def __init__(self, gateway: Transport, s3_url: str, transfer: Transfer) -> None:
        self._gateway = gateway
        self._s3_url = s3_url
        self._transfer = transfer
        self._presigned: PresignedTransport | None = None

    def fetch(self, headers: Mapping[str, str]) -> requests.Response:
        """Return the response with the file, whose body has not been read.

        Args:
            headers: Headers of the request, such as ``Range``.
        """
        if self._presigned is not None:
            try:
                return self._get(self._presigned, headers)
            except APIError as error:
                if error.status_code not in _EXPIRED_STATUSES:
                    raise
        return self._get(self.request_url(), headers)

    def request_url(self) -> PresignedTransport:
        """Request a presigned URL, which the next ``fetch`` uses.

        Raises:
            NotFoundError: The file does not exist.
        """
        cancel = self._transfer.cancel_token
        url = presigned_url(self._gateway, self._s3_url, EXPIRES_IN_SECONDS, cancel=cancel)
        self._presigned = PresignedTransport(url, self._gateway)
        return self._presigned

    def _get(self, presigned: PresignedTransport, headers: Mapping[str, str]) -> requests.Response:
        return presigned.send(
            "GET", headers=headers, stream=True, cancel=self._transfer.cancel_token
        )


def presigned_url(gateway: Transport, s3_url: str, expires_in: int, **options: Any) -> str:
    """Request a URL with which a file can be fetched without credentials.

    Args:
        gateway: Transport of the gateway.
        s3_url: ``s3://`` URL of the file.
        expires_in: Validity of the URL, in seconds.
        options: Options of ``Transport.json``.
    """
    params = {"s3_url": checked_s3_url(s3_url), "mode": "presigned", "expires_in": expires_in}
    response = gateway.json(
        schema.PRESIGNED_URL, "GET", "/internal/files/download", params=params, **options
    )
    return response["presigned_url"]


def _remove_query(record: logging.LogRecord) -> bool:
    """Remove the query from urllib3's log records about presigned requests."""
    if getattr(_current_request, "is_presigned", False) and isinstance(record.args, tuple):
        record.args = tuple(
            arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
        )
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_remove_query)
