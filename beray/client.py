"""``BeRayClient``: one method for each call of the BeRay API, and nothing else.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

import requests

from beray import files, schema
from beray.exceptions import AuthenticationError
from beray.schema import Deleted, FileItem, Message, Session, Task, UploadedFile, User
from beray.streaming import IDLE_SECONDS, RECONNECT_SECONDS, StreamState, TaskStream
from beray.transport import DEFAULT_TIMEOUT, Timeout, Transport, segment


class BeRayClient:
    """A client of one BeRay server.

    Results are plain dictionaries of the shapes in :mod:`beray.schema`. Every call
    raises ``APIError`` or a subclass where the server says no, ``ConnectionFailed``
    (``DeadlineExceeded`` among them) where it could not be reached, and
    ``InvalidResponseError`` where it answered with something undocumented.

    Args:
        base_url: the server, without ``/api/v1``.
        token: an access token, where there is one already.
        timeout: seconds to connect, and seconds without a byte while reading.
        session: a ``requests.Session`` of the caller's, with its proxies and certificates.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        token: str | None = None,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        session: requests.Session | None = None,
    ) -> None:
        self._transport = Transport(base_url, timeout=timeout, session=session)
        self._session = self._transport.session
        if token is not None:
            self.set_token(token)

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds credentials and connections: it cannot be pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client opens new ones if it is used again."""
        self._transport.close()

    # Accounts

    def set_token(self, token: str | None) -> None:
        """Use ``token`` for every later call; ``None`` signs out locally."""
        self._transport.set_token(token)

    def request_verification_code(self, email: str) -> Message:
        """Have a code mailed to ``email``. ``ConflictError`` where it is registered already."""
        body = {"email": email}
        return self._transport.json(
            schema.MESSAGE, "POST", "/auth/request-verification-code", json=body
        )

    def register(self, email: str, verification_code: str, password: str) -> Session:
        """Make an account and sign in to it."""
        body = {"email": email, "verification_code": verification_code, "password": password}
        return self._signed_in("/auth/register", json=body)

    def login(self, email: str, password: str) -> Session:
        """Sign in. ``AuthenticationError`` on a wrong pair."""
        return self._signed_in("/auth/login", json={"email": email, "password": password})

    def login_with_form(self, username: str, password: str) -> Session:
        """Sign in by the OAuth2 password form (RFC 6749, 4.3)."""
        return self._signed_in("/auth/token", data={"username": username, "password": password})

    def _signed_in(self, path: str, **body: Any) -> Session:
        session = self._transport.json(schema.SESSION, "POST", path, **body)
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
        self, goal: str, tools: list[dict[str, Any]] | None = None, *, start: bool = True
    ) -> Task:
        """Create a task; it runs as soon as the server has a free slot.

        Args:
            goal: what to do, in plain words; ``!`` before a shell command.
            tools: MCP servers, each an object with one key:
                ``{"name": {"url": "https://…"}}``.
            start: ``False`` holds the task until ``start_task``, so that files can be
                put into its work_dir first. Ours: a server that has never heard of
                it starts the task, and its answer then has no ``held``.
        """
        body: dict[str, Any] = {"goal": goal, "tools": tools}
        if not start:
            body["start"] = False
        return self._transport.json(schema.TASK, "POST", "/tasks/", json=body)

    def start_task(self, task_id: int) -> Task:
        """Let a task that was created with ``start=False`` run. Ours."""
        return self._transport.json(schema.TASK, "POST", f"/tasks/{segment(task_id)}/start")

    def list_tasks(self) -> list[Task]:
        """Return the caller's tasks, the newest first."""
        return self._transport.json(schema.TASKS, "GET", "/tasks/")

    def get_task(self, task_id: int) -> Task:
        """Return a task with its ``events``."""
        return self._transport.json(schema.TASK, "GET", f"/tasks/{segment(task_id)}")

    def stream_task_updates(
        self,
        task_id: int,
        *,
        last_event_id: str | None = None,
        reconnect: float = RECONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        on_state: Callable[[StreamState], None] | None = None,
    ) -> TaskStream:
        """Iterate over a task's events, from its first, until it has ended.

        Args:
            last_event_id: begin behind this event instead.
            reconnect: seconds to go on trying without a byte from the server.
            idle: seconds of silence that count as a broken connection.
            on_state: called in the iterating thread when ``state`` changes.

        Nothing is sent before the first ``next()``; see :class:`beray.streaming.TaskStream`.
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

    def stop_task(self, task_id: int) -> Message:
        """Stop a task. Answered at once; the stream says when it has stopped."""
        return self._transport.json(schema.MESSAGE, "POST", f"/tasks/{segment(task_id)}/stop")

    def delete_task(self, task_id: int) -> Deleted:
        """Delete a task, its events and its files; a running one is stopped first."""
        return self._transport.json(schema.DELETED, "DELETE", f"/tasks/{segment(task_id)}")

    # Files

    def list_files_tree(self, task_id: int, path: str = ".") -> list[FileItem]:
        """Return everything below a folder of the work_dir, sorted by path."""
        return self._transport.json(
            schema.FILE_ITEMS, "GET", self._files(task_id, "tree"), params={"path": path}
        )

    def get_file_content(
        self, task_id: int, path: str, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is the file.

        With ``stream`` the body is read as the caller asks for it.
        """
        return self._transport.request(
            "GET", self._files(task_id, "content"), params={"path": path}, stream=stream
        )

    def upload_file(
        self,
        task_id: int,
        path: str,
        content: str | bytes | BinaryIO,
        content_type: str | None = None,
    ) -> UploadedFile:
        """Put ``content`` (text becomes UTF-8) into the work_dir, replacing what was there."""
        body = content.encode() if isinstance(content, str) else content
        guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
        return self._transport.json(
            schema.UPLOADED_FILE,
            "PUT",
            self._files(task_id, "content"),
            params={"path": path},
            data=body,
            headers={"Content-Type": content_type or guessed},
        )

    def download_files_as_zip(
        self, task_id: int, paths: Iterable[str] | None = None, *, stream: bool = False
    ) -> requests.Response:
        """Return the response whose ``content`` is a ZIP of ``paths``, or of the whole work_dir."""
        return self._transport.request(
            "POST",
            self._files(task_id, "download"),
            json={"paths": list(paths or ())},
            stream=stream,
        )

    # Files to and from disk

    def download_file(
        self,
        task_id: int,
        path: str,
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download a file to ``target``: whole under that name, or not there."""
        files.refuse_existing(target, overwrite=overwrite)
        response = self.get_file_content(task_id, path, stream=True)
        return files.save(response, target, overwrite=overwrite, transfer=transfer)

    def download_zip(
        self,
        task_id: int,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download a ZIP of ``paths``, or of the whole work_dir, to ``target``."""
        files.refuse_existing(target, overwrite=overwrite)
        response = self.download_files_as_zip(task_id, paths, stream=True)
        return files.save(response, target, overwrite=overwrite, transfer=transfer)

    def upload_path(
        self,
        task_id: int,
        local: str | os.PathLike[str],
        path: str | None = None,
        *,
        transfer: files.Transfer | None = None,
    ) -> UploadedFile:
        """Upload a local file, streamed, to ``path`` (its own name, unless said)."""
        with open(local, "rb") as file:
            body = files.Upload(file, transfer or files.Transfer())
            return self.upload_file(task_id, path or Path(local).name, body)  # type: ignore[arg-type]

    @staticmethod
    def _files(task_id: int, what: str) -> str:
        return f"/tasks/{segment(task_id)}/files/{what}"
