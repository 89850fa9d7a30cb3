"""A chat with a person at the terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from beray.cli import output, uploads
from beray.cli.chat import answer, attachments
from beray.cli.chat.prompt import Prompt
from beray.cli.context import Connection
from beray.cli.errors import DONE, INTERRUPTED, words
from beray.cli.progress import bars
from beray.cli.render import Lines
from beray.client import BeRayClient
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConfigurationError,
    ConnectionFailed,
)
from beray.schema import MAX_ATTACHMENTS, TaskEvent, from_workspace, size_text
from beray.transfers.local_files import OVERWRITE_HINT
from beray.transfers.local_names import local_path

HELP: Final = """\
/files              the files of the chat
/get PATH [LOCAL]   take a file; /get 1 takes the first that the agent has sent,
                    /get alone the newest that is not taken; so does ctrl+t
/attach LOCAL...    send files or folders with what is said next
/unfold             the last answer again, with thoughts and what its tools printed
/history            what was said so far
/stop               stop an answer that is under way; while you see one, Ctrl-C does
/quit               leave; Ctrl-D does, too
! begins a shell command, // something that begins with a /"""

_PAGE: Final = 500
T = TypeVar("T")


class Conversation:
    """What is said in the chat ``name``, from prompt to prompt."""

    def __init__(self, server: Connection, name: str, attached: uploads.Plan) -> None:
        self._server = server
        self._name = name
        self._sent: list[str] = []
        self._taken: set[str] = set()
        self._answered_behind: int | None = None
        self._attached: list[str] = []
        self._first = attached
        self._task_id = -1
        self._take_key = ""
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
        """Talk until the person leaves, and return the exit status.

        Raises:
            BeRayException: the chat cannot be opened.
        """
        task = self._server.client.open_chat(self._name)
        self._task_id = task["id"]
        if self._first != uploads.Plan():
            self._attached = attachments.send(self._server, self._task_id, self._first)
        output.note(f"-- chat {self._name}, task {self._task_id}; /help tells more")
        if task["status"] == "RUNNING":
            output.note("-- an answer is under way; /stop stops it, /history shows it")
        prompt = Prompt()
        self._take_key = prompt.take_key
        while True:
            try:
                said = prompt.read().strip()
            except EOFError:
                output.note("")
                return DONE
            except KeyboardInterrupt:
                output.note("")
                return INTERRUPTED
            except UnicodeError:
                output.problem("what was typed is no text")
                continue
            if said in ("/quit", "/exit"):
                return DONE
            try:
                self._do(said)
            except KeyboardInterrupt:
                output.note("")
            except BeRayException as error:
                output.problem(words(error))
            except FileExistsError as error:
                there = str(error).removesuffix(OVERWRITE_HINT)
                output.problem(f"{there}; /get PATH LOCAL takes it to another place")
            except OSError as error:
                output.problem(f"{error.filename or ''}: {error.strerror}".removeprefix(": "))

    def _do(self, said: str) -> None:
        if not said:
            return
        if not said.startswith("/") or said.startswith("//"):
            self._say(said.removeprefix("/"))
            return
        name, *arguments = _split(said)
        command = self._commands.get(name)
        if command is None:
            raise ConfigurationError(f"{name}: no such command; /help tells which there are")
        command(arguments)

    def _say(self, text: str) -> None:
        task = self._call(lambda client: client.send_chat_message(self._name, text, self._attached))
        self._attached = []
        self._task_id = task["id"]
        self._answered_behind = task.get("last_seq", 0)
        answer.follow(self._server, task, answer.Spoken(self._sent, take_key=self._take_key))

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
            raise ConfigurationError("/get PATH [LOCAL]")
        path = arguments[0] if arguments else self._newest()
        if path.isascii() and path.isdigit():
            if not 1 <= int(path[:6]) <= len(self._sent):
                raise ConfigurationError(f"no file {path} was sent; ./{path} is a file's name")
            path = self._sent[int(path[:6]) - 1]
        path = from_workspace(path).removeprefix("./")
        target = Path(os.path.expanduser(arguments[1])) if len(arguments) == 2 else Path()
        if target.is_dir():
            target = local_path(target, path.rstrip("/").rpartition("/")[2])
        with bars() as begin:
            saved = self._server.patient.download_file(
                self._task_id, path, target, transfer=begin(target.name)
            )
        self._taken.add(path)
        output.note(f"-- {saved}: {saved.stat().st_size} bytes")

    def _newest(self) -> str:
        """The newest file that was sent and is not taken."""
        left = [path for path in self._sent if from_workspace(path) not in self._taken]
        if not left:
            why = "is not taken yet" if self._sent else "was sent yet"
            raise ConfigurationError(f"no file {why}; /files shows all, /get PATH takes one")
        return f"./{from_workspace(left[-1])}"

    def _attach(self, arguments: list[str]) -> None:
        if not arguments:
            raise ConfigurationError("/attach LOCAL...")
        planned = attachments.plan([Path(os.path.expanduser(argument)) for argument in arguments])
        new = {upload.path for upload in planned.uploads}
        if len(new | set(self._attached)) > MAX_ATTACHMENTS:
            raise ConfigurationError(f"a message has {MAX_ATTACHMENTS} files with it at most")
        sent = attachments.send(self._server, self._task_id, planned)
        self._attached = [path for path in self._attached if path not in new] + sent
        output.note(f"-- {len(self._attached)} files go with what you say next")

    def _unfold(self, _: list[str]) -> None:
        if self._answered_behind is None:
            raise ConfigurationError("there is no answer yet; /history shows those of before")
        answer.told(self._events(self._answered_behind), Lines())

    def _history(self, _: list[str]) -> None:
        self._sent.clear()  # all of them are numbered anew
        spoken = answer.Spoken(self._sent, history=True, take_key=self._take_key)
        answer.told(self._events(0), spoken)

    def _events(self, behind: int) -> Iterator[TaskEvent]:
        page = self._page(behind)
        while page:
            yield from page
            page = self._page(page[-1]["seq"]) if len(page) == _PAGE else []

    def _page(self, after: int) -> list[TaskEvent]:
        return self._call(
            lambda client: client.list_events(self._task_id, after=after, limit=_PAGE)
        )

    def _stop(self, _: list[str]) -> None:
        answer = self._call(lambda client: client.stop_task(self._task_id))
        output.note(answer.get("message") or "")

    def _call(self, call: Callable[[BeRayClient], T]) -> T:
        """Call the server; the user's own may have ended meanwhile, and another one begins."""
        try:
            return call(self._server.client)
        except (ConnectionFailed, AuthenticationError):
            if not self._server.renew():
                raise
            return call(self._server.client)


def _split(said: str) -> list[str]:
    r"""The words of a command, in quotes where they hold spaces. Windows has \ in its paths."""
    try:
        found = shlex.split(said, posix=os.name == "posix")
    except ValueError as error:
        raise ConfigurationError(f"{error}".lower()) from None
    return found if os.name == "posix" else [word.strip("\"'") for word in found]
