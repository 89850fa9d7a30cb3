"""Options of ``run`` that become arguments of a task, and their lines in ``show``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Final, cast

from beray.cli import output
from beray.cli.positions import parse_origin
from beray.exceptions import ConfigurationError
from beray.schema import Limits, Task, TaskOptions, Usage

_SERVER_NAME: Final = re.compile(r"[\w-]+")
_LIMIT_TYPES: Final = {"tokens": int, "requests": int, "cost_usd": float, "seconds": float}


class TaskArguments(TaskOptions, total=False):
    """Arguments of ``create_task``. Options that the user did not pass are absent."""

    tools: list[dict[str, Any]]


def task_arguments(
    *,
    runner: str | None,
    model: str | None,
    limits: Sequence[str] | None,
    network: bool,
    gateway: bool,
    tools: Sequence[str] | None,
    tags: Sequence[str] | None,
    origin: str | None = None,
) -> TaskArguments:
    """Return the arguments of ``create_task`` for the options of the command.

    Raises:
        ConfigurationError: A limit is not ``NAME=NUMBER``, a tool is not an MCP server, or the
            origin is not ``ID`` or ``ID@POS``.
    """
    result = TaskArguments()
    if runner is not None:
        result["runner"] = runner
    if model is not None:
        result["model"] = model
    switches = [name for name, is_on in (("network", network), ("gateway", gateway)) if is_on]
    if limits or switches:
        result["limits"] = _parse_limits(limits or (), switches)
    if tools:
        result["tools"] = [_parse_tool(text) for text in tools]
    if tags:
        result["tags"] = list(tags)
    if origin is not None:
        result["from_task"] = parse_origin(origin)
    return result


def _parse_limits(texts: Sequence[str], switches: Sequence[str]) -> Limits:
    result: dict[str, Any] = dict.fromkeys(switches, True)
    for text in texts:
        name, _, value = text.partition("=")
        if name not in _LIMIT_TYPES:
            known = ", ".join(_LIMIT_TYPES)
            raise ConfigurationError(
                f"--limit {text}: {name!r} is not a limit; use one of {known}, "
                "such as tokens=100000"
            )
        try:
            result[name] = _LIMIT_TYPES[name](value)
            if not math.isfinite(result[name]):
                raise ValueError
        except ValueError:
            kind = "a whole number" if _LIMIT_TYPES[name] is int else "a number"
            raise ConfigurationError(f"--limit {name} expects {kind}, got {value!r}") from None
    return cast(Limits, result)


def _parse_tool(text: str) -> dict[str, Any]:
    """Return the MCP server that ``--tool`` names.

    Valid are ``NAME=URL``, ``NAME=JSON``, and ``NAME=SERVER`` or ``SERVER`` for a server that
    the operator has defined.
    """
    name, _, server = text.partition("=")
    if _SERVER_NAME.fullmatch(text):
        server = text
    if not name or not server:
        raise ConfigurationError(
            f"--tool {text}: expected NAME=URL, such as docs=https://…, or the name of an MCP "
            "server that the server's operator has defined"
        )
    if _SERVER_NAME.fullmatch(server):
        return {name: {"server": server}}
    if not server.startswith("{"):
        return {name: {"url": server}}
    try:
        return {name: json.loads(server)}
    except ValueError as error:
        raise ConfigurationError(f"--tool {name}: the value is not valid JSON: {error}") from None


def note_ignored_options(arguments: TaskArguments, task: Task) -> None:
    """Report the options that the server has ignored because it does not support them."""
    keys = {name: "from" if name == "from_task" else name for name in arguments}
    ignored = [key for name, key in keys.items() if name != "tools" and key not in task]
    if ignored:
        output.note(f"-- this server does not support and ignored: {', '.join(ignored)}")


def task_facts(task: Task) -> dict[str, str | None]:
    """Return the runner, model, tags, limits and usage of a task as text, by name."""
    limits = task.get("limits") or {}
    usage = task.get("usage")
    return {
        "runner": task.get("runner"),
        "model": task.get("model"),
        "tags": ", ".join(task.get("tags") or ()),
        "limits": ", ".join(f"{name} {_value_text(value)}" for name, value in limits.items()),
        "used": usage and _usage_text(usage),
    }


def _usage_text(usage: Usage) -> str:
    tokens = f"{usage['input_tokens']:,} input and {usage['output_tokens']:,} output tokens"
    if cached := usage.get("cache_read_tokens"):
        tokens += f" ({cached:,} of them from the cache)"
    about = "about " if usage.get("estimated") else ""
    plural = "" if usage["requests"] == 1 else "s"
    cost = usage.get("cost_usd")
    price = f", ${cost:.4f}" if cost is not None else ""
    return f"{about}{tokens} in {usage['requests']:,} request{plural}{price}"


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
