"""``BeRayClient``: one method for each call of the BeRay API, and nothing else.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

import mimetypes
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self

import requests

from beray import digests, files, schema
from beray.exceptions import APIError, AuthenticationError
from beray.retries import RETRIES
from beray.schema import Deleted, FileItem, Message, Session, Task, UploadedFile, User
from beray.streaming import IDLE_SECONDS, RECONNECT_SECONDS, StreamState, TaskStream
from beray.transport import DEFAULT_DEADLINE, DEFAULT_TIMEOUT, Timeout, Transport, segment

if TYPE_CHECKING:
    from beray.folders import UploadedFolder


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
        deadline: seconds that a call may take in all, its retries included; streams and
            transfers have deadlines of their own.
        max_retries: how often a call is made again where that is harmless.
        session: a ``requests.Session`` of the caller's own.
        verify: ``False``, or the path of a file of certificates to trust.
        cert: a client certificate: one file, or the pair of certificate and key.
        proxies: by scheme, as for requests; otherwise the environment says.
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
        )
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
        # A person waits for this: where the server asks to come back later, they decide.
        return self._transport.json(
            schema.MESSAGE, "POST", "/auth/request-verification-code", json=body, patient=False
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
        return self._transport.json(
            schema.TASK, "POST", "/tasks/", json=body, idempotency_key=os.urandom(16).hex()
        )

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
        return self._content(task_id, path, stream=stream)

    def upload_file(
        self,
        task_id: int,
        path: str,
        content: str | bytes | BinaryIO | files.Upload,
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
        verify: bool = False,
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download a file to ``target``: whole under that name, or not there.

        What a cut leaves is taken up again, also by a later call; see
        :func:`beray.files.download`.
        """
        return files.download(
            lambda headers: self._content(task_id, path, headers=headers, stream=True),
            target,
            source=f"{self.base_url} {task_id} {path}",
            overwrite=overwrite,
            verify=verify,
            transfer=transfer,
        )

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
        return files.download(
            lambda _: self.download_files_as_zip(task_id, paths, stream=True),
            target,
            source=f"{self.base_url} {task_id} zip",
            overwrite=overwrite,
            repeatable=False,
            transfer=transfer,
        )

    def download_dir(
        self,
        task_id: int,
        target: str | os.PathLike[str],
        paths: Iterable[str] | None = None,
        *,
        overwrite: bool = False,
        max_bytes: int | None = None,
        transfer: files.Transfer | None = None,
    ) -> Path:
        """Download ``paths``, or the whole work_dir, into a local folder: all or nothing.

        Args:
            max_bytes: how much it may unpack to; see :func:`beray.unpack.unpack`.
        """
        from beray import unpack

        limit = unpack.MAX_BYTES if max_bytes is None else max_bytes
        with tempfile.TemporaryDirectory(prefix="beray-") as folder:
            archive = Path(folder, "files.zip")
            self.download_zip(task_id, archive, paths, transfer=transfer)
            with archive.open("rb") as file:
                return unpack.unpack(
                    file, target, overwrite=overwrite, max_bytes=limit, transfer=transfer
                )

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
            return self.upload_file(task_id, path or Path(local).name, body)

    def upload_dir(
        self,
        task_id: int,
        folder: str | os.PathLike[str],
        path: str = ".",
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        transfer: files.Transfer | None = None,
    ) -> UploadedFolder:
        """Upload what is new or different in a local folder; see :func:`beray.folders.upload`."""
        from beray import folders

        work_dir = _WorkDir(self, task_id)
        return folders.upload(
            work_dir, folder, path, include=include, exclude=exclude, transfer=transfer
        )

    def _content(self, task_id: int, path: str, **options: Any) -> requests.Response:
        params = {"path": path}
        call = self._files(task_id, "content")
        return self._transport.request("GET", call, params=params, **options)

    @staticmethod
    def _files(task_id: int, what: str) -> str:
        return f"/tasks/{segment(task_id)}/files/{what}"


@dataclass(frozen=True)
class _WorkDir:
    """The files of one task, as an upload of a folder needs them."""

    client: BeRayClient
    task_id: int

    def tree(self, path: str) -> list[FileItem]:
        return self.client.list_files_tree(self.task_id, path)

    def sha256(self, path: str) -> bytes | None:
        """Asked for by a range of one byte, so that not the file comes but its headers."""
        headers = digests.WANTED | {"Range": "bytes=0-0"}
        try:
            with self.client._content(self.task_id, path, headers=headers, stream=True) as response:
                return digests.sha256_of(response.headers)
        except APIError as error:
            if error.status_code == 416:
                return None
            raise

    def upload(self, local: Path, path: str, transfer: files.Transfer) -> UploadedFile:
        return self.client.upload_path(self.task_id, local, path, transfer=transfer)
