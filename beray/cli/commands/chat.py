"""Command for chats: chat."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output, uploads
from beray.cli.chat import answer
from beray.cli.context import connect
from beray.cli.errors import INTERRUPTED
from beray.cli.options import AsJson, ProfileName, Url, encodable
from beray.cli.render import JsonView
from beray.exceptions import ConfigurationError


def chat(
    ctx: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Message; ! starts a shell command. Default in a pipe: stdin.",
            callback=encodable,
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option("--chat", "-c", metavar="NAME", help="Name of the chat.", callback=encodable),
    ] = "0",
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            "-a",
            metavar="LOCAL",
            help="File or directory to attach to the message; repeatable, at most 100 files.",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Talk with an agent. A chat keeps its messages and files.

    With TEXT, send it and show the answer: the agent's text on stdout, everything else on
    stderr; with --json, the events of the answer. The exit status is 1 if the answer ends with
    an error. Ctrl-C stops the answer.

    Without TEXT, on a terminal, start an interactive chat with the commands /help, /files, /get,
    /attach, /unfold, /history, /stop and /quit. Ctrl-T downloads the newest file that the agent
    sent. Ctrl-C stops an answer; at the prompt, it leaves the chat.
    """
    if not name or len(name) > 100 or "/" in name or not name.isprintable():
        raise ConfigurationError(
            f"--chat {name[:120]!r} is invalid: a name has 1 to 100 printable characters, without /"
        )
    if text is None and not output.is_terminal(sys.stdin):
        text = encodable(sys.stdin.read() if sys.stdin is not None else "")
    if text is None and as_json:
        raise ConfigurationError("--json needs a message; pass TEXT, or pipe the message to stdin")
    if text is not None and not text.strip():
        raise ConfigurationError("the message is empty; pass TEXT, or pipe the message to stdin")
    planned = uploads.plan_attachments(attach or [])
    with connect(ctx, url, profile) as server:
        if text is None:
            from beray.cli.chat.session import ChatSession

            return ChatSession(server, name, planned).run()
        attachments: list[str] = []
        if planned.uploads or planned.skipped:
            task_id = server.client.open_chat(name)["id"]
            attachments = uploads.upload_attachments(server, task_id, planned)
        task = server.client.send_chat_message(name, text, attachments)
        try:
            return answer.follow(server, task, JsonView() if as_json else answer.ChatView())
        except KeyboardInterrupt:
            return INTERRUPTED


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(chat)
