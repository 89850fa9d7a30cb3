"""Presigned URLs: fetched without credentials, and seen by nobody.

Their query is a signature: whoever has it has the file. So it is in no message, no log, not
even the HTTP library's, and of a store's refusal no more is told than its status.
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
from beray.gateway.call_arguments import checked_s3_url
from beray.http.auth import HeaderAuth
from beray.http.connection import CancelToken, shared_session
from beray.http.errors import PRESIGNED_PATH
from beray.http.retry import ApiRequest, Timeout
from beray.http.transport import Transport
from beray.transfers.transfer import Transfer

PRESIGNED_SECONDS: Final = 3600
_NO_LONGER: Final = frozenset({400, 401, 403})
"""How stores refuse a presigned URL that has expired."""
_under_way: Final = threading.local()


class PresignedUrl(Transport):
    """One presigned URL.

    Raises:
        InvalidResponseError: it is none that can be fetched: relative, of another scheme, with
            a password, or with characters that no URL has.
    """

    def __init__(self, url: str, gateway: Transport) -> None:
        """``gateway`` has named it; its way there (proxies, certificates) is used here, too."""
        try:
            parts = urlsplit(url)
            if not url.isascii() or not url.isprintable() or " " in url or parts.fragment:
                raise ConfigurationError
            way = gateway.connection_options(url)
            super().__init__(
                f"{parts.scheme}://{parts.netloc}", prefix="", session=shared_session(),
                timeout=gateway.timeout, deadline=gateway.deadline,
                max_retries=gateway.max_retries, **way,
            )  # fmt: skip
        except (ConfigurationError, ValueError):
            usable = False
        else:
            usable = True
        if not usable:
            raise InvalidResponseError(
                "the gateway names a presigned URL that cannot be used", body=""
            )
        self._presigned = url

    def fetched(
        self, method: str, *, timeout: Timeout | None = None, **options: Any
    ) -> requests.Response:
        """Make the request; as :meth:`Transport.request`."""
        return self.request(method, PRESIGNED_PATH, timeout=timeout, **options)

    def _url(self, request: ApiRequest) -> str:
        return self._presigned

    def send_once(
        self, request: ApiRequest, ends_at: float, cancel: CancelToken, auth: HeaderAuth
    ) -> requests.Response:
        _under_way.presigned = True
        try:
            return super().send_once(request, ends_at, cancel, auth)
        finally:
            _under_way.presigned = False


class PresignedFile:
    """One file behind presigned URLs: a fresh one when the last has expired."""

    def __init__(self, gateway: Transport, s3_url: str, transfer: Transfer) -> None:
        self._gateway = gateway
        self._s3_url = s3_url
        self._transfer = transfer
        self._url: PresignedUrl | None = None

    def fetch(self, headers: Mapping[str, str]) -> requests.Response:
        if self._url is not None:
            try:
                return self._got(self._url, headers)
            except APIError as error:
                if error.status_code not in _NO_LONGER:
                    raise
        return self._got(self.locate(), headers)

    def locate(self) -> PresignedUrl:
        """Request a presigned URL, which the next ``fetch`` uses.

        Raises:
            NotFoundError: There is no such file.
        """
        cancel = self._transfer.cancel_token
        named = presigned_url(self._gateway, self._s3_url, PRESIGNED_SECONDS, cancel=cancel)
        self._url = PresignedUrl(named, self._gateway)
        return self._url

    def _got(self, url: PresignedUrl, headers: Mapping[str, str]) -> requests.Response:
        return url.fetched("GET", headers=headers, stream=True, cancel=self._transfer.cancel_token)


def presigned_url(gateway: Transport, s3_url: str, seconds: int, **options: Any) -> str:
    """A URL by which anybody can fetch a file; ``options`` are those of ``Transport.json``."""
    params = {"s3_url": checked_s3_url(s3_url), "mode": "presigned", "expires_in": seconds}
    answer = gateway.json(
        schema.PRESIGNED_URL, "GET", "/internal/files/download", params=params, **options
    )
    return answer["presigned_url"]


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query out of what urllib3 logs of a presigned request."""
    if getattr(_under_way, "presigned", False) and isinstance(record.args, tuple):
        record.args = tuple(
            arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args
        )
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_without_query)
