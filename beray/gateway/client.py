"""HTTP client of a gateway: calls of prefab functions, and their input and output files.

Source: the Gateway wire page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack, overload

import requests

from beray.config import checked_token
from beray.exceptions import InvalidArgument
from beray.gateway import auth, schema
from beray.gateway.errors import gateway_errors, local_file_errors
from beray.gateway.file_arguments import (
    DAY_SECONDS,
    PAGE_SIZE,
    LocalPath,
    checked_session_id,
    one_path,
    temp_upload_arguments,
    ttl_seconds,
    whole_seconds,
)
from beray.gateway.file_results import FileListing, UploadResult
from beray.gateway.files import GatewayFiles
from beray.gateway.models import BatchResult, PrefabCall, PrefabInfo, PrefabResult
from beray.gateway.prefab import Prefab
from beray.gateway.presigned import EXPIRES_IN_SECONDS, presigned_url
from beray.gateway.runs import (
    EVENT_STREAM_TYPE,
    RUN_PATH,
    PrefabStream,
    RunEventSource,
    require_result_count,
    result_of_stream,
    single_result,
)
from beray.gateway.validation import (
    checked_call,
    checked_connection_options,
    checked_count,
    checked_number,
    checked_s3_url,
    checked_string,
    checked_timeouts,
    type_name,
)
from beray.http.auth import AuthProvider, bearer_auth
from beray.http.connection import CancelToken, shared_session
from beray.http.request import Timeout
from beray.http.response_body import MAX_JSON_BYTES, ResponseBody
from beray.http.retry import MAX_RETRIES
from beray.http.transport import (
    DEFAULT_DEADLINE,
    DEFAULT_TIMEOUT,
    BaseClient,
    Transport,
    quote_path_segment,
)
from beray.schema import MESSAGE, Message
from beray.transfers.transfer import Transfer

RUN_SECONDS = 1200.0
IDLE_SECONDS = 300.0
"""Maximum silence in a stream. BeRay's gateway sends keep-alive comments; others may not."""
_MAX_TIMEOUT_SECONDS = 1e6
_JSON_HEADERS = {"Accept": "application/json"}
_ZIP = {"Content-Type": "application/zip"}


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


