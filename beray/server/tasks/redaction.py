"""Redaction of known secrets in the stored and streamed events of a task.

Only events are changed: commands, tools, files and the input of models keep their text. Redaction
protects against mistakes, such as a tool that prints its environment. It does not stop a task that
discloses a secret on purpose, for example in reverse.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from beray.events import (
    EVENT,
    Event,
    MsgError,
    MsgEventEnd,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
)
from beray.server.runners.mcp import operators
from beray.server.settings import Settings

PLACEHOLDER: Final = "[secret]"
"""Replacement for a secret."""
MIN_SECRET_CHARACTERS: Final = 6
"""Minimum length of a secret. Shorter values are not redacted: they occur in normal text."""
_PART: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
"""One part of a name: ``API`` and ``KEY`` of ``API_KEY``, ``api`` and ``Key`` of ``apiKey``."""
_SECRET_PART: Final = re.compile(
    "keys?|tokens?|secrets?|pass|passwords?|passwd|passphrase|pwd|pw|sshpass|credentials?|creds?"
    "|auth|authorization|bearer|cookies?|jwt|pat|.*(password|passwd|secret|apikeys?|accesskey)"
    "|.*(access|api|auth|bearer|refresh|session)token"
)
_SETTING_PART: Final = re.compile(
    "age|alg|algorithm|audience|backend|bytes|count|days|dir|directory|disabled|domain|enabled"
    "|endpoint|expiration|expires|expiry|file|format|host|hours|issuer|kind|length|lifetime|limit"
    "|method|minutes|mode|name|path|policy|port|prefix|provider|required|scheme|seconds|size|sock"
    "|suffix|timeout|ttl|type|uri|url|user|username|version"
)
"""Last parts of names of settings about secrets, such as ``BERAY_TOKEN_SECONDS``."""
_COUNTED: Final = frozenset({"max", "min"})
_PLAIN_HEADERS: Final = frozenset({"accept", "content-type", "user-agent"})


def task_secrets(
    settings: Settings, tools: Iterable[Mapping[str, Mapping[str, Any]]] | None
) -> list[str]:
    """Return the secrets that a task with these MCP servers could disclose by mistake."""
    found = [*environment_secrets(os.environ), *mcp_server_secrets(tools or ())]
    found += _operator_program_secrets(settings)
    own = (settings.smtp_password, settings.agent_token)
    return [*found, *(secret.get_secret_value() for secret in own if secret is not None)]


def environment_secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of variables whose names denote secrets, except paths of files."""
    for name, value in environ.items():
        if is_secret_name(name) and not value.startswith("/"):
            yield value


def secret_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the variables whose values are redacted in events, sorted."""
    return sorted(
        name
        for name, value in environ.items()
        if len(value) >= MIN_SECRET_CHARACTERS and any(environment_secrets({name: value}))
    )


def is_secret_name(name: str) -> bool:
    """Return True if the name of a variable or URL parameter denotes a secret.

    Only complete parts of the name count: ``REDIS_AUTH`` has the part ``AUTH``, ``AUTHOR`` does
    not.
    """
    parts = [part.lower() for part in _PART.findall(name)]
    if not parts or _SETTING_PART.fullmatch(parts[-1]) or not _COUNTED.isdisjoint(parts):
        return False
    return any(_SECRET_PART.fullmatch(part) for part in parts)


def mcp_server_secrets(tools: Iterable[Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the credentials in a task's MCP servers: headers, variables and parts of URLs."""
    for tool in tools:
        for server in tool.values():
            headers = server.get("headers")
            if isinstance(headers, dict):
                yield from _header_secrets(headers)
            environ = server.get("env")
            if isinstance(environ, dict):
                yield from environment_secrets(
                    {name: str(value) for name, value in environ.items()}
                )
            yield from _url_secrets(str(server.get("url", "")))


def _header_secrets(headers: dict[str, Any]) -> Iterator[str]:
    for name, value in headers.items():
        if name.lower() not in _PLAIN_HEADERS:
            yield str(value)
            # The token of "Bearer …" may also appear on its own.
            yield str(value).rpartition(" ")[2]


def _url_secrets(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)
    yield from environment_secrets(dict(parse_qsl(parts.query)))


