"""Set-ups of pages: servers on loopback, and the replacements of the names that pages use."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as SmtpSession

from beray.schema import SCOPES
from beray.testing import RunningServer, access_token, raw_request
from beray.testing.server import free_port
from tests.documentation.model_replies import openai_reply, plain_reply
from tests.server.agents import fake_anthropic
from tests.server.agents.fake_google import GOOGLE
from tests.server.agents.fake_openai import FakeOpenAI
from tests.server.agents.mcp_server import HttpServer
from tests.support import WITHOUT_BUBBLEWRAP

ADDRESS = "you@example.com"
PASSWORD = "your password"


@dataclass
class PageSetup:
    """Running servers of one page.

    Attributes:
        folder: Directory for their data.
        environ: Variables for the blocks that follow.
        replacements: Replacements in the blocks that follow.
    """

    folder: Path
    running: ExitStack
    environ: dict[str, str] = field(default_factory=dict)
    replacements: list[tuple[str, str]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def start(self, name: str, settings: dict[str, str]) -> None:
        """Start a set-up of ``pages.SETUPS``."""
        getattr(self, f"_start_{name}")(settings)

    def _start_model(self, _settings: dict[str, str]) -> None:
        """Start scripted providers with the APIs of OpenAI, Anthropic and Google."""
        openai = self.running.enter_context(FakeOpenAI(openai_reply))
        anthropic = self.running.enter_context(FakeOpenAI(plain_reply, fake_anthropic.ANTHROPIC))
        google = self.running.enter_context(FakeOpenAI(plain_reply, GOOGLE))
        self.environ |= {
            "MODEL_URL": openai.url,
            "OPENAI_BASE_URL": openai.url,
            "ANTHROPIC_BASE_URL": anthropic.url.removesuffix("/v1"),
            "GOOGLE_GEMINI_BASE_URL": google.url.removesuffix("/v1"),
        }
        for name in ("OPENAI", "ANTHROPIC", "GOOGLE"):
            self.replacements.append((f"{name}_API_KEY=…", f"{name}_API_KEY=key-of-{name.lower()}"))
        self.replacements.append(("http://127.0.0.1:11434/v1", openai.url))

    def _start_mcp(self, _settings: dict[str, str]) -> None:
        """Start an MCP server."""
        server = self.running.enter_context(HttpServer())
        self.environ["MCP_URL"] = server.url
        self.replacements.append(("https://example.com/mcp", server.url))

    def _start_mail(self, _settings: dict[str, str]) -> None:
        """Start a mail server; ``mailed-code`` reads its mails."""
        folder = self.folder / "mails"
        folder.mkdir()
        port = free_port()
        controller = Controller(_MailFolder(folder), hostname="127.0.0.1", port=port)
        controller.start()
        self.running.callback(controller.stop)
        self.environ["SMTP_PORT"] = str(port)
        self._add_mails(folder)

    def _start_server(self, settings: dict[str, str]) -> None:
        """Start a server with the account of ``ADDRESS``, and an API key of its agent."""
        data_dir = self.folder / f"server-{next(self._numbers)}"
        server = RunningServer.start(
            data_dir,
            {**self.environ, **WITHOUT_BUBBLEWRAP, "BERAY_PREFAB_AUTHORS": "*", **settings},
        )
        self.running.enter_context(server)
        with server.sign_up(ADDRESS, PASSWORD) as client:
            token = access_token(client)
            body = {"name": "documentation", "agent_id": "night", "scopes": list(SCOPES)}
            created: Any = raw_request(client, "POST", "/api/v1/apikeys/", json=body)
            key = created.json()["key"]
        self.environ |= {"SERVER_URL": server.url, "SERVER_TOKEN": token, "SERVER_KEY": key}
        self._add_mails(data_dir / "outbox")
        host = server.url.removeprefix("http://")
        self.replacements += [
            ("http://localhost:8000", server.url),
            ("localhost:8000", host),
            ("https://beray.example.com", server.url),
            ("wss://beray.example.com", f"ws://{host}"),
            ("https://gateway.example.com", server.url),
            ('token="…"', f'token="{token}"'),
            ("BERAY_TOKEN=…", f"BERAY_TOKEN={token}"),
            ("BERAY_AGENT_TOKEN=…", f"BERAY_AGENT_TOKEN={token}"),
            ("sk-…", key),
        ]

    def _start_port(self, _settings: dict[str, str]) -> None:
        """Choose a free port for the port 8000 of the page."""
        port = str(free_port())
        self.environ["PORT"] = port
        self.replacements += [
            ("--port 8000", f"--port {port}"),
            ("127.0.0.1:8000", f"127.0.0.1:{port}"),
            ("localhost:8000", f"localhost:{port}"),
            ("https://beray.example.com", f"http://127.0.0.1:{port}"),
        ]

    def _add_mails(self, folder: Path) -> None:
        folders = [self.environ.get("MAIL_FOLDERS", ""), str(folder)]
        self.environ["MAIL_FOLDERS"] = ":".join(filter(None, folders))


class _MailFolder:
    """SMTP handler that stores mails as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd calls
        self, _server: SMTP, _session: SmtpSession, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        (self._folder / f"{next(self._numbers)}.eml").write_bytes(envelope.content)
        return "250 OK"