class GatewayClient(BaseClient):
    """HTTP client of one gateway. It may be shared between threads.

    There are three kinds of credentials: an internal token; an API key, which the client exchanges
    for an internal token when one is first needed, and again when the token has expired; and an
    account's access token. Without credentials, the gateway decides by the client's address.
    Methods raise :class:`GatewayError`; errors of local files are also an ``OSError``.

    All clients share their connections, unless a client has its own ``session``. The shared
    session stores no credentials. Creating a client for each request of a service is therefore
    cheap.

    The positional arguments are those of the published versions: ``internal_token, base_url,
    timeout``, or ``base_url, api_key, jwt_token, timeout`` if the first is an ``http(s)://`` URL.
    Tokens may have the prefix ``Bearer ``.

    Args:
        internal_token: Internal token; by default ``X_INTERNAL_TOKEN`` of the environment. Also a
            property that can be set. After an API key was exchanged, it is the resulting token.
        base_url: URL of the gateway; by default that of ``BERAY_GATEWAY_URL``, ``BERAY_URL`` or
            ``http://localhost:8000``, in this order.
        timeout: Maximum duration of a run without a stream, in seconds. Also a property that can
            be set.
        api_key: API key (``sk-…``). It takes precedence over ``jwt_token``.
        jwt_token: Access token of an account.
        connection: Connect timeout and read timeout, in seconds.
        deadline: Maximum duration of any other call including its retries, in seconds. File
            transfers have no deadline; they fail if no data arrives.
        idle: Seconds without data after which a streamed run counts as interrupted.
        max_retries: Number of times that a request is repeated if repeating it has no additional
            effect. A run that may have been delivered is never repeated.
        session: Session for the requests to the gateway instead of the shared one. It is closed
            together with the client.
        verify: False disables the verification of certificates; a string is the path of a file
            with trusted certificates.
        cert: Client certificate: the path of one file, or the paths of certificate and key.
        proxies: URLs of proxies by scheme, as in requests; by default those of the environment.
        max_json_bytes: Maximum size of a response in memory, after decompression. Files are not
            kept in memory, and have no limit.

    Raises:
        GatewayConfigurationError: The URL is invalid, or a certificate file cannot be used.
        InvalidInput: A token is empty or contains characters that a header cannot contain;
            credentials contradict each other; or another argument is invalid.
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

    @gateway_errors()
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
        arguments = auth.parse_arguments(positional, named, timeout=RUN_SECONDS)
        url = auth.gateway_url(arguments.base_url)
        self.timeout = arguments.timeout
        self._idle_seconds = checked_number(idle, "idle", _MAX_TIMEOUT_SECONDS)
        timeouts = checked_timeouts(connection, "connection", _MAX_TIMEOUT_SECONDS)
        deadline = checked_number(deadline, "deadline", math.inf)
        max_retries = checked_count(max_retries, "max_retries", 0)
        verify, cert = checked_connection_options(session, verify, cert, proxies)

        def new_transport(credential: AuthProvider, retries: int) -> Transport:
            return Transport(
                url, prefix="", auth_provider=credential, session=session or shared_session(),
                timeout=timeouts, deadline=deadline, max_retries=retries,
                verify=verify, cert=cert, proxies=proxies, max_json_bytes=max_json_bytes,
            )  # fmt: skip

        credential: AuthProvider
        if arguments.api_key is not None:
            # The exchange is not retried by itself: the request that needs the token is.
            exchange = new_transport(AuthProvider(bearer_auth(checked_token(arguments.api_key))), 0)
            credential = auth.ApiKeyCredential(exchange)
        else:
            credential = auth.token_credential(arguments)
        self._transport = new_transport(credential, max_retries)
        self._files = GatewayFiles(self._transport)
        self._credential = credential
        self._has_own_session = session is not None

    @property
    def timeout(self) -> float:
        """Maximum duration of a run without a stream, in seconds."""
        return self._run_seconds

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        with gateway_errors():
            self._run_seconds = checked_number(seconds, "timeout", _MAX_TIMEOUT_SECONDS)

    @property
    def internal_token(self) -> str | None:
        """The internal token that authenticates requests.

        It is None without credentials, with a ``jwt_token``, and with an ``api_key`` that has not
        been exchanged yet (``from_api_key`` exchanges it immediately). Setting it replaces the
        credentials of the client.
        """
        credential = self._credential
        if isinstance(credential, auth.InternalTokenCredential | auth.ApiKeyCredential):
            return credential.token
        return None

    @internal_token.setter
    def internal_token(self, token: str | None) -> None:
        with gateway_errors():
            self._credential = auth.InternalTokenCredential(token)
            self._transport.set_auth_provider(self._credential)

    @classmethod
    def from_api_key(
        cls,
        api_key: str,
        base_url: str | None = None,
        timeout: float = RUN_SECONDS,
        **options: Unpack[GatewayOptions],
    ) -> Self:
        """Create a client and exchange its API key immediately.

        Args:
            api_key: API key (``sk-…``).
            base_url: URL of the gateway, as for the class.
            timeout: Maximum duration of a run without a stream, in seconds.
            options: Further keyword arguments of the class.

        Raises:
            AuthenticationError: The gateway rejected the key.
            InvalidInput: ``api_key`` is empty or None, or another argument is invalid.
            ServiceUnavailableError: The gateway is unavailable.
        """
        with gateway_errors():
            # Without this check, the client would use the token of the environment.
            if api_key is None or api_key == "":
                raise InvalidArgument("api_key is empty; pass an API key (sk-…)")
            client = cls(None, base_url, timeout, api_key=api_key, **options)
            client._credential.auth()
        return client

    def close(self) -> None:
        """Close the connections of the client's own ``session``; shared connections stay open."""
        if self._has_own_session:
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

    @gateway_errors()
    def run(
        self,
        prefab_id: str,
        version: str,
        function_name: str,
        parameters: Mapping[str, Any] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
        stream: bool = False,
    ) -> PrefabResult | PrefabStream:
        """Call a function of a prefab.

        If the function fails, this method returns a result with the status ``FAILED``.

        Args:
            prefab_id: ID of the prefab.
            version: Version of the prefab, or ``latest``.
            function_name: Name of the function.
            parameters: Arguments of the function; they must be valid JSON.
            files: Input files: for each key, a list of ``s3://`` URLs, such as
                ``upload_input_file`` returns.
            stream: Whether to return an iterator over :class:`StreamEvent` instead of waiting for
                the result. It ends after ``done`` or ``error``; a function that does not stream
                has only a ``start`` event before it.

        Returns:
            The result of the call, or with ``stream=True`` the iterator over its events.

        Raises:
            InvalidInput: The parameters are not valid JSON, or the files are not ``s3://`` URLs;
                the message contains the position of the invalid value. Nothing was sent.
            PrefabNotFoundError: The prefab, the version or the function does not exist.
            RejectedInput: The gateway rejected the parameters or files.
            MissingSecretError: The prefab needs a secret that the user has not set.
            QuotaExceededError: The quota is used up, or the rate limit is exceeded.
            AuthenticationError: The credentials are missing, expired or not sufficient.
            RunOutcomeUnknown: No response arrived; the run may have been processed.
            ServiceUnavailableError: The gateway is unavailable, or the connection failed.
        """
        call = PrefabCall(
            prefab_id, version, function_name, {} if parameters is None else parameters, files
        )
        body = {"calls": [checked_call(call)]}
        if not stream:
            with gateway_errors(prefab_id, version):
                return self._single_result(self._send_run(body))

        def open_stream(cancel: CancelToken) -> ResponseBody:
            return self._transport.open_stream(
                RUN_PATH, method="POST", json=body, cancel=cancel, idle=self._idle_seconds,
                headers={"Accept": EVENT_STREAM_TYPE, "Accept-Encoding": "identity"},
                deadline=self._run_seconds,
            )  # fmt: skip

        return PrefabStream(RunEventSource(open_stream, prefab_id, version))

    def run_batch(self, calls: Sequence[PrefabCall]) -> BatchResult:
        """Make several calls at once.

        A call that fails does not affect the others.

        Args:
            calls: The calls; at least one.

        Returns:
            The results, in the order of the calls. With several calls, BeRay's gateway returns a
            ``FAILED`` result for a call that cannot begin, for example because its prefab does
            not exist. With a single call, this method then raises, as ``run`` does.

        Raises:
            InvalidInput: ``calls`` is empty, or one of the calls is invalid. Nothing was sent.
            GatewayError: The gateway rejected the request, or the connection failed; see ``run``.
        """
        with gateway_errors():
            if not isinstance(calls, Iterable):
                raise InvalidArgument(f"calls must be a list of PrefabCall, not {type_name(calls)}")
            checked = [checked_call(call, f"calls[{index}]") for index, call in enumerate(calls)]
            if not checked:
                raise InvalidArgument("calls is empty; pass at least one PrefabCall")
            response = self._send_run({"calls": checked})
            if len(checked) == 1 and _is_event_stream(response):
                return BatchResult.from_result(result_of_stream(response.content))
            run = self._transport.validated_json(schema.RUN, response, "POST", RUN_PATH)
            require_result_count(run, len(checked))
            return BatchResult.from_response(run)

    def prefab(self, prefab_id: str, version: str) -> Prefab:
        """Return an object whose methods are the functions of a prefab.

        This method sends no request.

        Args:
            prefab_id: ID of the prefab.
            version: Version of the prefab, or ``latest``.

        Raises:
            InvalidInput: An argument is not a non-empty string.
        """
        with gateway_errors():
            return Prefab(
                checked_string(prefab_id, "prefab_id"),
                checked_string(version, "version"),
                run=self.run,
                get_spec=self.get_prefab_spec,
            )

    @gateway_errors()
    def list_prefabs(self, status: str | None = None) -> list[PrefabInfo]:
        """List the newest version of each prefab. BeRay extension.

        Args:
            status: Return only prefabs with this status: ``deployed`` or ``disabled``.

        Raises:
            InvalidInput: ``status`` is not a non-empty string.
        """
        params = {} if status is None else {"status": checked_string(status, "status")}
        response = self._transport.json(schema.PREFAB_LIST, "GET", "/v1/prefabs", params=params)
        return [PrefabInfo.from_entry(entry) for entry in response["prefabs"]]

    def get_prefab_spec(self, prefab_id: str, version: str | None = None) -> schema.PrefabSpec:
        """Return the description of a prefab. BeRay extension.

        Args:
            prefab_id: ID of the prefab.
            version: Version of the prefab; by default the newest.

        Returns:
            The functions with their parameters as JSON Schema and their files, and the secrets
            that the prefab needs.

        Raises:
            PrefabNotFoundError: The prefab or the version does not exist.
            InvalidInput: An argument is not a non-empty string.
        """
        with gateway_errors(prefab_id, version):
            requested = "latest" if version is None else checked_string(version, "version")
            name = quote_path_segment(checked_string(prefab_id, "prefab_id"))
            path = f"/v1/prefabs/{name}/{quote_path_segment(requested)}/spec"
            return self._transport.json(schema.PREFAB_SPEC, "GET", path)

    # Administration of prefabs, for signed-in users and not for their agents

    @gateway_errors()
    def add_prefab(self, archive: bytes) -> schema.PrefabSpec:
        """Add a prefab to the gateway. BeRay extension.

        Adding a version again with the same content changes nothing.

        Args:
            archive: ZIP archive of the prefab's directory, with ``prefab.toml`` at its root.

        Returns:
            The prefab's spec, as ``get_prefab_spec`` returns it.

        Raises:
            InvalidInput: ``archive`` is not ``bytes``.
            RejectedInput: The prefab is invalid; ``details["errors"]`` contains the reasons and
                their positions.
            RefusedError: 409, the version already exists with different content.
            AuthenticationError: The gateway's operator does not allow this user to add prefabs.
        """
        if not isinstance(archive, (bytes, bytearray)):
            raise InvalidArgument(f"archive must be bytes, not {type_name(archive)}")
        # Repeating the request has no additional effect: versions are immutable.
        return self._transport.json(
            schema.PREFAB_SPEC,
            "POST",
            "/v1/prefabs",
            data=bytes(archive),
            headers=_ZIP,
            idempotent=True,
        )

    @gateway_errors()
    def list_prefab_secrets(self, prefab_id: str) -> list[str]:
        """Return the names of the secrets that the user has set for a prefab. BeRay extension.

        Args:
            prefab_id: ID of the prefab.

        Raises:
            InvalidInput: ``prefab_id`` is not a non-empty string.
        """
        return self._transport.json(schema.SECRET_NAMES, "GET", _secrets_path(prefab_id))["secrets"]

    def set_prefab_secret(self, prefab_id: str, name: str, value: str) -> Message:
        """Set or replace the user's secret for a prefab. BeRay extension.

        The secret cannot be read back.

        Args:
            prefab_id: ID of the prefab.
            name: Name of the secret, as in the prefab's spec.
            value: Value of the secret; may be empty.

        Returns:
            The gateway's confirmation.

        Raises:
            InvalidInput: An argument is not a string, or an ID or name is empty.
            PrefabNotFoundError: The prefab does not exist.
            RejectedInput: The prefab has no secret with this name.
        """
        with gateway_errors(prefab_id):
            body = {"value": checked_string(value, "value", empty=True)}
            path = _secrets_path(prefab_id, name)
            return self._transport.json(MESSAGE, "PUT", path, json=body)

    @gateway_errors()
    def remove_prefab_secret(self, prefab_id: str, name: str) -> Message:
        """Remove the user's secret for a prefab. BeRay extension.

        Args:
            prefab_id: ID of the prefab.
            name: Name of the secret.

        Returns:
            The gateway's confirmation.

        Raises:
            InvalidInput: An argument is not a non-empty string.
            ObjectNotFoundError: The user has not set this secret.
        """
        return self._transport.json(MESSAGE, "DELETE", _secrets_path(prefab_id, name))

    # Files

    @gateway_errors()
    @local_file_errors()
    def upload_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload a permanent output of an agent.

        Args:
            file_path: Path of the local file.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file, a string that also has the keys of the response:
            ``result["s3_url"]``, ``result["filename"]``, ``result["size"]`` (bytes).

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
            UploadOutcomeUnknown: No response arrived; the file may have been stored.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
        """
        local_path = one_path(file_path, path)
        return self._files.upload("/internal/files/upload", local_path, content_type, {}, transfer)

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath = ...,
        ttl: float = DAY_SECONDS,
        session_id: str | None = None,
        *,
        ttl_hours: float | None = None,
        content_type: str | None = None,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        /,
        *,
        ttl: float = DAY_SECONDS,
        ttl_hours: float | None = None,
        session_id: str | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        ttl_hours: float | None,
        session_id: str | None = None,
        /,
        *,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @overload
    def upload_temp_file(
        self,
        file_path: LocalPath,
        content_type: str | None,
        session_id: str,
        /,
        *,
        ttl: float = DAY_SECONDS,
        ttl_hours: float | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult: ...

    @gateway_errors()
    @local_file_errors()
    def upload_temp_file(
        self,
        file_path: LocalPath | None = None,
        *positional: Any,
        ttl: float | None = None,
        ttl_hours: float | None = None,
        session_id: str | None = None,
        content_type: str | None = None,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload a temporary file of an agent.

        The two published forms are ``(file_path, ttl, session_id)`` and ``(file_path,
        content_type, ttl_hours, session_id)``. The types of the positional arguments determine
        which form is meant.

        Args:
            file_path: Path of the local file.
            positional: Further arguments of one of the two forms.
            ttl: Seconds after which the gateway removes the file; one day by default.
            ttl_hours: Time to live in hours, instead of ``ttl``.
            session_id: Session of the file; ``cleanup_temp_files`` removes all files of a session.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file with the keys of the response, as ``upload_file``.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid, for example if both ``ttl`` and ``ttl_hours``
                were passed; nothing was sent.
            UploadOutcomeUnknown: No response arrived; the file may have been stored.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
        """
        arguments = temp_upload_arguments(
            positional, ttl=ttl, ttl_hours=ttl_hours, session_id=session_id,
            content_type=content_type,
        )  # fmt: skip
        fields = {"ttl": str(ttl_seconds(arguments.ttl, arguments.ttl_hours))}
        if arguments.session_id is not None:
            fields["session_id"] = checked_session_id(arguments.session_id)
        local_path = one_path(file_path, path)
        return self._files.upload(
            "/internal/files/upload_temp", local_path, arguments.content_type, fields, transfer
        )

    @gateway_errors()
    @local_file_errors()
    def upload_input_file(
        self,
        file_path: LocalPath | None = None,
        content_type: str | None = None,
        *,
        path: LocalPath | None = None,
        transfer: Transfer | None = None,
    ) -> UploadResult:
        """Upload an input file of a prefab directly to the object store.

        This call does not require the credentials of an agent.

        Args:
            file_path: Path of the local file.
            content_type: Media type of the file; by default it is guessed from the file name.
            path: Alias of ``file_path``.
            transfer: Handle that reports progress and can cancel the upload.

        Returns:
            The ``s3://`` URL of the file, with the keys ``s3_url``, ``filename`` and ``size``
            (bytes).

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
            FileTransferError: The file was not transferred completely.
            FileTransferCancelled: ``transfer`` was cancelled.
            LocalFileError: The local file cannot be read. This exception is also an ``OSError``.
            ServiceUnavailableError: The gateway or its object store is unavailable.
        """
        return self._files.upload_input(one_path(file_path, path), content_type, transfer)

    @overload
    def download_file(self, s3_url: str, local_path: None = None) -> str: ...

    @overload
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath,
        mode: str = "presigned",
        *,
        overwrite: bool = True,
        transfer: Transfer | None = None,
    ) -> Path: ...

    @gateway_errors()
    @local_file_errors()
    def download_file(
        self,
        s3_url: str,
        local_path: LocalPath | None = None,
        mode: str = "presigned",
        *,
        overwrite: bool = True,
        transfer: Transfer | None = None,
    ) -> Path | str:
        """Download a file to ``local_path``, or return a presigned URL for it.

        The file appears under its name when it is complete, or not at all. Missing parent
        directories are created once the gateway has found the file. An interrupted download is
        resumed, also by a later call and with another presigned URL; see
        :func:`beray.transfers.transfer.download`.

        Args:
            s3_url: ``s3://`` URL of the file.
            local_path: Path of the target file; None requests a presigned URL.
            mode: ``presigned``, the only published mode.
            overwrite: Whether an existing target is replaced.
            transfer: Handle that reports progress and can cancel the download.

        Returns:
            The path of the target; or, without ``local_path``, a presigned URL that is valid for
            one hour.

        Raises:
            InvalidInput: An argument is invalid; nothing was sent.
            ObjectNotFoundError: The file does not exist.
            LocalFileExists: The target exists, and ``overwrite`` is False.
            LocalFileError: The target cannot be written. This exception is also an ``OSError``.
            FileTransferError: The file did not arrive completely; the received part is kept for
                the next call.
            FileTransferCancelled: ``transfer`` was cancelled; the received part was removed.
        """
        if mode != "presigned":
            raise InvalidArgument(f"mode must be 'presigned', got {mode!r}")
        if local_path is None:
            return presigned_url(self._transport, s3_url, EXPIRES_IN_SECONDS)
        return self._files.download(s3_url, local_path, transfer, overwrite=overwrite)

    @gateway_errors()
    def get_presigned_url(self, s3_url: str, expires_in: int = EXPIRES_IN_SECONDS) -> str:
        """Return a URL with which any client can fetch a file, without credentials.

        Args:
            s3_url: ``s3://`` URL of the file.
            expires_in: Validity of the URL, in seconds.

        Raises:
            InvalidInput: ``s3_url`` is not an ``s3://`` URL, or ``expires_in`` is less than one
                second; nothing was sent.
            ObjectNotFoundError: The file does not exist.
        """
        return presigned_url(self._transport, s3_url, whole_seconds(expires_in, "expires_in"))

    @gateway_errors()
    def list_files(
        self,
        limit: int | str = PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """List the agent's permanent files.

        Args:
            limit: Number of files of a page. A string is the ``prefix``.
            continuation_token: ``next_token`` of the previous page.
            prefix: Beginning of the keys after the agent's directory,
                ``agent-outputs/{user}/{agent}/``; it may include this directory.

        Returns:
            A page by its keys (``listing["files"]``, ``listing.get("next_token")``), and the URLs
            of this page and all following ones as a sequence (``for url in listing``,
            ``len(listing)``); see :class:`FileListing`.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
        """
        if isinstance(limit, str):
            if prefix is not None:
                raise InvalidArgument("prefix was passed twice")
            prefix = limit
        size = PAGE_SIZE if isinstance(limit, str) else limit
        return self._files.list("/internal/files/list", size, continuation_token, prefix, {})

    @overload
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int = PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing: ...

    @overload
    def list_temp_files(self, prefix: str | None, session_id: str, /) -> FileListing: ...

    @gateway_errors()
    def list_temp_files(
        self,
        session_id: str | None = None,
        limit: int | str = PAGE_SIZE,
        continuation_token: str | None = None,
        prefix: str | None = None,
    ) -> FileListing:
        """List the agent's temporary files.

        Args:
            session_id: Session of the files; None lists the files of all sessions.
            limit: Number of files of a page. A string is the session; the first argument is then
                the ``prefix``.
            continuation_token: ``next_token`` of the previous page.
            prefix: Beginning of the keys after the session's directory, or after the agent's
                directory if there is no session.

        Returns:
            A page and the URLs of all pages, as ``list_files``.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: An argument is invalid; nothing was sent.
        """
        size = PAGE_SIZE
        if not isinstance(limit, str):
            size = limit
        elif prefix is None:
            prefix, session_id = session_id, limit
        else:
            raise InvalidArgument("prefix was passed twice")
        query = {} if session_id is None else {"session_id": checked_session_id(session_id)}
        return self._files.list(
            "/internal/files/list_temp", size, continuation_token, prefix, query
        )

    @gateway_errors()
    def cleanup_temp_files(self, session_id: str | None = None) -> int:
        """Delete temporary files of the agent.

        Permanent files are not deleted.

        Args:
            session_id: Session of the files; None deletes the files of all sessions.

        Returns:
            The number of deleted files. If the response was lost and the client repeated the
            request, files that the first request deleted are not counted.

        Raises:
            AgentContextRequiredError: The credentials do not belong to an agent.
            InvalidInput: ``session_id`` is not a non-empty, printable string.
        """
        params = {} if session_id is None else {"session_id": checked_session_id(session_id)}
        return self._files.delete("/internal/files/cleanup_temp", params)

    @gateway_errors()
    def delete_file(self, s3_url: str) -> bool:
        """Delete a file. BeRay extension.

        Args:
            s3_url: ``s3://`` URL of the file.

        Returns:
            True if the file existed. If the response was lost and the client repeated the request,
            False, because the first request deleted the file.

        Raises:
            AuthenticationError: The file belongs to another agent.
            InvalidInput: ``s3_url`` is not an ``s3://`` URL.
        """
        params = {"s3_url": checked_s3_url(s3_url)}
        return self._files.delete("/internal/files", params) > 0

    # Runs

    def _send_run(self, body: Any) -> requests.Response:
        # The response begins after the run has ended, so the read timeout is that of the run.
        timeout = (self._transport.timeout[0], self._run_seconds)
        return self._transport.request(
            "POST", RUN_PATH, json=body, headers=_JSON_HEADERS,
            timeout=timeout, deadline=self._run_seconds, body_limit=self._transport.json_limit,
        )  # fmt: skip

    def _single_result(self, response: requests.Response) -> PrefabResult:
        """Return the result of a run of one call."""
        if _is_event_stream(response):
            return result_of_stream(response.content)
        return single_result(self._transport.validated_json(schema.RUN, response, "POST", RUN_PATH))


def _is_event_stream(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith(EVENT_STREAM_TYPE)


def _secrets_path(prefab_id: str, *names: str) -> str:
    """Return the URL path of a prefab's secrets, or of one of them."""
    path = f"/v1/prefabs/{quote_path_segment(checked_string(prefab_id, 'prefab_id'))}/secrets"
    return "/".join([path, *(quote_path_segment(checked_string(name, "name")) for name in names)])
