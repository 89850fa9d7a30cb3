"""``BeRayClient``, the client of the BeRay API, with one method for each endpoint.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypedDict, Unpack, overload

import requests

from beray import schema, waiting
from beray.account_schema import SignedInDevice
from beray.administration import ServerAdministration
from beray.api_keys import new_key_body
from beray.checkpoint_positions import origin_body
from beray.config import Profiles, resolve
from beray.exceptions import AuthenticationError, InvalidArgument, UnprocessableEntityError
from beray.history_schema import Checkpoint, Diff, RestoreResult
from beray.http.request import Timeout
from beray.http.response_body import MAX_JSON_BYTES, MAX_MEMORY_BYTES
from beray.http.retry import MAX_RETRIES
from beray.http.transport import (
    DEFAULT_DEADLINE,
    DEFAULT_TIMEOUT,
    BaseClient,
    Transport,
    quote_path_segment,
)
from beray.own_account import OwnAccount, try_password_forms
from beray.sanitize import normalized_password
from beray.schema import (
    API_PREFIX,
    ApiKey,
    CreatedApiKey,
    Deleted,
    FileItem,
    FilePage,
    Limits,
    Message,
    RunOptions,
    Session,
    Task,
    TaskEvent,
    TaskOrigin,
    UploadedFile,
    User,
)
from beray.streaming.streams import (
    IDLE_SECONDS,
    RECONNECT_SECONDS,
    StreamState,
    TaskStream,
    UpdateStream,
)
from beray.task_files import TaskFiles, request_body
from beray.transfers.download import download
from beray.transfers.local_names import on_wire
from beray.transfers.transfer import Transfer
from beray.workspace_history import TaskHistory

if TYPE_CHECKING:
    from beray.transfers.sync_folder import UploadedFolder


class ClientOptions(TypedDict, total=False):
    """Keyword arguments of ``BeRayClient`` other than the server and the token."""

    timeout: Timeout
    deadline: float
    max_retries: int
    session: requests.Session | None
    verify: bool | str | None
    cert: str | tuple[str, str] | None
    proxies: Mapping[str, str] | None
    max_json_bytes: int
    max_memory_bytes: int


class BeRayClient(BaseClient):
    """Client of one BeRay server. Thread-safe; also a context manager.

    ``from_env()`` and ``local()`` create a client without naming the server. Results are plain
    dictionaries, described in :mod:`beray.schema`.

    Paths of files are relative to the work_dir. They are accepted in the form in which listings and
    events contain them, where bytes that are not UTF-8 are escaped (see
    :mod:`beray.transfers.wire_names`), and in the form in which Python lists local files.

    The token may also be an API key (``sk-…``), which permits the operations of its scopes.

    Every method that sends a request raises ``APIError`` or a subclass for an error response,
    ``ConnectionFailed`` (or its subclass ``DeadlineExceeded``) if the server could not be reached,
    ``OutcomeUnknown`` if it may have processed a request that must not be repeated, and
    ``InvalidResponseError`` for a response that does not have the documented form. The methods
    list only the exceptions that have a specific meaning there.

    Args:
        base_url: URL of the server, without ``/api/v1``.
        token: Access token or API key, if there is one already.
        timeout: Seconds to connect, and seconds without a received byte while reading.
        deadline: Seconds for a request with all its retries. Uploads, downloads and streams have
            no deadline; only ``timeout`` ends them.
        max_retries: Maximum number of retries of a request for which they are safe.
        session: A ``requests.Session`` to use instead of a new one.
        verify: False to accept any certificate, or the path of trusted certificates.
        cert: Path of a client certificate with its key, or the paths of both.
        proxies: Proxy URLs by scheme, as for requests; ``None`` uses those of the environment.
        max_json_bytes: Maximum size of a JSON response, in bytes after decompression. A larger
            one raises ``ResponseTooLarge``.
        max_memory_bytes: The same for ``get_file_content`` and ``download_files_as_zip`` without
            ``stream=True``. ``download_file``, ``download_zip`` and ``download_dir`` write to disk
            and are not limited.

    Attributes:
        admin: Administration of the server's accounts, for administrators.

    Raises:
        ConfigurationError: ``base_url`` or a certificate file is invalid.
        InvalidArgument: ``token`` contains characters that a header cannot carry, or a size limit
            is not a positive integer.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        token: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_retries: int = MAX_RETRIES,
        session: requests.Session | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        max_json_bytes: int = MAX_JSON_BYTES,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self._transport = Transport(
            base_url,
            timeout=timeout,
            deadline=deadline,
            max_retries=max_retries,
            session=session,
            verify=verify,
            cert=cert,
            proxies=proxies,
            max_json_bytes=max_json_bytes,
            max_memory_bytes=max_memory_bytes,
        )
        self._transport.sign_in_advice = (
            "This client is not signed in: call login() or register(), or create it with "
            "token=…; for the beray command, run beray login or set BERAY_TOKEN."
        )
        self._session = self._transport.session
        self._files = TaskFiles(self._transport)
        self._history = TaskHistory(self._transport)
        self._own_account = OwnAccount(self._transport)
        self.admin = ServerAdministration(self._transport)
        if token is not None:
            self.set_token(token)

    @classmethod
    def from_env(cls, profile: str | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Return a client of the server that the ``beray`` command would use.

        The server is determined by the first of these that is set: ``profile``, ``BERAY_URL``,
        ``BERAY_PROFILE``, the current profile (``beray login``). If none is set, it is the user's
        embedded server, as for ``local()``. ``BERAY_TOKEN`` replaces the token of the profile,
        unless ``BERAY_URL`` is the URL of another server than that of ``profile``.

        Args:
            profile: Name of a profile; ``local`` is the embedded server.
            options: Keyword arguments of the class.

        Raises:
            ConfigurationError: The profile does not exist, or a URL or the profiles file is
                invalid.
            ServerStartError: The embedded server could not be started.
        """
        target = resolve(Profiles(), profile=profile)
        if target is None:
            return cls.local(**options)
        return cls(target.url, target.token, **options)

    @classmethod
    def local(cls, **options: Unpack[ClientOptions]) -> Self:
        """Return a client of the user's embedded server, which is started if necessary.

        The server needs no account, listens on loopback, is shared with the ``beray`` command and
        the dashboard, and stops after 15 idle minutes. Its data remains.

        Args:
            options: Keyword arguments of the class.

        Raises:
            ServerStartError: The server could not be started (see ``beray.local_server``), for
                example because the platform is Windows or the extra ``server`` is not installed.
        """
        from beray import local_server  # imports filelock

        target = local_server.ensure()
        return cls(target.url, target.token, **options)

    @property
    def api_base_url(self) -> str:
        """Base URL of all API paths: ``base_url`` followed by ``/api/v1``."""
        return f"{self.base_url}{API_PREFIX}"

    # Accounts

    @property
    def access_token(self) -> str | None:
        """Access token of later requests; ``None`` if there is none."""
        header = self._session.headers.get("Authorization")
        return None if header is None else str(header).removeprefix("Bearer ")

    def set_token(self, token: str | None) -> None:
        """Use an access token for all later requests.

        Args:
            token: The token; ``None`` removes it, without a request to the server.

        Raises:
            InvalidArgument: The token contains characters that a header cannot carry.
        """
        self._transport.set_token(token)

    def request_verification_code(self, email: str) -> Message:
        """Request a verification code by e-mail, with which an account can be registered.

        Args:
            email: Address of the new account.

        Returns:
            A confirmation.

        Raises:
            ConflictError: The address already has an account.
            RateLimitError: Too many codes were requested; ``retry_after`` is the time to wait.
            UnprocessableEntityError: The address is invalid.
        """
        body = {"email": email}
        # A person waits for the result, and decides whether to try again later.
        return self._transport.json(
            schema.MESSAGE,
            "POST",
            "/auth/request-verification-code",
            json=body,
            retry_error_responses=False,
        )

    def register(self, email: str, verification_code: str, password: str) -> Session:
        """Create an account and sign in to it.

        Args:
            email: Address of the account.
            verification_code: The code that was sent to the address.
            password: The password; it is sent in NFKC form.

        Returns:
            The session. Its access token is used for all later requests.

        Raises:
            ConflictError: The address already has an account.
            UnprocessableEntityError: The address, the code or the password is invalid.
            RateLimitError: There were too many wrong codes.
        """
        body = {
            "email": email,
            "verification_code": verification_code,
            "password": normalized_password(password),
        }
        return self._start_session("/auth/register", json=body)

    def create_first_administrator(self, setup_token: str, email: str, password: str) -> Session:
        """Create the first administrator of a server, and sign in to it. BeRay extension.

        Args:
            setup_token: Part after ``#`` of the link that ``beray serve`` prints.
            email: Address of the account.
            password: The password; it is sent in NFKC form.

        Returns:
            The session. Its access token is used for all later requests.

        Raises:
            AuthenticationError: The link is wrong or was used (403).
            ConflictError: The address already has an account, or the server an administrator.
            UnprocessableEntityError: The address or the password is invalid.
        """
        body = {"token": setup_token, "email": email, "password": normalized_password(password)}
        return self._start_session("/auth/setup", json=body)

    def login(self, email: str, password: str) -> Session:
        """Sign in.

        The password is sent in NFKC form. If the server rejects it, it is sent unchanged, for
        accounts whose password was set in another form.

        Args:
            email: Address of the account.
            password: The password.

        Returns:
            The session. Its access token is used for all later requests.

        Raises:
            AuthenticationError: The address or the password is wrong.
            RateLimitError: There were too many attempts; ``retry_after`` is the time to wait.
        """
        return try_password_forms(
            password,
            lambda form: self._start_session(
                "/auth/login", json={"email": email, "password": form}
            ),
        )

    @overload
    def login_with_form(self, username: str, password: str) -> Session: ...

    @overload
    def login_with_form(self, *, email: str, password: str) -> Session: ...

    def login_with_form(
        self, username: str | None = None, password: str | None = None, *, email: str | None = None
    ) -> Session:
        """Sign in with the OAuth2 password form (RFC 6749, 4.3); otherwise like ``login``.

        Args:
            username: Address of the account.
            password: The password.
            email: Alternative name of ``username``, used in the published documentation.

        Returns:
            The session. Its access token is used for all later requests.

        Raises:
            AuthenticationError: The address or the password is wrong.
            InvalidArgument: An argument is missing, or both ``username`` and ``email`` were passed.
        """
        if (username is None) == (email is None) or password is None:
            raise InvalidArgument(
                "login_with_form() requires a password and either username or email, which are "
                "two names of the same value"
            )
        name = email if username is None else username
        return try_password_forms(
            password,
            lambda form: self._start_session(
                "/auth/token", data={"username": name, "password": form}
            ),
        )

    def _start_session(self, path: str, **body: Any) -> Session:
        session = self._transport.json(
            schema.SESSION, "POST", path, retry_error_responses=False, **body
        )
        self.set_token(session["access_token"])
        return session

    def logout(self) -> Message:
        """End the session on the server and remove its token from this client.

        Returns:
            A confirmation.

        Raises:
            AuthenticationError: The session had already ended. The token is removed in any case.
        """
        try:
            message = self._transport.json(schema.MESSAGE, "POST", "/auth/logout")
        except AuthenticationError:
            self.set_token(None)
            raise
        self.set_token(None)
        return message

    def get_current_user(self) -> User:
        """Return the account that this client is signed in to.

        Raises:
            AuthenticationError: The client is not signed in, or the session has ended.
        """
        return self._transport.json(schema.USER, "GET", "/users/me")

    # The user's own account

    def request_password_reset(self, email: str) -> Message:
        """Request a code for a new password by e-mail. BeRay extension.

        The response does not reveal whether the address has an account.

        Args:
            email: Address of the account.

        Returns:
            A confirmation.

        Raises:
            RateLimitError: Too many codes were requested; ``retry_after`` is the time to wait.
            UnprocessableEntityError: The address is invalid.
        """
        return self._own_account.request_password_reset(email)

    def reset_password(self, email: str, verification_code: str, password: str) -> Session:
        """Set a new password with a mailed code, end all sessions, and sign in. BeRay extension.

        Args:
            email: Address of the account.
            verification_code: The code that was sent to the address.
            password: The new password; it is sent in NFKC form.

        Returns:
            The session. Its access token is used for all later requests.

        Raises:
            AuthenticationError: The account was changed by another request meanwhile (401).
            UnprocessableEntityError: The code is wrong or has expired, or the password is too
                short, common or derived from the address.
            RateLimitError: There were too many wrong codes.
        """
        body = {
            "email": email,
            "verification_code": verification_code,
            "password": normalized_password(password),
        }
        return self._start_session("/auth/reset-password", json=body)

    def change_password(self, password: str, new_password: str) -> Message:
        """Change the password, and end all other sessions of the account. BeRay extension.

        Passwords are sent in NFKC form, as by ``login``.

        Args:
            password: The current password.
            new_password: The new password.

        Returns:
            A confirmation.

        Raises:
            AuthenticationError: The current password is wrong (403).
            ConflictError: The password was changed by another request meanwhile.
            UnprocessableEntityError: The new password is too short, common, derived from the
                address, or the current one.
            RateLimitError: There were too many wrong passwords.
        """
        return self._own_account.change_password(password, new_password)

    def request_email_change(self, email: str, password: str) -> Message:
        """Request codes for a change of the address, at both addresses. BeRay extension.

        Args:
            email: The new address.
            password: The password, sent as by ``login``.

        Returns:
            A confirmation.

        Raises:
            AuthenticationError: The password is wrong, or the new address may not register (403).
            ConflictError: The new address already has an account.
            UnprocessableEntityError: The new address is invalid.
            RateLimitError: There were too many wrong passwords, or too many codes were requested.
        """
        return self._own_account.request_email_change(email, password)

    def change_email(self, email: str, current_code: str, new_code: str) -> User:
        """Change the address with the codes of ``request_email_change``. BeRay extension.

        Args:
            email: The new address.
            current_code: The code that was sent to the current address.
            new_code: The code that was sent to the new address.

        Returns:
            The account with its new address.

        Raises:
            ConflictError: The new address already has an account.
            UnprocessableEntityError: A code is wrong or has expired.
            RateLimitError: There were too many wrong codes.
        """
        return self._own_account.change_email(email, current_code, new_code)

    def list_sessions(self) -> list[SignedInDevice]:
        """Return the sessions of the account, most recently used first. BeRay extension."""
        return self._own_account.list_sessions()

    def revoke_session(self, session_id: str) -> Message:
        """End a session of the account and its active requests. BeRay extension.

        Args:
            session_id: ``id`` of the session. That of this client may be ended as well; its token
                is then invalid.

        Returns:
            A confirmation.

        Raises:
            NotFoundError: The session does not exist.
        """
        return self._own_account.revoke_session(session_id)

    def revoke_sessions(self, *, others: bool = False) -> Message:
        """End all sessions of the account and their active requests. BeRay extension.

        Args:
            others: Keep the session of this client. Otherwise its token is removed.

        Returns:
            A confirmation with the number of sessions.
        """
        message = self._own_account.revoke_sessions(others=others)
        if not others:
            self.set_token(None)
        return message

    def delete_account(self, password: str) -> Message:
        """Delete the account with its tasks, events, files and keys. BeRay extension.

        Running tasks are stopped. The token is removed from this client.

        Args:
            password: The password, sent as by ``login``.

        Returns:
            A confirmation, which states whether data is still being removed.

        Raises:
            AuthenticationError: The password is wrong (403).
            ConflictError: The account is the last administrator.
            RateLimitError: There were too many wrong passwords.
        """
        message = self._own_account.delete(password)
        self.set_token(None)
        return message

    def export_data(
        self,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        transfer: Transfer | None = None,
    ) -> Path:
        """Download a ZIP archive of all data of the account. BeRay extension.

        The archive has the properties of the account and, for each task and chat, its properties,
        events (JSON lines) and files. It appears at ``target`` only when it is complete.

        Args:
            target: Local path to write to.
            overwrite: Replace an existing file.
            transfer: Reports progress and cancels the download.

        Returns:
            The local path.

        Raises:
            FileExistsError: ``target`` exists and ``overwrite`` is False.
            IsADirectoryError: ``target`` is a directory.
            FileNotFoundError: The directory of ``target`` does not exist.
            TransferError: The archive could not be downloaded completely, for example because a
                file changed meanwhile.
            TransferCancelled: ``transfer`` was cancelled.
        """
        handle = transfer or Transfer()
        return download(
            lambda headers: self._own_account.export(
                headers=headers, stream=True, cancel=handle.cancel_token
            ),
            target,
            source=f"{self.base_url} account",
            overwrite=overwrite,
            repeatable=False,
            transfer=handle,
        )

    # Tasks

    def create_task(
        self,
        goal: str,
        tools: list[dict[str, Any]] | None = None,
        *,
        start: bool = True,
        runner: str | None = None,
        model: str | None = None,
        limits: Limits | None = None,
        tags: list[str] | None = None,
        from_task: TaskOrigin | None = None,
    ) -> Task:
        """Create a task. It runs as soon as the server has a free slot.

        ``start``, ``runner``, ``model``, ``limits``, ``tags`` and ``from_task`` are BeRay
        extensions; other servers ignore them, and their responses do not contain the corresponding
        keys (``from`` for ``from_task``).

        Args:
            goal: The goal in natural language, or a shell command after ``!``.
            tools: MCP servers, each an object with one key: ``{"name": {"url": "https://…"}}``, or
                ``{"name": {"server": "github"}}`` for one that the server's operator defined.
            start: False holds the task until ``start_task``, so that files can be uploaded to its
                work_dir first. A server that ignores this starts the task; its response has no
                ``held``.
            runner: ``shell``, ``model``, ``acp`` or ``command``; ``None`` lets the server choose.
            model: Name of the model, such as ``openai:gpt-4o``, if the server's operator allows a
                choice.
            limits: Limits of the task. At a limit, it ends as ``FAILED`` with reason ``budget``;
                its results are kept.
            tags: Strings that describe the task.
            from_task: Checkpoint of another task with which the task starts: its files and, if
                the runner supports it, its conversation. Such as ``{"task": 5, "seq": 17}`` or
                ``{"task": 5, "checkpoint": "c3"}``; only ``{"task": 5}`` for the newest one.

        Returns:
            The new task.

        Raises:
            InvalidArgument: ``tags`` is a string instead of a list, or ``from_task`` is invalid.
            NotFoundError: The task or the checkpoint of ``from_task`` does not exist.
            UnprocessableEntityError: The goal, runner, model, a tool or a limit is invalid.
            OutcomeUnknown: The connection broke, and the server may have created the task.
        """
        if isinstance(tags, str):
            raise InvalidArgument(f"tags must be a list of strings, got {tags!r}")
        body: dict[str, Any] = {"goal": goal, "tools": tools}
        if not start:
            body["start"] = False
        options = {"runner": runner, "model": model, "limits": limits, "tags": tags}
        body |= {name: value for name, value in options.items() if value is not None}
        if from_task is not None:
            body["from"] = origin_body(from_task)
        return self._transport.json(
            schema.TASK, "POST", "/tasks/", json=body, idempotency_key=os.urandom(16).hex()
        )

    def start_task(self, task_id: int | str) -> Task:
        """Start a task that was created with ``start=False``. BeRay extension.

        Args:
            task_id: Id of the task.

        Returns:
            The task.

        Raises:
            NotFoundError: The task does not exist.
            ConflictError: The task is not held.
        """
        return self._transport.json(schema.TASK, "POST", f"{_task_path(task_id)}/start")

    def list_tasks(self) -> list[Task]:
        """Return all tasks of the user, newest first.

        If the server returns them in pages (``Link`` header), all pages are requested.
        """
        tasks: list[Task] = []
        known: set[int] = set()
        for page in self._transport.pages(schema.TASKS, "/tasks/"):
            tasks += [task for task in page if task["id"] not in known]
            known.update(task["id"] for task in page)
        return tasks

    def get_task(self, task_id: int | str) -> Task:
        """Return a task with its ``events``.

        BeRay extension: of a large log, only the last part is returned. It starts at ``first_seq``
        and ``events_truncated`` is true; ``list_events`` returns the earlier events.

        Args:
            task_id: Id of the task.

        Raises:
            NotFoundError: The task does not exist.
        """
        return self._transport.json(schema.TASK, "GET", _task_path(task_id))

    def wait(
        self,
        task_id: int | str,
        timeout: float | None = None,
        *,
        until_input: bool = False,
        after: int | None = None,
    ) -> Task:
        """Wait until a task has ended, and return it with its ``events``.

        The end is read from the task's stream, which reconnects like ``stream_task_updates``.
        A task that waits for input, is paused or is held does not end by itself.

        Args:
            task_id: Id of the task.
            timeout: Seconds to wait; ``None`` waits without a limit.
            until_input: Also return if the task waits for input (``INPUT_REQUIRED``), like a chat
                after each of its answers.
            after: With ``until_input``, only return if the task began to wait after the event with
                this ``seq``. After ``chat = send_chat_message(…)``, pass
                ``after=chat["last_seq"]``, as the chat still waits for input until its answer
                begins.

        Returns:
            The task.

        Raises:
            WaitTimeout: The task did not end in time, and continues to run. It is also a
                ``TimeoutError``.
            StreamInterrupted: The server ended the stream, and the task continues to run.
            InvalidArgument: ``timeout`` is negative or not a number.
            NotFoundError: The task does not exist.
        """

        def get_task(seconds: float) -> Task:
            deadline = min(seconds, self._transport.deadline)
            return self._transport.json(schema.TASK, "GET", _task_path(task_id), deadline=deadline)

        return waiting.wait_for_task(
            task_id,
            get_task,
            lambda last_event_id: self.stream_task_updates(task_id, last_event_id=last_event_id),
            timeout=timeout,
            until_input=until_input,
            after=after,
        )

    def run(
        self,
        goal: str,
        *,
        timeout: float | None = None,
        check: bool = True,
        **options: Unpack[RunOptions],
    ) -> Task:
        """Create a task, wait until it has ended, and return it with its ``events``.

        If this is interrupted (Ctrl-C, an exception, the timeout), the task continues to run on
        the server; ``stop_task`` stops it.

        Args:
            goal: The goal, as for ``create_task``.
            timeout: Seconds to wait; ``None`` waits without a limit.
            check: False also returns tasks that ended without success.
            options: Keyword arguments of ``create_task`` except ``start``.

        Returns:
            The task.

        Raises:
            TaskFailed: The task ended as ``FAILED`` or ``STOPPED``; contains its last error.
            WaitTimeout: The task did not end in time; ``task_id`` is its id.
            InvalidArgument: An argument is invalid, or ``start`` was passed.
            UnprocessableEntityError: The server rejected the task.
        """
        if "start" in options:
            raise InvalidArgument("run() starts the task itself: use create_task(start=False)")
        created = self.create_task(goal, **options)
        task = self.wait(created["id"], timeout)
        error = waiting.task_failure(task) if check else None
        if error is not None:
            raise error
        return task

    def stop_task(self, task_id: int | str) -> Message:
        """Stop a task. The stream reports when it has stopped.

        Args:
            task_id: Id of the task.

        Returns:
            A confirmation, which the server sends immediately, also if the task has already ended.

        Raises:
            NotFoundError: The task does not exist.
        """
        return self._transport.json(schema.MESSAGE, "POST", f"{_task_path(task_id)}/stop")

    def delete_task(self, task_id: int | str) -> Deleted:
        """Delete a task, its events and its files. A running task is stopped first.

        Args:
            task_id: Id of the task.

        Returns:
            A confirmation.

        Raises:
            NotFoundError: The task does not exist.
        """
        return self._transport.json(schema.DELETED, "DELETE", _task_path(task_id))

    # Events

    def list_events(
        self, task_id: int | str, *, after: int = 0, limit: int = 500
    ) -> list[TaskEvent]:
        """Return the events of a task after a position. BeRay extension.

        Args:
            task_id: Id of the task.
            after: ``seq`` of the event before the first one to return.
            limit: Maximum number of events, from 1 to 5,000.

        Raises:
            NotFoundError: The task does not exist, or the server does not support this request.
            UnprocessableEntityError: ``after`` is negative, or ``limit`` is out of range.
        """
        query = {"after": after, "limit": limit}
        pages = self._transport.pages(schema.EVENTS, f"{_task_path(task_id)}/events", query)
        return [event for page in pages for event in page]

    def stream_task_updates(
        self,
        task_id: int | str,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> TaskStream:
        """Return an iterator over the events of a task, from the first one until it has ended.

        No request is sent before the first ``next()``, which also raises the exceptions of
        :class:`beray.TaskStream`.

        Args:
            task_id: Id of the task.
            last_event_id: Id of the event to start after, instead of the first event.
            reconnect: Seconds to continue after the first failure. An event, or a connection that
                stays healthy for 10 seconds, stops this clock.
            idle: Seconds of silence after which a connection counts as broken.
            on_state: Called in the iterating thread when ``state`` changes.

        Raises:
            InvalidArgument: ``task_id`` is "", "." or "..".
        """
        return TaskStream(
            self._transport,
            task_id,
            lambda: self.get_task(task_id),
            last_event_id=last_event_id,
            reconnect=reconnect,
            idle=idle,
            on_state=on_state,
        )

    def stream_all_updates(
        self,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> UpdateStream:
        """Return an iterator over the updates of all tasks of the user. BeRay extension.

        The first update is ``TASKS`` with all tasks. It is followed by status changes and, for
        running tasks, by their last lines; see :class:`beray.schema.TaskUpdate`. The stream does
        not end. No request is sent before the first ``next()``. Servers that do not support this
        stream respond with ``NotFoundError`` or ``UnprocessableEntityError``.

        Args:
            last_event_id: Id of the update to start after.
            reconnect: Seconds to continue after the first failure, as for ``stream_task_updates``.
            idle: Seconds of silence after which a connection counts as broken.
            on_state: Called in the iterating thread when ``state`` changes.
        """
        return UpdateStream(
            self._transport,
            last_event_id=last_event_id,
            reconnect=reconnect,
            idle=idle,
            on_state=on_state,
        )

    # Chats

    def open_chat(self, chat_id: str | int = 0) -> Task:
        """Return a chat as a task; create it if it does not exist. BeRay extension.

        Its files are those of the task, and its ``events`` are the messages of both sides.

        Args:
            chat_id: Name of the chat.

        Raises:
            UnprocessableEntityError: The name is invalid.
        """
        return self._transport.json(schema.TASK, "PUT", _chat_path(chat_id))

    def get_chat(self, chat_id: str | int = 0) -> Task:
        """Return an existing chat as a task. BeRay extension.

        Args:
            chat_id: Name of the chat.

        Raises:
            NotFoundError: The chat does not exist.
        """
        return self._transport.json(schema.TASK, "GET", _chat_path(chat_id))

    def send_chat_message(
        self, chat_id: str | int, text: str, attachments: list[str] | None = None
    ) -> Task:
        """Send a message to a chat; create the chat if it does not exist. BeRay extension.

        The answer arrives as events after the ``last_seq`` of the returned task:
        ``stream_task_updates(task["id"], last_event_id=str(task["last_seq"]))`` yields them, up to
        a ``TASK_STATUS`` of ``INPUT_REQUIRED``.

        Args:
            chat_id: Name of the chat.
            text: The message.
            attachments: Paths of files in the chat's work_dir.

        Returns:
            The chat as a task.

        Raises:
            ConflictError: The agent is still answering, or another client is using the chat.
            UnprocessableEntityError: ``text`` is empty, or an attachment does not exist.
        """
        body = {"text": text, "attachments": attachments or []}
        return self._transport.json(
            schema.TASK, "POST", f"{_chat_path(chat_id)}/messages", json=body
        )

    # History of the work_dir

    def list_checkpoints(self, task_id: int | str) -> list[Checkpoint]:
        """Return the checkpoints of a task, oldest first. BeRay extension.

        The server makes a checkpoint of the work_dir at the start, after each step that changed
        files, and at the end.

        Args:
            task_id: Id of the task.

        Raises:
            NotFoundError: The task does not exist, or the server does not support this request.
        """
        return self._history.checkpoints(task_id)

    def diff(
        self,
        task_id: int | str,
        *,
        from_: int | str | None = None,
        to: int | str | None = None,
        paths: Iterable[str] = (),
    ) -> Diff:
        """Return the differences between two states of a work_dir. BeRay extension.

        A position is the ``seq`` of an event, for the latest checkpoint at or before it, or the
        name of a checkpoint such as ``"c3"``.

        Args:
            task_id: Id of the task.
            from_: Position of the old state; ``None`` for the first checkpoint.
            to: Position of the new state; ``None`` for the newest checkpoint.
            paths: Files and directories to compare; empty for all.

        Raises:
            InvalidArgument: ``from_`` or ``to`` is not a position, or ``paths`` is a string instead
                of a list.
            NotFoundError: The task or a checkpoint does not exist.
            ConflictError: The server keeps no history.
        """
        return self._history.diff(task_id, from_, to, paths)

    def diff_text(
        self,
        task_id: int | str,
        *,
        from_: int | str | None = None,
        to: int | str | None = None,
        paths: Iterable[str] = (),
    ) -> bytes:
        """Return the differences between two states as a patch for ``git apply``. BeRay extension.

        Args:
            task_id: Id of the task.
            from_: Position of the old state, as for ``diff``.
            to: Position of the new state.
            paths: Files and directories to compare; empty for all.

        Raises:
            InvalidArgument: ``from_`` or ``to`` is not a position, or ``paths`` is a string instead
                of a list.
            NotFoundError: The task or a checkpoint does not exist.
            ConflictError: The server keeps no history.
            ResponseTooLarge: The patch is larger than ``max_memory_bytes``.
        """
        return self._history.diff_text(task_id, from_, to, paths)

    def restore(
        self,
        task_id: int | str,
        to: int | str,
        *,
        paths: Iterable[str] = (),
        dry_run: bool = False,
    ) -> RestoreResult:
        """Restore the work_dir, or some paths, to an earlier state. BeRay extension.

        The restored state becomes a new checkpoint, so that a restore can be undone by another one.

        Args:
            task_id: Id of the task.
            to: Position of the state, as for ``diff``.
            paths: Files and directories to restore; empty for all.
            dry_run: Return the changes without making them.

        Returns:
            The changed paths and the checkpoints.

        Raises:
            InvalidArgument: ``to`` is not a position, or ``paths`` is a string instead of a list.
            NotFoundError: The task or the checkpoint does not exist.
            ConflictError: The task is running, or the server keeps no history.
            OutcomeUnknown: The connection broke, and the server may have restored the files.
            APIError: The server's disk is full (507), or a stored content is damaged (500); nothing
                was changed.
        """
        return self._history.restore(task_id, to, paths, dry_run=dry_run)

    # Files: listings

    def list_files_tree(
        self,
        task_id: int | str,
        path: str = ".",
        *,
        depth: int | None = None,
        at: int | str | None = None,
    ) -> list[FileItem]:
        """Return all files and directories below a directory of the work_dir, sorted by path.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``depth`` is not positive, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or the directory does not exist.
        """
        if depth is None:
            # The published request first, because published servers support no other.
            try:
                return list(self._files.tree(task_id, path, page_entries=None, at=at))
            except UnprocessableEntityError:
                # Usually too many entries for one response; other errors occur again.
                return list(self._files.tree(task_id, path, at=at))
        return list(self._files.tree(task_id, path, depth=depth, at=at))

    def iter_files(
        self,
        task_id: int | str,
        path: str = ".",
        *,
        depth: int | None = None,
        at: int | str | None = None,
    ) -> Iterator[FileItem]:
        """Yield the entries of ``list_files_tree``, with only one page in memory at a time.

        Entries that exist during the whole iteration are neither repeated nor skipped, even if
        others are added or deleted meanwhile.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``depth`` is not positive, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or the directory does not exist; raised by the
                iteration.
        """
        return self._files.tree(task_id, path, depth=depth, at=at)

    def list_files_page(
        self,
        task_id: int | str,
        path: str = ".",
        *,
        depth: int | None = None,
        limit: int | None = None,
        after: str | None = None,
        at: int | str | None = None,
    ) -> FilePage:
        """Return one page of the entries of ``list_files_tree``.

        A server that does not support pages returns all entries, regardless of ``limit``.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            depth: Number of levels; 1 for the entries of the directory itself.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.
            limit: Maximum number of entries; the server may apply a lower one.
            after: ``after`` of the previous page; ``None`` for the first page.

        Raises:
            InvalidArgument: ``depth`` is not positive, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or the directory does not exist.
            UnprocessableEntityError: ``after`` is not a position, or ``limit`` is not positive.
        """
        return self._files.tree_page(task_id, path, depth=depth, limit=limit, after=after, at=at)

    # Files: contents in memory

    def get_file_content(
        self,
        task_id: int | str,
        path: str,
        *,
        stream: bool = False,
        at: int | str | None = None,
    ) -> requests.Response:
        """Return the response whose ``content`` is a file.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            stream: True leaves the body to be read, and closed, by the caller.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``at`` is not a position.
            NotFoundError: The task, the checkpoint or the file does not exist.
            ResponseTooLarge: The file is larger than ``max_memory_bytes``; not with ``stream``.
        """
        return self._files.content(task_id, path, at=at, stream=stream)

    def download_files_as_zip(
        self,
        task_id: int | str,
        paths: Iterable[str] | None = None,
        *,
        stream: bool = False,
        at: int | str | None = None,
    ) -> requests.Response:
        """Return the response whose ``content`` is a ZIP archive of files.

        Args:
            task_id: Id of the task.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            stream: True leaves the body to be read, and closed, by the caller.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``paths`` is a string instead of a list, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or a path does not exist.
            ResponseTooLarge: The archive is larger than ``max_memory_bytes``; not with ``stream``.
        """
        return self._files.archive(task_id, paths, at=at, stream=stream)

    def upload_file(
        self,
        task_id: int | str,
        path: str,
        content: str | bytes | BinaryIO,
        content_type: str | None = None,
        *,
        mode: int | None = None,
    ) -> UploadedFile:
        """Write a file to the work_dir, replacing an existing one.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            content: Bytes, a binary file, or a string, which is encoded as UTF-8.
            content_type: Media type; ``None`` derives it from the name.
            mode: Permission bits, such as ``0o755``. If omitted, a replaced file keeps its own.
                BeRay extension: other servers ignore it.

        Raises:
            InvalidArgument: ``content`` has another type, or is a file opened in text mode.
            NotFoundError: The task does not exist.
        """
        body = request_body(content)
        return self._files.put_content(
            task_id, path, body, Transfer(), content_type=content_type, mode=mode
        )

    def create_directory(
        self, task_id: int | str, path: str, mode: int | None = None
    ) -> UploadedFile:
        """Create a directory and its parents in the work_dir. BeRay extension.

        Args:
            task_id: Id of the task.
            path: Path of the directory.
            mode: Permission bits. If omitted, an existing directory keeps its own.

        Raises:
            NotFoundError: The task does not exist, or the server does not support this request.
            APIError: The server does not support this request (405).
        """
        return self._files.put_directory(task_id, path, mode)

    # Files: transfers to and from local files

    def download_file(
        self,
        task_id: int | str,
        path: str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        verify: bool = False,
        transfer: Transfer | None = None,
        at: int | str | None = None,
    ) -> Path:
        """Download a file to ``target``, where it appears only when it is complete.

        An interrupted download is resumed, also by a later call; see
        :func:`beray.transfers.download.download`.

        Args:
            task_id: Id of the task.
            path: Path of the file.
            target: Local path to write to.
            overwrite: Replace an existing file.
            verify: Check the SHA-256 of the file, which is requested from the server.
            transfer: Reports progress and cancels the download.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Returns:
            The local path.

        Raises:
            FileExistsError: ``target`` exists and ``overwrite`` is False.
            IsADirectoryError: ``target`` is a directory.
            FileNotFoundError: The directory of ``target`` does not exist.
            InvalidArgument: ``at`` is not a position.
            NotFoundError: The task, the checkpoint or the file does not exist.
            TransferError: The file could not be downloaded completely, or is not intact.
            TransferCancelled: ``transfer`` was cancelled.
        """
        handle = transfer or Transfer()
        return download(
            lambda headers: self._files.content(
                task_id, path, at=at, headers=headers, stream=True, cancel=handle.cancel_token
            ),
            target,
            source=f"{self.base_url} {task_id} {path}" + ("" if at is None else f" {at}"),
            overwrite=overwrite,
            verify=verify,
            transfer=handle,
        )

    def download_zip(
        self,
        task_id: int | str,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        transfer: Transfer | None = None,
        at: int | str | None = None,
    ) -> Path:
        """Download a ZIP archive of files to ``target``, where it appears when it is complete.

        Args:
            task_id: Id of the task.
            target: Local path to write to.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            overwrite: Replace an existing file.
            transfer: Reports progress and cancels the download.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Returns:
            The local path.

        Raises:
            FileExistsError: ``target`` exists and ``overwrite`` is False.
            InvalidArgument: ``paths`` is a string instead of a list, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or a path does not exist.
            TransferError: The archive could not be downloaded completely.
            TransferCancelled: ``transfer`` was cancelled.
        """
        handle = transfer or Transfer()
        return download(
            lambda headers: self._files.archive(
                task_id, paths, at=at, headers=headers, stream=True, cancel=handle.cancel_token
            ),
            target,
            source=f"{self.base_url} {task_id} zip",
            overwrite=overwrite,
            repeatable=False,
            transfer=handle,
        )

    def download_dir(
        self,
        task_id: int | str,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        max_bytes: int | None = None,
        transfer: Transfer | None = None,
        at: int | str | None = None,
    ) -> Path:
        """Download files into a local directory: all of them, or none.

        Args:
            task_id: Id of the task.
            target: Local directory, which is created if it does not exist.
            paths: Paths of files and directories; ``None`` for the whole work_dir.
            overwrite: Replace existing files.
            max_bytes: Maximum size of all files together, in bytes; 16 GiB by default.
            transfer: Reports progress and cancels the download.
            at: Position in the history: the ``seq`` of an event, or a checkpoint such as ``"c3"``;
                ``None`` for the current files. BeRay extension: other servers ignore it.

        Returns:
            The local directory.

        Raises:
            FileExistsError: Files exist in ``target`` and ``overwrite`` is False.
            NotADirectoryError: ``target`` is a file.
            InvalidArgument: ``paths`` is a string instead of a list, or ``at`` is not a position.
            NotFoundError: The task, the checkpoint or a path does not exist.
            TransferError: The download or the extraction failed; see
                :func:`beray.transfers.archive.extract_archive`.
            TransferCancelled: ``transfer`` was cancelled.
        """
        from beray.transfers import archive

        archive.check_target_directory(target)
        limit = archive.MAX_BYTES if max_bytes is None else max_bytes
        with tempfile.TemporaryDirectory(prefix="beray-") as directory:
            zip_path = Path(directory, "files.zip")
            self.download_zip(task_id, zip_path, paths, transfer=transfer, at=at)
            with zip_path.open("rb") as file:
                return archive.extract_archive(
                    file, target, overwrite=overwrite, max_bytes=limit, transfer=transfer
                )

    def upload_path(
        self,
        task_id: int | str,
        local: str | os.PathLike[str],
        path: str | None = None,
        *,
        transfer: Transfer | None = None,
    ) -> UploadedFile:
        """Upload a local file, with its permission bits, without reading it into memory.

        Args:
            task_id: Id of the task.
            local: Path of the local file.
            path: Path in the work_dir; ``None`` for the name of the local file.
            transfer: Reports progress and cancels the upload.

        Raises:
            OSError: The local file cannot be read.
            InvalidArgument: The local path is not a regular file.
            NotFoundError: The task does not exist.
            TransferError: The local file became shorter during the upload.
            TransferCancelled: ``transfer`` was cancelled.
        """
        name = path or on_wire(Path(local).name)
        return self._files.upload(task_id, local, name, transfer or Transfer())

    def upload_dir(
        self,
        task_id: int | str,
        folder: str | os.PathLike[str],
        path: str = ".",
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        transfer: Transfer | None = None,
    ) -> UploadedFolder:
        """Upload the new and changed files of a local directory, with their permission bits.

        Args:
            task_id: Id of the task.
            folder: Local directory.
            path: Path in the work_dir below which the files are put.
            include: Shell patterns of files to upload; ``None`` for all. A pattern with a ``/``
                matches the path below ``folder``, any other the name of a file or of a directory
                above it.
            exclude: Shell patterns of files to omit.
            transfer: Reports progress and cancels the upload.

        Returns:
            The paths that were uploaded, were unchanged, or were left out.

        Raises:
            NotADirectoryError: ``folder`` is not a directory.
            OSError: A local file or directory cannot be read.
            InvalidArgument: ``include`` or ``exclude`` is a string instead of a list, or ``path``
                is absolute or contains ``..``.
            NotFoundError: The task does not exist.
            TransferCancelled: ``transfer`` was cancelled.
        """
        from beray.transfers.sync_folder import upload_folder

        handle = transfer or Transfer()
        return upload_folder(
            self._files.work_dir(task_id, handle.cancel_token),
            folder,
            path,
            include=include,
            exclude=exclude,
            transfer=handle,
        )

    # API keys

    def create_api_key(
        self,
        name: str,
        agent_id: str | None = None,
        *,
        scopes: Iterable[str] | None = None,
        expires_in_seconds: float | None = None,
    ) -> CreatedApiKey:
        """Create an API key. BeRay extension.

        Args:
            name: Description of the key.
            agent_id: Id of the agent that uses the key, which then has files of its own: letters,
                digits, ``.``, ``_`` and ``-``.
            scopes: Operations that the key permits: ``tasks:read``, ``tasks:write``, ``files``,
                ``gateway``. ``None`` permits the gateway only.
            expires_in_seconds: Validity; ``None`` until the key is revoked.

        Returns:
            The key. ``key`` is returned only in this response.

        Raises:
            InvalidArgument: ``scopes`` is a string instead of a list.
            ConflictError: The user has the maximum number of keys.
            UnprocessableEntityError: An argument is invalid.
        """
        body = new_key_body(name, agent_id, scopes, expires_in_seconds)
        return self._transport.json(schema.CREATED_API_KEY, "POST", "/apikeys", json=body)

    def list_api_keys(self) -> list[ApiKey]:
        """Return the user's API keys, newest first. BeRay extension."""
        return self._transport.json(schema.API_KEYS, "GET", "/apikeys")

    def revoke_api_key(self, key_id: int | str) -> Message:
        """Revoke an API key and all internal tokens obtained with it. BeRay extension.

        Args:
            key_id: ``id`` of the key.

        Returns:
            A confirmation.

        Raises:
            NotFoundError: The key does not exist.
        """
        path = f"/apikeys/{quote_path_segment(key_id)}"
        return self._transport.json(schema.MESSAGE, "DELETE", path)


def _task_path(task_id: int | str) -> str:
    return f"/tasks/{quote_path_segment(task_id)}"


def _chat_path(chat_id: int | str) -> str:
    return f"/chats/{quote_path_segment(chat_id)}"