def _operator_program_secrets(settings: Settings) -> Iterator[str]:
    """Yield secrets in the environments of the MCP programs that the operator defines."""
    try:
        programs = operators.load(settings.mcp_servers)
    except operators.McpServersFileError:
        return  # the runner reports it to tasks that use one of the servers
    for program in programs.values():
        yield from environment_secrets(program.env)


class SecretRedactor:
    """Redaction of secrets in complete strings and JSON values."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARACTERS}
        # Arguments of tools contain secrets as JSON strings, many errors of Python as a repr.
        known |= {form[1:-1] for secret in known for form in (json.dumps(secret), repr(secret))}
        self.secrets = sorted(known, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, self.secrets)) or r"(?!)")

    def redact(self, value: Any) -> Any:
        """Return ``value`` without secrets, at any depth."""
        match value:
            case str():
                return self.pattern.sub(PLACEHOLDER, value)
            case list():
                return [self.redact(item) for item in value]
            case dict():
                return {self.redact(key): self.redact(item) for key, item in value.items()}
        return value


class StreamRedactor:
    """Redaction of secrets in the stream of events of one run.

    Text comes in chunks that may end anywhere. The end of a chunk that could be the start of a
    secret is delayed until the next chunk.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._redactor = SecretRedactor(secrets)
        self._secrets, self._pattern = self._redactor.secrets, self._redactor.pattern
        self._held: dict[tuple[str, ...], _Chunk] = {}

    def redact(self, event: Event) -> list[Event]:
        """Return the events to log now for ``event``."""
        if not self._secrets:
            return [event]
        if isinstance(event, MsgEventTextChunk | MsgEventToolCallChunk):
            key = _stream(event)
            earlier = self._flush_matching(lambda other: other != key and _interrupts(other, key))
            return [*earlier, *self._redact_chunk(key, event)]
        if isinstance(event, MsgEventEnd | MsgError):
            earlier = self.flush()
        else:
            key = _stream(event)
            earlier = self._flush_matching(lambda other: _interrupts(other, key))
        return [*earlier, EVENT.validate_python(self._redactor.redact(event.model_dump()))]

    def flush(self) -> list[Event]:
        """Return the delayed text, at the end of the run or before another event."""
        return self._flush_matching(lambda _: True)

    def _flush_matching(self, matches: Callable[[tuple[str, ...]], bool]) -> list[Event]:
        keys = [key for key in self._held if matches(key)]
        return [self._held.pop(key) for key in keys]

    def _redact_chunk(self, key: tuple[str, ...], event: _Chunk) -> list[Event]:
        before = self._held.pop(key, None)
        if before is not None:
            # The first chunk of a tool call has the name of the tool.
            event = before.model_copy(update=_text_update(event, _text(before) + _text(event)))
        text = _text(event)
        end = len(text) - self._undecided_length(text)
        if end == 0 and text:
            self._held[key] = event
            return []
        if end < len(text):
            rest = _text_update(event, text[end:])
            if isinstance(event, MsgEventToolCallChunk):
                rest["tool_name"] = None
            self._held[key] = event.model_copy(update=rest)
        return [
            event.model_copy(update=_text_update(event, self._pattern.sub(PLACEHOLDER, text[:end])))
        ]

    def _undecided_length(self, text: str) -> int:
        """Return the number of characters at the end of ``text`` that may start a secret."""
        decided = 0
        for match in self._pattern.finditer(text):
            decided = match.end()
        longest = len(self._secrets[0])
        for start in range(max(decided, len(text) - longest + 1), len(text)):
            if any(secret.startswith(text[start:]) for secret in self._secrets):
                return len(text) - start
        return 0


_Chunk = MsgEventTextChunk | MsgEventToolCallChunk


def _stream(event: Event) -> tuple[str, ...]:
    """Return the stream of an event: its source, call and type."""
    source = getattr(event, "source", "")
    return str(source), str((event.model_extra or {}).get("call_id", "")), event.type


def _interrupts(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Return True if an event of one stream ends the current text of the other stream."""
    if first[1] and second[1] and first[0].startswith("tools:"):
        return first[1] == second[1]  # concurrent calls
    return first[0] == second[0] != "" or first[1] == second[1] != ""


def _text(event: _Chunk) -> str:
    return event.text if isinstance(event, MsgEventTextChunk) else event.args_chunk


def _text_update(event: _Chunk, text: str) -> dict[str, Any]:
    return {"text" if isinstance(event, MsgEventTextChunk) else "args_chunk": text}
