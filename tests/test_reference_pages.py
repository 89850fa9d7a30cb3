"""Tests of the generated parts of the reference."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from beray.cli.app import app as command
from beray.events import EVENT, EClientMessage, EServerMessage, ServerMessage
from beray.server.api.middleware import Activity
from beray.server.app import create_app
from beray.server.settings import Settings
from tools.docs import errors_page, generated, http_api_page, repository
from tools.docs.record_events import EXAMPLES

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PUBLISHED_CALLS = {
    "POST /api/v1/auth/request-verification-code",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/token",
    "POST /api/v1/auth/logout",
    "GET /api/v1/users/me",
    "POST /api/v1/tasks/",
    "GET /api/v1/tasks/",
    "GET /api/v1/tasks/{task_id}",
    "DELETE /api/v1/tasks/{task_id}",
    "GET /api/v1/tasks/{task_id}/stream",
    "POST /api/v1/tasks/{task_id}/stop",
    "GET /api/v1/tasks/{task_id}/files/tree",
    "GET /api/v1/tasks/{task_id}/files/content",
    "PUT /api/v1/tasks/{task_id}/files/content",
    "POST /api/v1/tasks/{task_id}/files/download",
    "POST /v1/auth/convert_to_internal_token",
    "POST /internal/files/generate_upload_url",
    "POST /internal/files/upload",
    "POST /internal/files/upload_temp",
    "GET /internal/files/download",
    "GET /internal/files/list",
    "GET /internal/files/list_temp",
    "DELETE /internal/files/cleanup_temp",
    "POST /v1/internal/run",
    "POST /v1/run",
}
BASE_CLASSES = {"BeRayException", "GatewayError", "ValidationError", "ServiceUnavailableError"}
"""Exceptions that have no remedy of their own, because always a subclass of them is raised."""


def page(name: str) -> str:
    """Return a page of the reference with its generated parts."""
    return generated.fill_in((REFERENCE / name).read_text("utf-8"))


def section(text: str, heading: str) -> str:
    """Return the section of a page with this heading."""
    return re.split(r"^#{2,3} ", text.partition(f"\n### {heading}\n")[2], maxsplit=1, flags=re.M)[0]


def test_the_command_page_has_all_commands_with_their_options() -> None:
    text = page("command.md")
    names = [registered.name or registered.callback.__name__ for registered in
             command.registered_commands if registered.callback]  # fmt: skip
    assert {"run", "tasks", "serve", "docs"} <= set(names)
    for name in [*names, "prefab secret set", "server status", "apikey new"]:
        assert f"beray {name} " in section(text, f"beray {name}")
    assert "| `-o, --output DIR` | Download all files to DIR at the end. |  |" in text
    assert "| `--port` | Port; 0 selects a free port. Range: `0<=x<=65535`. | `8000` |" in text
    assert "| `ID` | Id of the task. Range: `x>=0`. | required |" in section(text, "beray stop")


def test_each_setting_is_in_one_table() -> None:
    rows = re.findall(r"^\| `BERAY_(\w+)` \|", page("settings.md").partition("## Server")[2], re.M)
    assert sorted(rows) == sorted(
        name.upper() for name in Settings.model_fields.keys() - {"data_dir"}
    )


def test_the_defaults_of_settings_are_those_of_the_fields() -> None:
    text = page("settings.md")
    for row in (
        "| `BERAY_CHAT_SLOTS` | int ≥ 1 | 16 |",
        "| `BERAY_WORK_DIR_BYTES` | int ≥ 1 | 17,179,869,184 (16 GiB) |",
        "| `BERAY_TOKEN_SECONDS` | int ≥ 60 | 2,592,000 (30 days) |",
        "| `BERAY_SANDBOX` | `auto`, `bubblewrap`, `none` | `auto` |",
        "| `BERAY_MCP_CONNECT_SECONDS` | float > 0 and ≤ 3,600 | 30 |",
        "| `BERAY_SMTP_PASSWORD` | string | none |",
        "| `BERAY_TRUSTED_PROXIES` | list | none |",
        "| `BERAY_S3_ENDPOINT` | URL | AWS |",
        "| `BERAY_MCP_STDIO` | bool | `0` |",
    ):
        assert row in text


def test_the_page_of_events_has_each_type_with_its_example() -> None:
    text = page("events.md")
    for kind in (*EServerMessage, *EClientMessage, "TASK_STATUS"):
        example = re.search(r"```json\n(.*?)```", section(text, str(kind)), re.S)
        assert example is not None, kind
        assert json.loads(example[1])["type"] == kind
    assert "| `retracts` | list of integers | optional, BeRay extension |" in text
    assert "| `status` | string | always | New status. |" in section(text, "TASK_STATUS")


def test_the_examples_of_events_are_valid() -> None:
    examples: dict[str, dict[str, Any]] = json.loads(EXAMPLES.read_text("utf-8"))
    for example in examples["task"].values():
        assert EVENT.validate_python(example).type == example["type"]
        assert {"seq", "task_id", "created_at"} <= example.keys()
    for example in examples["agent WebSocket"].values():
        assert ServerMessage.validate_python(example).type == example["type"]
    assert list(examples["all tasks"]) == ["TASKS", "TASK_STATUS", "TASK_PROGRESS", "TASK_DELETED"]


def test_calls_outside_of_the_published_api_are_marked_as_extensions() -> None:
    text = page("http-api.md")
    calls = re.findall(r"^### `([A-Z]+ /.*)`$", text, re.M)
    extensions = {call for call in calls if "*BeRay extension*\n" in section(text, f"`{call}`")}
    assert len(calls) == len(set(calls))
    assert set(calls) - extensions == PUBLISHED_CALLS


def test_the_page_of_the_http_api_has_the_statuses_of_each_call() -> None:
    text = section(page("http-api.md"), "`POST /api/v1/tasks/`")
    statuses = re.findall(r"^\| (\d{3}) ", text, re.M)
    assert statuses == ["200", "401", "404", "409", "422", "429", "503", "507"]
    assert "[TaskRequest](#taskrequest)" in text
    assert "`Idempotency-Key`" in text


def test_the_page_of_the_http_api_has_the_credentials_of_each_call() -> None:
    sections = http_api_page.generate().split("\n### ")[1:]
    for heading, text in (
        ("`GET /api/v1/tasks/`", "session, or API key with the scope `tasks:read`."),
        (
            "`PUT /api/v1/tasks/{task_id}/files/content`",
            "session, or API key with the scope `files`.",
        ),
        ("`GET /api/v1/admin/audit`", "session of an administrator."),
        ("`DELETE /api/v1/sessions`", "session."),
        ("`POST /v1/internal/run`", "`X-Internal-Token`, `X-API-Key`, or the access token of a"),
    ):
        [section] = [section for section in sections if section.startswith(f"{heading}\n")]
        assert f"\nCredential: {text}" in section
    [login] = [section for section in sections if section.startswith("`POST /api/v1/auth/login`")]
    assert "Credential:" not in login


def test_each_call_belongs_to_a_group_of_the_page() -> None:
    schema = create_app(Activity()).openapi()
    assert {tag for call in http_api_page.calls(schema) for tag in call[2]["tags"]} == {
        "accounts", "administration", "tasks", "files", "history", "chats", "gateway", "server",
    }  # fmt: skip


@pytest.mark.parametrize(
    "module", ["beray.exceptions", "beray.gateway.exceptions", "beray.agent.exceptions"]
)
def test_each_exception_has_a_cause_and_a_remedy(module: str) -> None:
    found = errors_page.exceptions(importlib.import_module(module))
    text = page("errors.md")
    prefix = "" if module == "beray.exceptions" else f"{module.split('.')[1]}."
    for exception in found:
        cause, remedy, _ = errors_page.documentation(exception)
        assert cause, exception
        assert "Remedy" not in cause
        assert bool(remedy) == (exception.__name__ not in BASE_CLASSES), exception
        assert remedy in section(text, prefix + exception.__name__)


@pytest.mark.parametrize("name", ["client.md", "gateway-client.md", "agent-api.md"])
def test_the_objects_of_the_python_reference_exist(name: str) -> None:
    objects = re.findall(r"^::: (.+)\.(\w+)$", page(name), re.M)
    assert objects
    for module, attribute in objects:
        assert hasattr(importlib.import_module(module), attribute)


def test_links_are_rewritten_for_the_site() -> None:
    text = """\
[CONTRIBUTING.md](../../CONTRIBUTING.md#tests-and-checks), [the library](library.md), [x](#y),
[settings.md](../reference/settings.md#client), [a script](../../examples/first_steps.py),
[`schema.py`](../../beray/schema.py), [web](https://example.org/a.md), `[a](../../README.md)`
```md
[b](../../README.md)
```
"""
    assert (
        repository.rewrite_links(text, "guides/agents.md")
        == """\
[Contributing](../project/contributing.md#tests-and-checks), [the library](library.md), [x](#y),
[Settings](../reference/settings.md#client), [a script](../project/examples/first_steps.md),
`schema.py` (`beray/schema.py`), [web](https://example.org/a.md), `[a](../../README.md)`
```md
[b](../../README.md)
```
"""
    )
    moved = repository.rewrite_links("[x](docs/guides/agents.md)", "project/architecture.md")
    assert moved == "[x](../guides/agents.md)"
