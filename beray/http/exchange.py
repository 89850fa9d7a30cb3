"""A request made once: signed, sent, followed where it may go, and its answer judged.

Redirects stay on the server; answers and failures become exceptions that keep nothing of
the request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import requests

from beray.config import checked_base_url, is_loopback, origin
from beray.exceptions import (
    BeRayException,
    ConfigurationError,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
)
from beray.http import tls
from beray.http.auth import Signature
from beray.http.calls import Call, redirected
from beray.http.connection import Attempt, Cancel, tells_attempts
from beray.http.errors import api_error, connection_error, read_whole
from beray.schema import IDEMPOTENCY_HEADER

MAX_REDIRECTS: Final = 5
SIGN_IN_PATHS: Final = ("/auth/register", "/auth/login", "/auth/token")

log = logging.getLogger("beray.transport")


class Exchange:
    """A session bound to one server.

    Attributes:
        honours_keys: whether the server has said that it honours an ``Idempotency-Key``.
        sign_in_advice: sentence for the message of a 401 after a call without a token.
    """

    sign_in_advice = ""

    def __init__(
        self,
        base_url: str,
        prefix: str,
        session: requests.Session,
        *,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self.session = session
        self.honours_keys = False
        self._prefix = prefix
        given: dict[str, Any] = {"verify": verify, "cert": cert, "proxies": proxies}
        self._given = {name: value for name, value in given.items() if value is not None}
        # What the environment names as a proxy is not meant for this machine's own.
        local = is_loopback(self.base_url)
        self._no_proxies = {"proxies": dict.fromkeys(("http", "https", "all"))} if local else {}
        tls.require_usable(verify, cert)

    def way_to(self, url: str) -> dict[str, Any]:
        """What is said of the way where this server names ``url``, which may be another's.

        The client's certificate is a credential, and stays with this server.
        """
        way = self._session_says() | self._given
        if origin(url) != origin(self.base_url):
            way.pop("cert", None)
        return way

    def close(self) -> None:
        self.session.close()

    def _url(self, call: Call) -> str:
        return f"{self.base_url}{self._prefix}{call.path}"

    def once(
        self, call: Call, until: float, cancel: Cancel, signature: Signature
    ) -> requests.Response:
        """Make a request, follow it where it may go, and judge the answer.

        Raises:
            APIError: the server said no.
            ConnectionFailed, DeadlineExceeded: there was no whole answer.
            ConfigurationError, InvalidArgument: it cannot be sent.
            InvalidResponseError: it redirects elsewhere, or the answer cannot be read.
        """
        url = self._url(call)
        options = call.options | self._way()
        for _ in range(MAX_REDIRECTS + 1):
            started = time.monotonic()
            answer = self._sent(call, url, options | {"auth": signature}, until, cancel)
            if isinstance(answer, BeRayException):
                # Raised here and not where it arose: so it keeps nothing of the request.
                raise answer
            seconds = time.monotonic() - started
            log.debug("%s -> %d in %.3f s", call, answer.status_code, seconds)
            self.honours_keys |= IDEMPOTENCY_HEADER in answer.headers
            target = answer.headers.get("Location")
            if not (300 <= answer.status_code < 400 and target):
                break
            url = redirected(call, answer, url, target)
            options.pop("params", None)
        else:
            raise InvalidResponseError(
                f"{call}: more than {MAX_REDIRECTS} redirects",
                body="", method=call.method, path=call.path,
            )  # fmt: skip
        if answer.status_code >= 300 and answer.status_code != 304:
            raise api_error(answer, call.method, call.path, advice=self._advice(call, answer))
        return answer

    def _advice(self, call: Call, answer: requests.Response) -> str:
        """Return how to sign in, after a call that was refused because it was not signed."""
        sent: Mapping[str, str] = getattr(answer.request, "headers", {})
        unsigned = answer.status_code == 401 and "Authorization" not in sent
        if not unsigned or call.path in SIGN_IN_PATHS or not self.sign_in_advice:
            return ""
        return self.sign_in_advice

    def _way(self) -> dict[str, Any]:
        """What a request says of the way to the server.

        What the session says is said again, because the environment would overrule it.
        """
        return self._no_proxies | self._session_says() | self._given

    def _session_says(self) -> dict[str, Any]:
        session: dict[str, Any] = {}
        if self.session.verify is not True:
            session["verify"] = self.session.verify
        if self.session.proxies:
            session["proxies"] = self.session.proxies
        return session

    def _sent(
        self, call: Call, url: str, options: dict[str, Any], until: float, cancel: Cancel
    ) -> requests.Response | BeRayException:
        """The answer to one request, or what kept it from coming."""
        attempt = Attempt()
        left = until - time.monotonic()
        connect, read = call.timeout
        at: dict[str, Any] = {"method": call.method, "path": call.path}
        try:
            with attempt.under_way(until, cancel):
                response = self.session.request(
                    call.method, url, stream=True, allow_redirects=False,
                    timeout=(max(min(connect, left), 0.001), max(min(read, left), 0.001)),
                    **options,
                )  # fmt: skip
                if not call.stream or response.status_code >= 300:
                    limit = call.limit
                    if not read_whole(response, limit.max_bytes if limit else None) and limit:
                        return limit.error(call)
                return response
        except requests.RequestException as error:
            if attempt.expired:
                text = f"{call}: no complete answer from {self.base_url} within {call.deadline:g} s"
                return DeadlineExceeded(text, delivered=attempt.connected, **at)
            unsent = tells_attempts(self.session, url) and not attempt.connected
            return connection_error(
                error, call.method, call.path, server=self.base_url, unsent=unsent
            )
        except OSError as error:
            # Of certificates that a session, or the environment, names and that are not there.
            return ConfigurationError(f"{call}: {error}", **at)
        except UnicodeError:
            return InvalidArgument(f"{call}: an argument is not valid text", **at)
        except ValueError:
            # requests looks at a redirect's target before anybody asks it to.
            return InvalidResponseError(f"{call}: the answer is malformed", body="", **at)
