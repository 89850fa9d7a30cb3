"""``GatewayClient``: prefabs that are called, and the files that go in and come out.

Source: the Gateway wire page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, TypedDict, Unpack, overload

import requests

from beray.config import checked_token
from beray.exceptions import InvalidArgument
from beray.gateway import auth, schema
from beray.gateway.argument_checks import (
    checked_count,
    checked_number,
    checked_pair,
    checked_text,
    checked_way,
    kind,
)
from beray.gateway.call_arguments import checked_call
from beray.gateway.errors import translated
from beray.gateway.files import GatewayFiles
from beray.gateway.models import BatchResult, PrefabCall, PrefabInfo, PrefabResult
from beray.gateway.prefab_admin import PrefabKeeping
from beray.gateway.runs import (
    EVENTS,
    RUN_PATH,
    PrefabStream,
    RunEvents,
    gathered,
    one_result,
    require_results,
)
from beray.http.auth import AuthProvider, bearer_auth
from beray.http.connection import CancelToken, shared_session
from beray.http.response_body import MAX_JSON_BYTES, ResponseBody
from beray.http.retry import MAX_RETRIES, Timeout
from beray.http.transport import (
    DEFAULT_DEADLINE,
    DEFAULT_TIMEOUT,
    BaseClient,
    Transport,
    quote_path_segment,
)

RUN_SECONDS = 1200.0
IDLE_SECONDS = 300.0
"""A gateway of ours says every few seconds that it lives; others may not."""
_LONGEST = 1e6
_JSON = {"Accept": "application/json"}


class GatewayOptions(TypedDict, total=False):
    """Keyword arguments of ``GatewayClient`` other than address, credentials and timeout."""

    connection: Timeout
    deadline: float
    idle: float
    max_retries: int
    session: requests.Session | None
    verify: bool | str | None
    cert: str | tuple[str, str] | None
    proxies: Mapping[str, str] | None
    max_json_bytes: int


class GatewayClient(GatewayFiles, PrefabKeeping, BaseClient):
    """A client of one gateway. Safe to share between threads, and cheap to make.

    There are three ways in: an internal token, an API key, which is exchanged for one when it
    is first needed and again when that has expired, and an account's access token. Without any
    the gateway decides by the address. Everything raised is a :class:`GatewayError`; local
    files may raise ``OSError`` besides.

    All clients share their connections, unless one has a ``session`` of its own; no
    credential is ever on a shared one. So a client for each request of a service costs nothing.

    The positional arguments are those of the published versions: ``internal_token, base_url,
    timeout``, or ``base_url, api_key, jwt_token, timeout`` if the first is an ``http(s)://`` URL.
    Tokens may begin with ``Bearer ``.

    Args:
        internal_token: Otherwise ``X_INTERNAL_TOKEN`` of the environment. Also a property that
            can be set; after an API key was exchanged, it is the token of that.
        base_url: Otherwise ``BERAY_GATEWAY_URL``, ``BERAY_URL``, ``http://localhost:8000``.
        timeout: Seconds that a run may take that is not streamed. Also a property that can be
            set.
        api_key: ``sk-…``. It is used if there is a ``jwt_token`` as well.
        jwt_token: An account's access token.
        connection: seconds to connect, and seconds without a byte while reading.
        deadline: seconds that any other call may take in all, its retries included. What
            moves files takes as long as it has to; silence ends it.
        idle: seconds of silence after which a streamed run counts as broken.
        max_retries: how often a call is made again where that is harmless. A run that may
            have been delivered never is.
        session: a ``requests.Session`` of the caller's own, for calls of the gateway; it
            is closed with the client.
        verify: ``False``, or the path of a file of certificates to trust.
        cert: a client certificate: one file, or the pair of certificate and key.
        proxies: by scheme, as for requests; otherwise the environment says.
        max_json_bytes: size of the largest answer, decompressed; files are never kept in
            memory, and have no limit.

    Raises:
        GatewayConfigurationError: the URL or a file of certificates cannot be used.
        InvalidInput: a token that is empty or that no header can carry, more than one way
            in, or another argument that cannot be.
    """

    @overload
    def __init__(
        self,
        internal_token: str | None = None,
        base_url: str | None = None,
        timeout: float = RUN_SECONDS,
        *,
        api_key: str | None = None,
        jwt_token: str | None = None,
        **options: Unpack[GatewayOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        jwt_token: str | None = None,
        timeout: float = RUN_SECONDS,
        *,
        internal_token: str | None = None,
        **options: Unpack[GatewayOptions],
    ) -> None: ...

    @translated()
    def __init__(
        self,
        *positional: Any,
        internal_token: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        api_key: str | None = None,
        jwt_token: str | None = None,
        connection: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        idle: float = IDLE_SECONDS,
        max_retries: int = MAX_RETRIES,
        session: requests.Session | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        max_json_bytes: int = MAX_JSON_BYTES,
    ) -> None:
        named = {
            "internal_token": internal_token, "base_url": base_url, "timeout": timeout,
            "api_key": api_key, "jwt_token": jwt_token,
        }  # fmt: skip
        access = auth.access(positional, named, timeout=RUN_SECONDS)
        url = auth.gateway_url(access.base_url)
        self.timeout = access.timeout
        self._idle = checked_number(idle, "idle", _LONGEST)
        waits = checked_pair(connection, "connection", _LONGEST)
        whole = checked_number(deadline, "deadline", math.inf)
        again = checked_count(max_retries, "max_retries", 0)
        trusted, mine = checked_way(session, verify, cert, proxies)

        def transport(credential: AuthProvider, retries: int) -> Transport:
            return Transport(
                url, prefix="", auth_provider=credential, session=session or shared_session(),
                timeout=waits, deadline=whole, max_retries=retries,
                verify=trusted, cert=mine, proxies=proxies, max_json_bytes=max_json_bytes,
            )  # fmt: skip

        credential: AuthProvider
        if access.api_key is not None:
            # Only the call that needs the token is repeated, not the exchange within it.
            exchange = transport(AuthProvider(bearer_auth(checked_token(access.api_key))), 0)
            credential = auth.ApiKey(exchange)
        else:
            credential = auth.given_credential(access)
        self._transport = transport(credential, again)
        self._credential = credential
        self._own = session is not None

    @property
    def timeout(self) -> float:
        """Seconds that a run may take that is not streamed."""
        return self._run_seconds

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        with translated():
            self._run_seconds = checked_number(seconds, "timeout", _LONGEST)

    @property
    def internal_token(self) -> str | None:
        """The internal token that signs calls.

        None in a client that has none: without credentials, with a ``jwt_token``, or with an
        ``api_key`` that was not exchanged yet (``from_api_key`` exchanges it at once). Setting it
        replaces the credentials of the client.
        """
        credential = self._credential
        if isinstance(credential, auth.InternalToken | auth.ApiKey):
            return credential.token
        return None

    @internal_token.setter
    def internal_token(self, token: str | None) -> None:
        with translated():
            self._credential = auth.InternalToken(token)
            self._transport.set_auth_provider(self._credential)

    @classmethod
    def from_api_key(
        cls,
        api_key: str,
        base_url: str | None = None,
        timeout: float = RUN_SECONDS,
        **options: Unpack[GatewayOptions],
    ) -> Self:
        """A client whose API key has been exchanged.

        Args:
            options: as for the class.

        Raises:
            AuthenticationError: the gateway does not take the key.
            InvalidInput: there is no key, or another argument cannot be.
        """
        with translated():
            # Without one the class would take whatever token the environment has.
            if api_key is None or api_key == "":
                raise InvalidArgument("an API key is needed: api_key is empty")
            client = cls(None, base_url, timeout, api_key=api_key, **options)
            client._credential.auth()
        return client

    def close(self) -> None:
        """Close the connections of a ``session`` of the client's own; shared ones stay."""
        if self._own:
            super().close()

    # Prefabs

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: Mapping[str, Any] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        stream: Literal[False] = False,
    ) -> PrefabResult: ...

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: Mapping[str, Any] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        *,
        stream: Literal[True],
    ) -> PrefabStream: ...

    @overload
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: Mapping[str, Any] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        stream: bool = False,
    ) -> PrefabResult | PrefabStream: ...

    @translated()
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: Mapping[str, Any] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        stream: bool = False,
    ) -> PrefabResult | PrefabStream:
        """Call a function of a prefab. A call that fails there is a result, too.

        Args:
            version: or ``latest``.
            parameters: what JSON can say.
            files: for each key, a list of ``s3://`` URLs, such as ``upload_input_file`` gives.
            stream: return an iterator over :class:`StreamEvent` instead, which ends behind
                ``done`` or ``error``. A function that does not stream has these two all the
                same.

        Raises:
            InvalidInput: parameters that are no JSON, or files that are no ``s3://`` URLs,
                with their place. Nothing was sent.
            PrefabNotFoundError, RejectedInput, QuotaExceededError, MissingSecretError,
            AuthenticationError: the gateway refuses the call.
            RunOutcomeUnknown: the answer did not come; the run may have been made.
            ServiceUnavailableError: the gateway, or the way there, is in trouble.
        """
        call = PrefabCall(
            prefab_id, version, function_name, {} if parameters is None else parameters, files
        )
        body = {"calls": [checked_call(call)]}
        if not stream:
            with translated(prefab_id, version):
                return self._result(self._posted(body))

        def opened(cancel: CancelToken) -> ResponseBody:
            return self._transport.open_stream(
                RUN_PATH, method="POST", json=body, cancel=cancel, idle=self._idle,
                headers={"Accept": EVENTS, "Accept-Encoding": "identity"},
                deadline=self._run_seconds,
            )  # fmt: skip

        return PrefabStream(RunEvents(opened, prefab_id, version))

    def run_batch(self, calls: Sequence[PrefabCall]) -> BatchResult:
        """Make several calls at once; one that fails does not touch the others.

        Raises:
            as ``run``; of several calls one that cannot begin is a ``FAILED`` result, with a
            gateway of ours. A single one is refused, and raises.
        """
        with translated():
            if not isinstance(calls, Iterable):
                raise InvalidArgument(f"calls must be a list of PrefabCall, not {kind(calls)}")
            checked = [checked_call(call, f"calls[{at}]") for at, call in enumerate(calls)]
            if not checked:
                raise InvalidArgument("calls is empty: at least one PrefabCall is needed")
            response = self._posted({"calls": checked})
            if len(checked) == 1 and _is_streamed(response):
                return BatchResult.alone(gathered(response.content))
            answer = self._transport.validated_json(schema.RUN, response, "POST", RUN_PATH)
            require_results(answer, len(checked))
            return BatchResult.of(answer)

    def prefab(self, prefab_id: str, version: str) -> Prefab:
        """One version of a prefab, to call its functions.

        Args:
            version: or ``latest``.

        Raises:
            InvalidInput: one of them is empty, or no text.
        """
        with translated():
            return Prefab(
                self, checked_text(prefab_id, "prefab_id"), checked_text(version, "version")
            )

    @translated()
    def list_prefabs(self, status: str | None = None) -> list[PrefabInfo]:
        """The newest version of each prefab. Ours.

        Args:
            status: only those: ``deployed`` or ``disabled``.

        Raises:
            InvalidInput: a status that is empty, or no text.
        """
        params = {} if status is None else {"status": checked_text(status, "status")}
        answer = self._transport.json(schema.PREFABS, "GET", "/v1/prefabs", params=params)
        return [PrefabInfo.of(entry) for entry in answer["prefabs"]]

    def get_prefab_spec(self, prefab_id: str, version: str | None = None) -> schema.Spec:
        """What a prefab can do: functions, their parameters as JSON Schema, files, secrets. Ours.

        Args:
            version: the newest, unless said.

        Raises:
            PrefabNotFoundError: there is none.
            InvalidInput: an id or a version that is empty, or no text.
        """
        with translated(prefab_id, version):
            wanted = "latest" if version is None else checked_text(version, "version")
            name = quote_path_segment(checked_text(prefab_id, "prefab_id"))
            path = f"/v1/prefabs/{name}/{quote_path_segment(wanted)}/spec"
            return self._transport.json(schema.SPEC, "GET", path)

    def _posted(self, body: Any) -> requests.Response:
        # Nothing comes before all of it is done: here silence is no sign of anything.
        timeout = (self._transport.timeout[0], self._run_seconds)
        return self._transport.request(
            "POST", RUN_PATH, json=body, headers=_JSON,
            timeout=timeout, deadline=self._run_seconds, body_limit=self._transport.json_limit,
        )  # fmt: skip

    def _result(self, response: requests.Response) -> PrefabResult:
        """The result of a run of one call."""
        if _is_streamed(response):
            return gathered(response.content)
        answer = self._transport.validated_json(schema.RUN, response, "POST", RUN_PATH)
        return one_result(answer)


