"""``BeRayClient``: one method for each call of the BeRay API, and nothing else.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self, TypedDict, Unpack, overload

import requests

from beray import schema, waiting
from beray.api_keys import ApiKeys
from beray.base_client import BaseClient
from beray.config import Profiles, resolve
from beray.exceptions import AuthenticationError, InvalidArgument, UnprocessableEntityError
from beray.http.calls import MAX_JSON_BYTES, MAX_MEMORY_BYTES, Timeout
from beray.http.retry import RETRIES
from beray.http.transport import API_PREFIX, DEFAULT_DEADLINE, DEFAULT_TIMEOUT, Transport, segment
from beray.sanitize import normalized_password
from beray.schema import (
    Deleted,
    Limits,
    Message,
    RunOptions,
    Session,
    Task,
    TaskEvent,
    User,
)
from beray.streaming.streams import (
    IDLE_SECONDS,
    RECONNECT_SECONDS,
    StreamState,
    TaskStream,
    UpdateStream,
)
from beray.task_files import TaskFiles


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


class BeRayClient(TaskFiles, ApiKeys, BaseClient):
    """A client of one BeRay server. ``from_env()`` and ``local()`` find the server themselves.

    Results are plain dictionaries of the shapes in :mod:`beray.schema`. Every call
    raises ``APIError`` or a subclass where the server says no, ``ConnectionFailed``
    (``DeadlineExceeded`` among them) where it could not be reached, and
    ``InvalidResponseError`` where it answered with something undocumented.

    Args:
        base_url: the server, without ``/api/v1``.
        token: an access token, where there is one already.
        timeout: seconds to connect, and seconds without a byte while reading.
        deadline: seconds that a call may take in all, its retries included. What moves
            files and events takes as long as it has to; silence ends it.
        max_retries: how often a call is made again where that is harmless.
        session: a ``requests.Session`` of the caller's own.
        verify: ``False``, or the path of a file of certificates to trust.
        cert: a client certificate: one file, or the pair of certificate and key.
        proxies: by scheme, as for requests; otherwise the environment says.
        max_json_bytes: size of the largest JSON answer, after decompression. A larger one raises
            ``ResponseTooLarge``.
        max_memory_bytes: the same for ``get_file_content`` and ``download_files_as_zip`` without
            ``stream=True``. ``download_file``, ``download_zip`` and ``download_dir`` write to disk
            and are not limited.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        token: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_retries: int = RETRIES,
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
        if token is not None:
            self.set_token(token)

    @classmethod
    def from_env(cls, profile: str | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Return a client of the server that the ``beray`` command would use.

        The first of these that is set names it: ``profile``, ``BERAY_URL``, ``BERAY_PROFILE``,
        the current profile (``beray login``). Without any of them it is the user's embedded
        server, as for ``local()``. ``BERAY_TOKEN`` replaces the token of the profile, except
        if ``BERAY_URL`` names another server than ``profile``.

        Args:
            profile: Name of a profile; ``local`` is the embedded server.
            options: As for the class.

        Raises:
            ConfigurationError: There is no such profile, or a URL or the file of profiles is
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

        It needs no account, listens on loopback, is shared with the ``beray`` command and the
        dashboard, and stops after 15 idle minutes. Its data remains.

        Args:
            options: As for the class.

        Raises:
            ServerStartError: It could not be started (``beray.local_server``), such as on Windows
                or without the extra ``server``.
        """
        from beray import local_server  # imports filelock

        target = local_server.ensure()
        return cls(target.url, target.token, **options)

    @property
    def api_base_url(self) -> str:
        """The URL that all paths of the API follow: ``base_url`` and ``/api/v1``."""
        return f"{self.base_url}{API_PREFIX}"

    # Accounts

    def set_token(self, token: str | None) -> None:
        """Use ``token`` for every later call; ``None`` signs out locally."""
        self._transport.set_token(token)

    def request_verification_code(self, email: str) -> Message:
        """Have a code mailed to ``email``. ``ConflictError`` where it is registered already."""
        body = {"email": email}
        # A person waits for this: where the server asks to come back later, they decide.
        return self._transport.json(
            schema.MESSAGE, "POST", "/auth/request-verification-code", json=body, patient=False
        )

    def register(self, email: str, verification_code: str, password: str) -> Session:
        """Create an account and sign in to it. The password is sent in NFKC form."""
        body = {
            "email": email,
            "verification_code": verification_code,
            "password": normalized_password(password),
        }
        return self._signed_in("/auth/register", json=body)

    def login(self, email: str, password: str) -> Session:
        """Sign in.

        The password is sent in NFKC form; if the server rejects that, once more as given, for
        accounts whose password was set in another form.

        Raises:
            AuthenticationError: the address or the password is wrong.
        """
        return self._sign_in(
            password,
            lambda form: self._signed_in("/auth/login", json={"email": email, "password": form}),
        )

    @overload
    def login_with_form(self, username: str, password: str) -> Session: ...

    @overload
    def login_with_form(self, *, email: str, password: str) -> Session: ...

    def login_with_form(
        self, username: str | None = None, password: str | None = None, *, email: str | None = None
    ) -> Session:
        """Sign in by the OAuth2 password form (RFC 6749, 4.3); otherwise as ``login``.

        Args:
            username: The e-mail address of the account.
            email: Another name of ``username``, as in the published documentation.

        Raises:
            AuthenticationError: The address or the password is wrong.
            InvalidArgument: An argument is missing, or both names of one were passed.
        """
        if (username is None) == (email is None) or password is None:
            raise InvalidArgument(
                "login_with_form() needs a password and either username or email, which are two "
                "names of the same value"
            )
        name = email if username is None else username
        return self._sign_in(
            password,
            lambda form: self._signed_in("/auth/token", data={"username": name, "password": form}),
        )

    @staticmethod
    def _sign_in(password: str, sign_in: Callable[[str], Session]) -> Session:
        normalized = normalized_password(password)
        try:
            return sign_in(normalized)
        except (AuthenticationError, UnprocessableEntityError):
            if normalized == password:
                raise
        return sign_in(password)

    def _signed_in(self, path: str, **body: Any) -> Session:
        session = self._transport.json(schema.SESSION, "POST", path, patient=False, **body)
        self.set_token(session["access_token"])
        return session

    def logout(self) -> Message:
        """End the session on the server and forget its token."""
        try:
            answer = self._transport.json(schema.MESSAGE, "POST", "/auth/logout")
        except AuthenticationError:
            self.set_token(None)
            raise
        self.set_token(None)
        return answer

    def get_current_user(self) -> User:
        return self._transport.json(schema.USER, "GET", "/users/me")

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
    ) -> Task:
        """Create a task; it runs as soon as the server has a free slot.

        Args:
            goal: what to do, in plain words; ``!`` before a shell command.
            tools: MCP servers, each an object with one key:
                ``{"name": {"url": "https://…"}}``, or ``{"name": {"server": "github"}}`` for
                one that the server's operator defines.
            start: ``False`` holds the task until ``start_task``, so that files can be
                put into its work_dir first. Ours: a server that has never heard of
                it starts the task, and its answer then has no ``held``.
            runner: who does it: ``shell``, ``model``, ``acp`` or ``command``; ``None``: whom
                the server chooses. This and what follows is ours, too: a server that has
                never heard of it has no ``runner`` in its answer.
            model: such as ``openai:gpt-4o``, where the server's owner allows a choice.
            limits: what it may take at most; at a limit it ends as ``FAILED`` with reason
                ``budget``, and what it has done stays.
            tags: list of strings that describe the task.

        Raises:
            UnprocessableEntityError: the server has no such runner or model, or a limit is
                none.
        """
        if isinstance(tags, str):
            raise InvalidArgument(f"tags must be a list of strings, got {tags!r}")
        body: dict[str, Any] = {"goal": goal, "tools": tools}
        if not start:
            body["start"] = False
        asked = {"runner": runner, "model": model, "limits": limits, "tags": tags}
        body |= {name: value for name, value in asked.items() if value is not None}
        return self._transport.json(
            schema.TASK, "POST", "/tasks/", json=body, idempotency_key=os.urandom(16).hex()
        )

    def start_task(self, task_id: int | str) -> Task:
        """Let a task that was created with ``start=False`` run. Ours."""
        return self._transport.json(schema.TASK, "POST", f"/tasks/{segment(task_id)}/start")

    def open_chat(self, chat_id: str | int = 0) -> Task:
        """Return the chat of this name as the task that it is; a new one where there is none.

        Its files are had as any task's, its ``events`` are what both sides have said. Ours.
        """
        return self._transport.json(schema.TASK, "PUT", f"/chats/{segment(chat_id)}")

    def get_chat(self, chat_id: str | int = 0) -> Task:
        """Return the chat of this name as the task that it is. Ours.

        Raises:
            NotFoundError: there is none.
        """
        return self._transport.json(schema.TASK, "GET", f"/chats/{segment(chat_id)}")

    def send_chat_message(
        self, chat_id: str | int, text: str, attachments: list[str] | None = None
    ) -> Task:
        """Say something in a chat, which is made where there is none of this name. Ours.

        The answer comes as events behind the ``last_seq`` of the task that is returned:
        ``stream_task_updates(task["id"], last_event_id=str(task["last_seq"]))``, up to a
        ``TASK_STATUS`` of ``INPUT_REQUIRED``.

        Args:
            attachments: paths of files in the chat's work_dir.

        Raises:
            ConflictError: an answer is under way, or another client has the chat.
            UnprocessableEntityError: there is no text, or no such file.
        """
        body = {"text": text, "attachments": attachments or []}
        return self._transport.json(
            schema.TASK, "POST", f"/chats/{segment(chat_id)}/messages", json=body
        )

    def list_tasks(self) -> list[Task]:
        """Return all tasks of the caller, newest first.

        A server that gives them in pages (``Link``) is asked for all pages.
        """
        tasks: list[Task] = []
        known: set[int] = set()
        for page in self._transport.pages(schema.TASKS, "/tasks/"):
            tasks += [task for task in page if task["id"] not in known]
            known.update(task["id"] for task in page)
        return tasks

    def get_task(self, task_id: int | str) -> Task:
        """Return a task with its ``events``.

        BeRay extension: a large log is returned from ``first_seq`` on, and
        ``events_truncated`` is true; ``list_events`` returns the earlier events.
        """
        return self._transport.json(schema.TASK, "GET", f"/tasks/{segment(task_id)}")

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
            timeout: seconds to wait; ``None`` waits without a limit.
            until_input: also return if the task waits for input (``INPUT_REQUIRED``), such as a
                chat after each of its answers.
            after: with ``until_input``, only if it began to wait after the event with this
                ``seq``. After ``chat = send_chat_message(…)`` pass ``after=chat["last_seq"]``, as
                the chat still waits for input until its answer begins.

        Raises:
            WaitTimeout: it did not end in time, and continues to run. Also a ``TimeoutError``.
            StreamInterrupted: the server ended the stream, and the task continues to run.
            ConnectionFailed, APIError: as for ``stream_task_updates``.
        """

        def get_task(seconds: float) -> Task:
            path = f"/tasks/{segment(task_id)}"
            deadline = min(seconds, self._transport.deadline)
            return self._transport.json(schema.TASK, "GET", path, deadline=deadline)

        return waiting.wait(
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
            timeout: seconds to wait; ``None`` waits without a limit.
            check: ``False`` also returns tasks that ended without success.
            options: as for ``create_task``, except ``start``.

        Raises:
            TaskFailed: the task ended as ``FAILED`` or ``STOPPED``; with its last error.
            WaitTimeout: it did not end in time; ``task_id`` is the id of the task.
        """
        if "start" in options:
            raise InvalidArgument("run() starts the task itself: use create_task(start=False)")
        created = self.create_task(goal, **options)
        task = self.wait(created["id"], timeout)
        failure = waiting.failure(task) if check else None
        if failure is not None:
            raise failure
        return task

    def list_events(
        self, task_id: int | str, *, after: int = 0, limit: int = 500
    ) -> list[TaskEvent]:
        """Return the events after the ``seq`` ``after``, as many as there are up to ``limit``.

        BeRay extension: another server answers ``NotFoundError``.

        Args:
            limit: at most 5,000.
        """
        path = f"/tasks/{segment(task_id)}/events"
        query = {"after": after, "limit": limit}
        pages = self._transport.pages(schema.EVENTS, path, query)
        return [event for page in pages for event in page]

    def stream_all_updates(
        self,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> UpdateStream:
        """Iterate over what happens to all of the caller's tasks, without an end. Ours.

        First comes a ``TASKS`` with all of them, then each change of a status and, as they
        run, their last lines; :class:`beray.schema.TaskUpdate` has the shapes. A server
        that has never heard of it answers with ``NotFoundError`` or
        ``UnprocessableEntityError``.

        Args:
            as for ``stream_task_updates``.
        """
        return UpdateStream(
            self._transport,
            last_event_id=last_event_id,
            reconnect=reconnect,
            idle=idle,
            on_state=on_state,
        )

    def stream_task_updates(
        self,
        task_id: int | str,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> TaskStream:
        """Iterate over a task's events, from its first, until it has ended.

        Args:
            last_event_id: begin behind this event instead.
            reconnect: seconds to go on after the first failure. An event, or a connection that
                stays healthy for 10 seconds, stops this clock.
            idle: seconds of silence that count as a broken connection.
            on_state: called in the iterating thread when ``state`` changes.

        Nothing is sent before the first ``next()``; see :class:`beray.TaskStream`.
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

    def stop_task(self, task_id: int | str) -> Message:
        """Stop a task. Answered at once; the stream says when it has stopped."""
        return self._transport.json(schema.MESSAGE, "POST", f"/tasks/{segment(task_id)}/stop")

    def delete_task(self, task_id: int | str) -> Deleted:
        """Delete a task, its events and its files; a running one is stopped first."""
        return self._transport.json(schema.DELETED, "DELETE", f"/tasks/{segment(task_id)}")
