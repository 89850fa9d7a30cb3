"""Chats: chat."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.chat import answer
from beray.cli.chat import attachments as attaching
from beray.cli.context import connected
from beray.cli.errors import INTERRUPTED
from beray.cli.options import AsJson, ProfileName, Url, encodable
from beray.cli.render import JsonLines
from beray.exceptions import ConfigurationError


def chat(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="What to say; ! before a shell command. In a pipe: stdin, where it is left out.",
            callback=encodable,
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--chat", "-c", metavar="NAME", help="Which of your chats.", callback=encodable
        ),
    ] = "0",
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            "-a",
            metavar="LOCAL",
            help="A file or folder to send with it; may be repeated, 100 files at most.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Talk with an agent, which remembers the chat and keeps its files.

    With TEXT: says it and shows the answer, what the agent says on stdout and everything
    else on stderr. Exit status 1 where the answer ends in an error. --json: each event of
    the answer. Ctrl-C stops the answer.

    Without, on a terminal: a conversation. /help tells its commands: /files, /get, /attach,
    /unfold, /history, /stop, /quit. Ctrl-T takes the newest file that the agent has sent.
    Ctrl-C stops an answer; at the prompt, it leaves.
    """
    if not name or len(name) > 100 or "/" in name or not name.isprintable():
        raise ConfigurationError("a chat's name has 1 to 100 characters, and no / among them")
    if text is None and not output.is_terminal(sys.stdin):
        text = encodable(sys.stdin.read() if sys.stdin is not None else "")
    if text is None and as_json:
        raise ConfigurationError("--json is for scripts: it needs TEXT, or stdin")
    if text is not None and not text.strip():
        raise ConfigurationError("there is nothing to say: the text is empty")
    planned = attaching.plan(attach or [])
    with connected(ctx, url, profile) as server:
        if text is None:
            from beray.cli.chat.session import Conversation

            return Conversation(server, name, planned).run()
        attachments: list[str] = []
        if planned.uploads or planned.left_out:
            attachments = attaching.send(server, server.client.open_chat(name)["id"], planned)
        task = server.client.send_chat_message(name, text, attachments)
        try:
            return answer.follow(server, task, JsonLines() if as_json else answer.Spoken())
        except KeyboardInterrupt:
            return INTERRUPTED


def register(app: typer.Typer) -> None:
    app.command()(chat)