def _is_streamed(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith(EVENTS)


class Prefab:
    """One version of a prefab, as :meth:`GatewayClient.prefab` returns it.

    Its functions are methods: ``llm.chat(messages=[…])`` is ``llm.call("chat", messages=[…])``.
    Functions that are named like an attribute of this class, or begin with an underscore, are
    called with ``call``.
    """

    def __init__(self, client: GatewayClient, prefab_id: str, version: str) -> None:
        self.prefab_id = prefab_id
        self.version = version
        self._client = client

    def __repr__(self) -> str:
        return f"Prefab({self.prefab_id!r}, {self.version!r})"

    def __getattr__(self, function_name: str) -> Callable[..., PrefabResult]:
        if function_name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {function_name!r}"
            )
        return partial(self.call, function_name)

    def call(
        self,
        function_name: str,
        /,
        files: Mapping[str, Sequence[str]] | None = None,
        **parameters: Any,
    ) -> PrefabResult:
        """Call a function; as :meth:`GatewayClient.run`, which also takes parameters that
        are called ``files``."""
        return self._client.run(self.prefab_id, self.version, function_name, parameters, files)

    def stream(
        self,
        function_name: str,
        /,
        files: Mapping[str, Sequence[str]] | None = None,
        **parameters: Any,
    ) -> PrefabStream:
        """Call a function and iterate over its events."""
        return self._client.run(
            self.prefab_id, self.version, function_name, parameters, files, stream=True
        )

    def spec(self) -> dict[str, Any]:
        """What it can do; as :meth:`GatewayClient.get_prefab_spec`."""
        return self._client.get_prefab_spec(self.prefab_id, self.version)
