"""Redaction of known secrets in events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.events import (
    Event,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
)
from beray.server.tasks.redaction import (
    PLACEHOLDER,
    StreamRedactor,
    environment_secrets,
    is_secret_name,
    mcp_server_secrets,
    secret_variables,
)

SECRET = "sk-abcdef-123456"
OTHERS = ["sk-abcxyz", 'quo"ted\\secret', "Bearer sk-abcdef-123456"]


def text_of(events: list[Event], source: str = "main") -> str:
    return "".join(
        event.text
        for event in events
        if isinstance(event, MsgEventTextChunk) and event.source == source
    )


def filtered(*events: Event) -> list[Event]:
    secrets = StreamRedactor([SECRET, *OTHERS])
    return [out for event in events for out in secrets.redact(event)] + secrets.flush()


PIECES = st.lists(
    st.sampled_from(["s", "sk", "sk-", "sk-abc", SECRET, SECRET[4:], "x", " ", "\n", "é"])
)


@given(PIECES, st.lists(st.integers(1, 7), min_size=1))
def test_the_output_does_not_depend_on_the_chunks(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    pieces: list[Event] = []
    at = 0
    while at < len(text):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(MsgEventTextChunk(text=text[at : at + size]))
        # Events of other sources in between have no effect.
        pieces.append(MsgEventCustomUpdate(payload={"kind": "file_changed"}, source="files"))
        at += size
    whole = text_of(filtered(MsgEventTextChunk(text=text)))
    assert text_of(filtered(*pieces)) == whole
    assert SECRET not in whole
    if SECRET not in text:
        assert whole == text


def test_only_possible_beginnings_of_secrets_are_buffered() -> None:
    secrets = StreamRedactor([SECRET])
    assert text_of(secrets.redact(MsgEventTextChunk(text="hello s"))) == "hello "
    assert text_of(secrets.redact(MsgEventTextChunk(text="k and"))) == "sk and"


def test_buffered_text_is_emitted_at_the_end_of_an_answer() -> None:
    events = filtered(MsgEventTextChunk(text="risk"), MsgEventEnd(tokens_used=3))
    assert [event.type for event in events][-1] == "AGENT_EVENT_END"
    assert text_of(events) == "risk"


def test_buffered_text_is_emitted_before_other_events_of_its_source() -> None:
    call = MsgEventToolCallChunk(tool_name="read_file", args_chunk="{}")
    events = filtered(MsgEventTextChunk(text="desk"), call)
    assert [event.type for event in events] == [
        "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_TOOL_CALL_CHUNK",
    ]  # fmt: skip
    assert text_of(events) == "desk"


def test_sources_are_filtered_separately() -> None:
    events = filtered(
        MsgEventTextChunk(text=SECRET[:6], source="main"),
        MsgEventTextChunk(text=SECRET[6:], source="tools:run_command"),
        MsgEventTextChunk(text=SECRET[6:], source="main"),
    )
    assert text_of(events) == PLACEHOLDER
    assert text_of(events, "tools:run_command") == SECRET[6:]


def test_secrets_in_arguments_are_redacted_in_their_json_form() -> None:
    chunks = ['{"key": "quo\\', '"ted\\\\sec', 'ret", "x": 1}']
    events = filtered(
        MsgEventToolCallChunk(tool_name="write_file", args_chunk="", call_id="1"),  # type: ignore[call-arg]
        *(MsgEventToolCallChunk(args_chunk=chunk, call_id="1") for chunk in chunks),  # type: ignore[call-arg]
    )
    arguments = "".join(
        event.args_chunk for event in events if isinstance(event, MsgEventToolCallChunk)
    )
    assert arguments == f'{{"key": "{PLACEHOLDER}", "x": 1}}'
    names = [event.tool_name for event in events if isinstance(event, MsgEventToolCallChunk)]
    assert names[0] == "write_file" and set(names[1:]) == {None}


def test_results_payloads_and_errors_are_redacted_at_any_depth() -> None:
    value: Any = {"a": [{SECRET: f"<{SECRET}>"}], "n": 1}
    result, update, error = filtered(
        MsgEventToolResult(tool_name="fetch", result=value),
        MsgEventCustomUpdate(payload=value),
        MsgError(code="PROVIDER", details=f"key {SECRET} is wrong"),
    )
    cut = {"a": [{PLACEHOLDER: f"<{PLACEHOLDER}>"}], "n": 1}
    assert isinstance(result, MsgEventToolResult) and result.result == cut
    assert isinstance(update, MsgEventCustomUpdate) and update.payload == cut
    assert isinstance(error, MsgError) and error.details == f"key {PLACEHOLDER} is wrong"


def test_selection_of_secrets() -> None:
    environ = {
        "OPENAI_API_KEY": "key-1", "GITHUB_TOKEN": "token-2", "DB_PASSWORD": "pass-3",
        "PATH": "/usr/bin", "SSH_AUTH_SOCK": "/tmp/agent", "LANG": "C.UTF-8",
    }  # fmt: skip
    assert list(environment_secrets(environ)) == ["key-1", "token-2", "pass-3"]
    tools: list[Any] = [
        {"docs": {"url": "https://me:pa%20ss@host/mcp?api_key=in-url&page=2",
                  "headers": {"Authorization": "Bearer abc", "Accept": "*/*", "X-Id": "seven"}}},
        {"local": {"command": "mcp", "env": {"API_TOKEN": "of-env", "HOME": "/x"}}},
        {"odd": {"url": 3, "headers": [1], "env": None}},
        {"broken": {"url": "https://[::1"}},
    ]  # fmt: skip
    assert list(mcp_server_secrets(tools)) == [
        "Bearer abc", "abc", "seven", "seven", "pa%20ss", "pa ss", "in-url", "of-env",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY", "API_KEY_2", "KEY", "apiKey", "api-key", "apikey", "accessToken",
        "X-Auth-Token", "PGPASSWORD", "MYSQL_PWD", "SSHPASS", "REDISCLI_AUTH", "CLIENT_SECRET",
        "clientSecret", "SECRET_KEY_BASE", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SESSION_COOKIE",
        "USER_PASSWORD", "NPM_CONFIG__AUTH", "MINIO_ROOT_PASSWORD", "DB_CREDENTIALS", "LLM_PW",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "GIT_AUTHOR_NAME", "AUTHOR", "BERAY_TOKEN_SECONDS", "KEYBOARD", "KEYBOARD_LAYOUT", "MONKEY",
        "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "LLM_MAX_OUTPUT_TOKENS", "BYPASS", "AUTH_METHOD",
        "COOKIE_DOMAIN", "SECRET_NAME", "SSH_AUTH_SOCK", "AUTHORITY", "PASSENGER_MODE", "KEYCLOAK",
        "MODEL", "PATH", "", "_", "123", "SECRETARY", "COMPASS", "PATTERN",
    ],
)  # fmt: skip
def test_names_of_settings(name: str) -> None:
    assert not is_secret_name(name)


def test_short_values_and_paths_are_not_secrets() -> None:
    environ = {"B_TOKEN": "123456", "A_KEY": "abcdefgh", "C_KEY": "short", "D_KEY": "/etc/key.pem"}
    assert secret_variables(environ) == ["A_KEY", "B_TOKEN"]


def test_output_of_parallel_commands_is_filtered_command_by_command() -> None:
    def output(call_id: str, text: str) -> Event:
        fields = {"text": text, "source": "tools:run_command", "call_id": call_id}
        return MsgEventTextChunk.model_validate(fields)

    def result(call_id: str) -> Event:
        fields = {"tool_name": "run_command", "source": "tools:run_command", "call_id": call_id}
        return MsgEventToolResult.model_validate(fields)

    events = filtered(
        output("1", f"a {SECRET[:6]}"),
        output("2", f"x {SECRET[:4]}"),
        output("1", f"{SECRET[6:]} b"),
        result("1"),
        output("2", SECRET[4:]),
        result("2"),
    )
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, MsgEventTextChunk):
            call_id = event.model_dump()["call_id"]
            texts[call_id] = texts.get(call_id, "") + event.text
    assert texts == {"1": f"a {PLACEHOLDER} b", "2": f"x {PLACEHOLDER}"}
