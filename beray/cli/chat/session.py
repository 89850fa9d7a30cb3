"""Interactive chat at a terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from beray.cli import output, uploads
from beray.cli.chat import answer
from beray.cli.chat.prompt import ChatPrompt
from beray.cli.context import ServerConnection
from beray.cli.errors import DONE, INTERRUPTED, error_text, os_error_text
from beray.cli.progress import progress_bars
from beray.cli.render import TextView
from beray.client import BeRayClient
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConfigurationError,
    ConnectionFailed,
)
from beray.schema import MAX_ATTACHMENTS, TaskEvent, from_workspace, size_text
from beray.transfers.local_names import local_path

HELP: Final = """\
/files              list the files of the chat
/get PATH [LOCAL]   download a file; /get 1: the first file that the agent sent;
                    /get or Ctrl-T: the newest file that is not downloaded yet
/attach LOCAL...    attach files or directories to the next message
/unfold             show the last answer again, with thoughts and tool output
/history            show all messages and answers
/stop               stop a running answer (or press Ctrl-C while it is shown)
/quit               leave the chat (or press Ctrl-D)
! starts a shell command; // starts a message with a slash"""

_PAGE: Final = 500
T = TypeVar("T")


class ChatSession:
    """Interactive session in one chat.

    Args:
        server: Connection to the server.
        name: Name of the chat, which is created if it does not exist.
        attachments: Files to attach to the first message.
    """

    def __init__(
        self, server: ServerConnection, name: str, attachments: uploads.UploadPlan
    ) -> None:
        self._server = server
        self._name = name
        self._sent: list[str] = []
        """Files that the agent has sent; ``/get N`` refers to them by number."""
        self._downloaded: set[str] = set()
        self._last_answer_after: int | None = None
        """``seq`` that precedes the last answer."""
        self._attached: list[str] = []
        """Paths in the work_dir of the next message's attachments."""
        self._initial_attachments = attachments
        self._task_id = -1
        self._get_key = ""
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "/help": lambda _: output.line(HELP),
            "/files": self._files,
            "/get": self._get,
            "/attach": self._attach,
            "/unfold": self._unfold,
            "/history": self._history,
            "/stop": self._stop,
        }

    def run(self) -> int:
        """Read and execute the user's lines until the user leaves; return the exit status.

        Raises:
            BeRayException: The chat cannot be opened.
        """
        task = self._server.client.open_chat(self._name)
        self._task_id = task["id"]
        if self._initial_attachments != uploads.UploadPlan():
            self._attached = uploads.upload_attachments(
                self._server, self._task_id, self._initial_attachments
            )
        output.note(f"-- chat {self._name}, task {self._task_id}; /help lists the commands")
        if task["status"] == "RUNNING":
            output.note("-- an answer is running; /stop stops it, /history shows it")
        prompt = ChatPrompt()
        self._get_key = prompt.get_key
        while True:
            try:
                line = prompt.read().strip()
            except EOFError:
                output.note("")
                return DONE
            except KeyboardInterrupt:
                output.note("")
                return INTERRUPTED
            except UnicodeError:
                output.error("the line is not valid UTF-8; nothing was sent")
                continue
            if line in ("/quit", "/exit"):
                return DONE
            try:
                self._execute(line)
            except KeyboardInterrupt:
                output.note("")
            except BeRayException as error:
                output.error(error_text(error))
            except FileExistsError as error:
                text = os_error_text(error)
                output.error(f"{text}; use /get PATH LOCAL to save it under another name")
            except OSError as error:
                output.error(os_error_text(error))

    def _execute(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("/") or line.startswith("//"):
            self._send_message(line.removeprefix("/"))
            return
        name, *arguments = _split(line)
        command = self._commands.get(name)
        if command is None:
            raise ConfigurationError(f"{name}: unknown command; /help lists the commands")
        command(arguments)

    def _send_message(self, text: str) -> None:
        task = self._call(lambda client: client.send_chat_message(self._name, text, self._attached))
        self._attached = []
        self._task_id = task["id"]
        self._last_answer_after = task.get("last_seq", 0)
        answer.follow(self._server, task, answer.ChatView(self._sent, get_key=self._get_key))

    def _files(self, _: list[str]) -> None:
        items = self._call(lambda client: client.list_files_tree(self._task_id))
        if not items:
            output.note("-- no files")
            return
        rows = [
            [
                "" if item["type"] == "directory" else size_text(item),
                item.get("path", item["name"]) + ("/" if item["type"] == "directory" else ""),
            ]
            for item in items
        ]
        widest = max(len(size) for size, _ in rows)
        output.table([[size.rjust(widest), path] for size, path in rows])

    def _get(self, arguments: list[str]) -> None:
        if len(arguments) > 2:
            raise ConfigurationError(
                f"/get expects at most 2 arguments, got {len(arguments)}: /get PATH [LOCAL]"
            )
        path = arguments[0] if arguments else self._newest_sent()
        if path.isascii() and path.isdigit():
            if not 1 <= int(path[:6]) <= len(self._sent):
                count = len(self._sent)
                raise ConfigurationError(
                    f"/get {path}: the agent has sent {count} file{'' if count == 1 else 's'}; "
                    f"for a file named {path}, use /get ./{path}"
                )
            path = self._sent[int(path[:6]) - 1]
        path = from_workspace(path).removeprefix("./")
        target = _expand_user(arguments[1]) if len(arguments) == 2 else Path()
        if target.is_dir():
            target = local_path(target, path.rstrip("/").rpartition("/")[2])
        with progress_bars() as start_bar:
            saved = self._server.transfer_client.download_file(
                self._task_id, path, target, transfer=start_bar(target.name)
            )
        self._downloaded.add(path)
        output.note(f"-- {saved}: {saved.stat().st_size} bytes")

    def _newest_sent(self) -> str:
        """Return the newest file from the agent that is not downloaded yet."""
        remaining = [path for path in self._sent if from_workspace(path) not in self._downloaded]
        if not remaining:
            state = (
                "all files from the agent are downloaded"
                if self._sent
                else "the agent has not sent a file yet"
            )
            raise ConfigurationError(f"{state}; /files lists all files, /get PATH downloads one")
        return f"./{from_workspace(remaining[-1])}"

    def _attach(self, arguments: list[str]) -> None:
        if not arguments:
            raise ConfigurationError("/attach expects files or directories: /attach LOCAL...")
        planned = uploads.plan_attachments([_expand_user(argument) for argument in arguments])
        new = {upload.path for upload in planned.uploads}
        if (total := len(new | set(self._attached))) > MAX_ATTACHMENTS:
            raise ConfigurationError(
                f"cannot attach {total} files: a message has at most {MAX_ATTACHMENTS} attachments"
            )
        paths = uploads.upload_attachments(self._server, self._task_id, planned)
        self._attached = [path for path in self._attached if path not in new] + paths
        output.note(f"-- the next message has {len(self._attached)} attachments")

    def _unfold(self, _: list[str]) -> None:
        if self._last_answer_after is None:
            raise ConfigurationError("no answer in this session yet; /history shows earlier ones")
        answer.show_events(self._events(self._last_answer_after), TextView())

    def _history(self, _: list[str]) -> None:
        self._sent.clear()  # files are numbered from 1 again
        view = answer.ChatView(self._sent, history=True, get_key=self._get_key)
        answer.show_events(self._events(0), view)

    def _events(self, after: int) -> Iterator[TaskEvent]:
        page = self._page(after)
        while page:
            yield from page
            page = self._page(page[-1]["seq"]) if len(page) == _PAGE else []

    def _page(self, after: int) -> list[TaskEvent]:
        return self._call(
            lambda client: client.list_events(self._task_id, after=after, limit=_PAGE)
        )

    def _stop(self, _: list[str]) -> None:
        response = self._call(lambda client: client.stop_task(self._task_id))
        output.note(response.get("message") or "")

    def _call(self, call: Callable[[BeRayClient], T]) -> T:
        """Call the server. If the local server has ended, call its successor."""
        try:
            return call(self._server.client)
        except (ConnectionFailed, AuthenticationError):
            if not self._server.renew():
                raise
            return call(self._server.client)


def _expand_user(argument: str) -> Path:
    """Return a local path with ``~`` expanded. The home directory of an unknown user is kept."""
    path = Path(argument)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _split(line: str) -> list[str]:
    r"""Split a command into words, which may be quoted. On Windows, ``\`` separates directories.

    Raises:
        ConfigurationError: A quotation mark is not closed.
    """
    try:
        words = shlex.split(line, posix=os.name == "posix")
    except ValueError as error:
        raise ConfigurationError(f"{line}: {str(error).lower()}") from None
    return words if os.name == "posix" else [word.strip("\"'") for word in words]
